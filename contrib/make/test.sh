#!/usr/bin/env bash
# Every test, with real parts: installs what is missing, starts a Docker Engine of its own, stops it at the end.
# Arguments go to the test runner (`contrib/make/test.sh demo` runs the tests with `demo` in their names).
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
# shellcheck source=contrib/make/engine.sh
source contrib/make/engine.sh

[[ $(id -u) == 0 ]] || die "the tests with real parts need root; without root: cargo test --release --test hermetic"
need_rust
need skopeo=skopeo umoci=umoci docker-registry=docker-registry htpasswd=apache2-utils podman=podman ctr=containerd docker=docker.io dockerd=docker.io \
    setfacl=acl setfattr=attr setcap=libcap2-bin bsdtar=libarchive-tools mmdebstrap=mmdebstrap tar=tar xz=xz-utils \
    git=git sshd=openssh-server ssh=openssh-client ssh-keygen=openssh-client minisign=minisign apache2=apache2-bin openssl=openssl \
    zstd=zstd gzip=gzip file=file python3=python3 fakeroot=fakeroot busybox=busybox-static dpkg-deb=dpkg jq=jq unshare=util-linux mkfs.ext4=e2fsprogs mkfs.xfs=xfsprogs \
    rsync=rsync ip=iproute2 curl=curl setpriv=util-linux systemd-analyze=systemd groupadd=passwd useradd=passwd newuidmap=uidmap pgrep=procps \
    qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils sfdisk=fdisk grub-mkimage=grub-common mcopy=mtools mkfs.fat=dosfstools mksquashfs=squashfs-tools \
    /usr/lib/grub/i386-pc/boot.img=grub-pc-bin /usr/lib/grub/x86_64-efi/normal.mod=grub-efi-amd64-bin /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf
source contrib/make/venv.sh
export CASTOFF_TEST_VENV
CASTOFF_TEST_VENV=$(python_environment tests/real/requirements.txt)

# Built first, so that the engine does not wait for the compiler.
cargo test --release --locked --no-run
start_engine
export CASTOFF_TEST_DOCKER_HOST=$ENGINE_HOST
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --release --locked --no-fail-fast "$@"
else
    cargo test --release --locked --no-fail-fast -- "$@"
fi
