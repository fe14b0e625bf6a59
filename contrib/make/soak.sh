#!/usr/bin/env bash
# What takes long: a daemon under load whose sources are edited and broken, fuzzing with new random seeds, a kill storm.
# SOAK_MINUTES (30) is shared among them; SOAK_ONLY=pillars gives them all to the first.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need skopeo=skopeo setfacl=acl python3=python3
contrib/make/build.sh
minutes=${SOAK_MINUTES:-30}
third=$(awk "BEGIN { print $minutes / 3 }")
binary=$(target_folder)/release/castoff
mkdir -p "$(target_folder)/soak"
if [[ ${SOAK_ONLY:-} == pillars ]]; then
    exec python3 contrib/soak/serving.py "$binary" "$(target_folder)/soak" "$minutes"
fi
python3 contrib/soak/serving.py "$binary" "$(target_folder)/soak" "$third"
targets=$(find contrib/fuzz/targets -name '*.rs' | wc -l)
FUZZ_SECONDS=$((minutes * 20 / targets)) contrib/make/fuzz.sh
python3 contrib/soak/kill_storm.py "$binary" "$(target_folder)/soak/storm" "$third"
