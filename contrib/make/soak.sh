#!/usr/bin/env bash
# What takes long: a daemon under load whose sources are edited and broken, fuzzing with new random seeds, a kill storm over
# images, 200 killed builds. SOAK_MINUTES (30) is shared among the first three; SOAK_ONLY=pillars gives them all to the
# first, SOAK_ONLY=builds runs the builds alone.
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
builds() {
    [[ $(id -u) == 0 ]] || die "the storm over builds looks for mounts and loops that are left, which needs root"
    need busybox=busybox-static qemu-img=qemu-utils mmdebstrap=mmdebstrap
    python3 contrib/soak/build_storm.py "$binary" "$(target_folder)/soak/builds" "${SOAK_BUILDS:-190}" "${SOAK_BOOTSTRAPS:-10}"
}
if [[ ${SOAK_ONLY:-} == builds ]]; then
    builds
    exit
fi
python3 contrib/soak/serving.py "$binary" "$(target_folder)/soak" "$third"
targets=$(find contrib/fuzz/targets -name '*.rs' | wc -l)
FUZZ_SECONDS=$((minutes * 20 / targets)) contrib/make/fuzz.sh
python3 contrib/soak/kill_storm.py "$binary" "$(target_folder)/soak/storm" "$third"
builds
