#!/usr/bin/env bash
# Formatting, clippy and shellcheck. rustfmt and clippy come with a Rust toolchain or not at all: where the toolchain
# has none (Debian's -web packages), that is said; on CI it is an error.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need_rust
need shellcheck=shellcheck

missing() {
    [[ -z ${CI:-} ]] || die "this toolchain has no $1"
    say "skipped: this toolchain has no $1"
}
if cargo fmt --version >/dev/null 2>&1; then cargo fmt --check; else missing rustfmt; fi
if cargo clippy --version >/dev/null 2>&1; then
    cargo clippy --release --locked --all-targets -- -D warnings
else
    missing clippy
fi
shellcheck -x contrib/make/*.sh contrib/debian/{postinst,prerm,postrm} .ci/run
