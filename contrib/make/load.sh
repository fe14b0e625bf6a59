# shellcheck shell=bash
# Sourced after machine.sh: the load generator of the benchmark.

OHA_VERSION=1.16.0

# load_generator: prints the path of oha, built below the target folder when it is not there yet (some minutes).
load_generator() {
    local folder
    folder=$(target_folder)/tools/oha-$OHA_VERSION
    if [[ ! -x $folder/bin/oha ]]; then
        say "building oha $OHA_VERSION"
        # Its link-time optimisation takes long and tells nothing about castoff.
        CARGO_TARGET_DIR="$folder/build" CARGO_PROFILE_RELEASE_LTO=off \
            cargo install --quiet --locked --version "$OHA_VERSION" --root "$folder" oha >&2
        rm -rf "$folder/build"
    fi
    printf '%s' "$folder/bin/oha"
}
