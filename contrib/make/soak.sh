#!/usr/bin/env bash
# What takes long: fuzzing with new random seeds and a kill storm. SOAK_MINUTES (30) is shared among them.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need skopeo=skopeo setfacl=acl python3=python3
contrib/make/build.sh
cargo test --release --locked --test real -- --ignored --exact walk_limits::a_million_entries_stay_under_150_mib
minutes=${SOAK_MINUTES:-30}
targets=$(find contrib/fuzz/targets -name '*.rs' | wc -l)
FUZZ_SECONDS=$((minutes * 30 / targets)) contrib/make/fuzz.sh
python3 contrib/soak/kill_storm.py "$(target_folder)/release/castoff" "$(target_folder)/soak" "$((minutes / 2))"
