# shellcheck shell=bash
# Sourced by the scripts of contrib/make: what this machine has, and how it gets what it lacks.
# Installs through apt as the host has it configured; names no host of any network.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

target_folder() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }

# Administrators' programs are not on every PATH.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# need WHAT=PACKAGE...: WHAT is a program, or a file when it starts with `/`. Installs the packages of what is missing.
need() {
    local pair what package
    local -a packages=()
    for pair in "$@"; do
        what=${pair%%=*} package=${pair#*=}
        case $what in
            /*) [[ -e $what ]] || packages+=("$package") ;;
            *) command -v "$what" >/dev/null || packages+=("$package") ;;
        esac
    done
    ((${#packages[@]} == 0)) || install_packages "${packages[@]}"
}

install_packages() {
    command -v apt-get >/dev/null || die "this needs the programs of the Debian packages: $*"
    [[ $(id -u) == 0 ]] || die "missing packages; as root: apt-get install --no-install-recommends $*"
    say "installing: $*"
    local -a apt=(apt-get -q -y -o DPkg::Lock::Timeout=600)
    if [[ -z ${APT_IS_FRESH:-} ]]; then
        "${apt[@]}" update >&2
        export APT_IS_FRESH=yes
    fi
    # What somebody installed stays: a conflict is told, not solved by removing.
    DEBIAN_FRONTEND=noninteractive "${apt[@]}" install --no-install-recommends --no-remove "$@" >&2 ||
        die "apt could not install: $* (see above)"
}

# at_least WANTED HAVE: whether version HAVE is WANTED or newer.
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1) == "$1" ]]; }

rust_version() { "$1" --version 2>/dev/null | awk '{ print $2 }'; }

# Puts a cargo and rustc of at least Cargo.toml's rust-version on PATH: the first found, else Debian's -web packages
# (plain `cargo` of Debian 12 is older than that).
need_rust() {
    need cc=gcc /usr/include/stdlib.h=libc6-dev pkg-config=pkg-config /usr/include/openssl/ssl.h=libssl-dev \
        /usr/include/seccomp.h=libseccomp-dev
    local wanted folder
    wanted=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
    [[ -n $wanted ]] || die "Cargo.toml states no rust-version"
    for folder in "" "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" /usr/bin; do
        if rust_in "$folder" "$wanted"; then return; fi
    done
    install_packages rustc-web cargo-web
    rust_in /usr/bin "$wanted" || die "no cargo of at least $wanted: install one with rustup, or Debian's rustc-web and cargo-web"
}

rust_in() {
    local folder=$1 wanted=$2 prefix=${1:+$1/} cargo rustc
    cargo=$(rust_version "${prefix}cargo") && rustc=$(rust_version "${prefix}rustc") || return 1
    [[ -n $cargo && -n $rustc ]] && at_least "$wanted" "$cargo" && at_least "$wanted" "$rustc" || return 1
    [[ -z $folder ]] || export PATH="$folder:$PATH"
}
