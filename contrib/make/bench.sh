#!/usr/bin/env bash
# Measures castoff against what people use today, in one run: see contrib/bench/bench.py. The image is made once and
# kept in target/bench, about 4 GB with everything.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
# shellcheck source=contrib/make/engine.sh
source contrib/make/engine.sh
# shellcheck source=contrib/make/rootfs.sh
source contrib/make/rootfs.sh
# shellcheck source=contrib/make/venv.sh
source contrib/make/venv.sh

[[ $(id -u) == 0 ]] || die "the benchmark runs a Docker Engine of its own, which needs root"
contrib/make/build.sh
need tar=tar setfacl=acl setcap=libcap2-bin docker=docker.io python3=python3
folder=$(target_folder)/bench
mkdir -p "$folder"
if [[ ! -e $folder/rootfs.complete ]]; then
    rm -rf --one-file-system "$folder/rootfs"
    debian_rootfs "$folder/rootfs" acl,attr,libcap2-bin
    touch "$folder/rootfs.complete"
fi
BENCH_VENV=$(python_environment tests/real/requirements.txt)
export BENCH_VENV
start_engine
python3 contrib/bench/bench.py "$(target_folder)/release/castoff" "$folder/rootfs" "$folder"
