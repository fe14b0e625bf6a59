#!/usr/bin/env bash
# The main job on real input: a Debian root filesystem with ACLs becomes an image, is packed, verified, and run where
# a Docker Engine answers. CASTOFF_STATE_DIR says where the image store is (.demo/state in the checkout by default);
# CASTOFF_BIN names a built castoff.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
# shellcheck source=contrib/make/rootfs.sh
source contrib/make/rootfs.sh

[[ $(id -u) == 0 ]] || die "the demo makes a root filesystem with owners, devices and ACLs, which needs root: sudo make demo"
need mmdebstrap=mmdebstrap setfacl=acl setfattr=attr setcap=libcap2-bin
if [[ -n ${CASTOFF_STATE_DIR:-} ]]; then
    [[ $CASTOFF_STATE_DIR == /* ]] || CASTOFF_STATE_DIR=$PWD/$CASTOFF_STATE_DIR
    work=$CASTOFF_STATE_DIR/demo
else
    CASTOFF_STATE_DIR=$PWD/.demo/state
    work=$PWD/.demo
fi
export CASTOFF_STATE_DIR CASTOFF_ENGINE=store
if [[ -z ${CASTOFF_BIN:-} ]]; then
    contrib/make/build.sh
    CASTOFF_BIN=$(target_folder)/release/castoff
fi
rootfs=$work/rootfs

step() { printf '\n==> %s\n' "$*"; }
castoff() {
    printf '$ castoff %s\n' "${*@Q}" | sed "s/'\([A-Za-z0-9_.:/=-]*\)'/\1/g"
    "$CASTOFF_BIN" "$@"
}

# getfacl walks in the order of the file system; its paragraphs are compared in the order of their paths.
by_path() { awk -v RS= -v ORS='\0' '{ print $0 "\n" }' | LC_ALL=C sort -z | tr '\0' '\n'; }

step "A Debian root filesystem, bootstrapped from this host's own apt sources"
if [[ -e $work/rootfs.complete ]]; then
    say "$rootfs is there from an earlier run (remove $work for a new one)"
else
    rm -rf --one-file-system "$rootfs"
    mkdir -p "$work"
    debian_rootfs "$rootfs" acl,attr,libcap2-bin
    touch "$work/rootfs.complete"
fi
step "Access, default and nested default ACLs, capabilities, setuid, hard links, odd names in $rootfs/srv/demo"
decorate_rootfs "$rootfs"
(cd "$rootfs" && getfacl -n srv/demo/report srv/demo/team)

step "The root filesystem becomes an image of castoff's own store; no Docker Engine is needed"
castoff call mc_cloud_images.build_docker_from_rootfs castoff/demo "$rootfs" force=True "changes=['CMD [\"bash\"]']"

step "Packed: one layer, every ACL, and how it was done"
castoff call image.pack store:castoff/demo store:castoff/demo:packed

step "Verified: entry by entry against the source tree"
castoff call image.verify "dir:$rootfs" store:castoff/demo:packed

if command -v docker >/dev/null && docker version --format '{{.Server.Version}}' >/dev/null 2>&1; then
    step "A Docker Engine answers: the image is loaded and shows its ACLs from inside a container"
    castoff call image.copy store:castoff/demo:packed docker-daemon:castoff/demo:packed
    docker run --rm --network=none castoff/demo:packed getfacl -R -n -p /srv/demo | by_path >"$work/inside"
    (cd "$rootfs" && getfacl -R -n srv/demo) | sed 's|^# file: |# file: /|' | by_path >"$work/outside"
    head -n 20 "$work/inside"
    if cmp -s "$work/inside" "$work/outside"; then
        printf '… %s lines: equal to the source tree, line for line\n' "$(wc -l <"$work/inside")"
    else
        diff "$work/outside" "$work/inside" >&2 || true # shown, then judged
        die "getfacl inside the container differs from the source tree"
    fi
else
    step "No Docker Engine answers here: \`castoff call image.copy store:castoff/demo:packed docker-daemon:castoff/demo\` would load it"
fi

cat <<END

==> Done. Try next:
export CASTOFF_STATE_DIR=$CASTOFF_STATE_DIR CASTOFF_ENGINE=store
alias castoff=$CASTOFF_BIN
castoff call image.list
castoff call image.inspect store:castoff/demo:packed
castoff call image.copy store:castoff/demo:packed docker-archive:/tmp/castoff-demo.tar
castoff call image.copy store:castoff/demo:packed oci:/tmp/castoff-demo:latest
castoff doctor

The packed image: store:castoff/demo:packed
END
