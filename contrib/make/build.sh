#!/usr/bin/env bash
# Builds the binary; prints nothing but cargo's words.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need_rust
cargo build --release --locked --bin castoff
