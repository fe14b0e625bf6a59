#!/usr/bin/env bash
# Measures castoff against what people use today, in one run: pillars (contrib/bench/serving.py), images
# (contrib/bench/bench.py), builds (contrib/bench/build.py), releases (contrib/bench/release.py), uploads
# (contrib/bench/upload.py); BENCH_ONLY=pillars, images, builds, releases or uploads runs one of them.
# The image is made once and kept in target/bench, about 4 GB with everything.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
# shellcheck source=contrib/make/engine.sh
source contrib/make/engine.sh
# shellcheck source=contrib/make/rootfs.sh
source contrib/make/rootfs.sh
# shellcheck source=contrib/make/venv.sh
source contrib/make/venv.sh
# shellcheck source=contrib/make/load.sh
source contrib/make/load.sh

folder=$(target_folder)/bench
mkdir -p "$folder"
contrib/make/build.sh
need python3=python3 /usr/bin/time=time
BENCH_VENV=$(python_environment tests/real/requirements.txt)
export BENCH_VENV

if [[ ${BENCH_ONLY:-pillars} == pillars ]]; then
    need_rust
    need curl=curl
    BENCH_OHA=$(load_generator)
    export BENCH_OHA
    python3 contrib/bench/serving.py "$(target_folder)/release/castoff" "$folder"
fi

root_filesystem() {
    if [[ ! -e $folder/rootfs.complete ]]; then
        rm -rf --one-file-system "$folder/rootfs"
        debian_rootfs "$folder/rootfs" acl,attr,libcap2-bin
        touch "$folder/rootfs.complete"
    fi
}

if [[ ${BENCH_ONLY:-images} == images ]]; then
    [[ $(id -u) == 0 ]] || die "the benchmark of images runs a Docker Engine of its own, which needs root"
    need tar=tar setfacl=acl setcap=libcap2-bin docker=docker.io
    root_filesystem
    start_engine
    python3 contrib/bench/bench.py "$(target_folder)/release/castoff" "$folder/rootfs" "$folder"
fi

if [[ ${BENCH_ONLY:-builds} == builds ]]; then
    [[ $(id -u) == 0 ]] || die "the benchmark of builds runs mmdebstrap as root beside castoff"
    need mmdebstrap=mmdebstrap mke2fs=e2fsprogs qemu-img=qemu-utils
    python3 contrib/bench/build.py "$(target_folder)/release/castoff" "$folder/builds"
fi

if [[ ${BENCH_ONLY:-releases} == releases ]]; then
    [[ $(id -u) == 0 ]] || die "the benchmark of releases reads a root filesystem, which needs root"
    need tar=tar xz=xz-utils rsync=rsync casync=casync git=git ssh-keygen=openssh-client dpkg-deb=dpkg
    root_filesystem
    python3 contrib/bench/release.py "$(target_folder)/release/castoff" "$folder/rootfs" "$folder/releases"
fi

if [[ ${BENCH_ONLY:-uploads} == uploads ]]; then
    need_rust
    # Where nothing is written to a disk.
    need sshd=openssh-server sftp=openssh-client rsync=rsync ip=iproute2 unshare=util-linux
    cargo build --release --locked --example upload
    python3 contrib/bench/upload.py "$(target_folder)/release/examples/upload" "/dev/shm/castoff-bench-upload-$$"
fi
