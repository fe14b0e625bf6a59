#!/usr/bin/env bash
# Builds the fuzz targets with coverage instrumentation, which a stable toolchain can do, and runs each FUZZ_RUNS times
# (20000) from seeds that other programs wrote, with a fixed random seed. FUZZ_SECONDS=N runs each for N seconds instead,
# with a new random seed. What was found stays in target/fuzz/TARGET; a crash is an input file there, to be run again as
# `target/fuzz/build/release/TARGET FILE`.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need_rust
need c++=g++ tar=tar python3=python3

folder=$(target_folder)/fuzz
# What cargo-fuzz passes for `-s none`.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, flags leave build scripts and proc macros alone.
CARGO_TARGET_DIR="$folder/build" RUSTFLAGS="${coverage//$'\n'/ }" \
    cargo build --release --manifest-path contrib/fuzz/Cargo.toml --target "$host"

mapfile -t targets < <(cd contrib/fuzz/targets && printf '%s\n' *.rs | sed 's/\.rs$//')
failed=()
for target in "${targets[@]}"; do
    corpus=$folder/$target
    mkdir -p "$corpus"
    python3 contrib/fuzz/seeds.py "$target" "$corpus"
    if [[ -n ${FUZZ_SECONDS:-} ]]; then length=(-max_total_time="$FUZZ_SECONDS"); else length=(-runs="${FUZZ_RUNS:-20000}" -seed=1); fi
    log=$folder/$target.log
    if "$folder/build/$host/release/$target" "${length[@]}" -max_len=16384 -rss_limit_mb=1024 -timeout=20 \
        -artifact_prefix="$corpus.found-" -print_final_stats=1 "$corpus" >"$log" 2>&1; then
        say "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, nothing found"
    else
        failed+=("$target")
        tail -n 40 "$log" >&2
    fi
done
((${#failed[@]} == 0)) || die "found something: ${failed[*]} (logs and inputs in $folder)"
