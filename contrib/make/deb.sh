#!/usr/bin/env bash
# A Debian package in target/debian: binary, configuration file, units, groups, completions, links for the program names
# of the tools castoff stands in for. The same input gives the same bytes. CASTOFF_BIN names a built castoff.
# shellcheck source=contrib/make/machine.sh
source "$(dirname "$0")/machine.sh"
need dpkg-deb=dpkg objdump=binutils strip=binutils gzip=gzip
if [[ -z ${CASTOFF_BIN:-} ]]; then
    contrib/make/build.sh
    CASTOFF_BIN=$(target_folder)/release/castoff
fi
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n1)
architecture=$(dpkg --print-architecture)
out=$(target_folder)/debian
tree=$out/tree
umask 022
rm -rf "$tree"
mkdir -p "$tree"/{DEBIAN,usr/bin,usr/lib/castoff/bin,etc/castoff/castoff.d,lib/systemd/system,usr/share/doc/castoff} \
    "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}

install -m 0755 "$CASTOFF_BIN" "$tree/usr/bin/castoff"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$tree/usr/bin/castoff"
# Not in /usr/bin: other packages own these names there. Who wants castoff under them puts this folder on PATH.
for name in disk-image-create lvh simplestreams-builder; do
    ln -s ../../../bin/castoff "$tree/usr/lib/castoff/bin/$name"
done
"$CASTOFF_BIN" completion bash >"$tree/usr/share/bash-completion/completions/castoff"
"$CASTOFF_BIN" completion zsh >"$tree/usr/share/zsh/vendor-completions/_castoff"
"$CASTOFF_BIN" completion fish >"$tree/usr/share/fish/vendor_completions.d/castoff.fish"
install -m 0644 contrib/debian/castoff.yaml "$tree/etc/castoff/castoff.yaml"
install -m 0644 contrib/systemd/*.service contrib/systemd/*.socket contrib/systemd/*.timer "$tree/lib/systemd/system/"
install -m 0644 contrib/debian/copyright "$tree/usr/share/doc/castoff/copyright"
install -m 0644 contrib/prometheus/castoff.rules.yml "$tree/usr/share/doc/castoff/castoff.rules.yml"
gzip -9n <README.md >"$tree/usr/share/doc/castoff/README.md.gz"
printf 'castoff (%s) stable; urgency=medium\n\n  * See the changelog in README.md.gz.\n\n -- castoff developers <castoff@localhost>  %s\n' \
    "$version" "$(date -u -d "@$SOURCE_DATE_EPOCH" '+%a, %d %b %Y %H:%M:%S +0000')" |
    gzip -9n >"$tree/usr/share/doc/castoff/changelog.gz"

glibc=$(objdump -T "$CASTOFF_BIN" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n1)
size=$(du -k -s --apparent-size "$tree" | cut -f1)
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@GLIBC@/${glibc#GLIBC_}/; s/@SIZE@/$size/" \
    contrib/debian/control >"$tree/DEBIAN/control"
printf '/etc/castoff/castoff.yaml\n' >"$tree/DEBIAN/conffiles"
install -m 0755 contrib/debian/{postinst,prerm,postrm} "$tree/DEBIAN/"
(cd "$tree" && find . -type f -not -path './DEBIAN/*' -printf '%P\0' | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
chmod 0644 "$tree"/DEBIAN/{md5sums,control,conffiles}

package=$out/castoff_${version}_${architecture}.deb
dpkg-deb --root-owner-group -Zxz --build "$tree" "$package" >&2
rm -rf "$tree"
printf '%s\n' "$package"
