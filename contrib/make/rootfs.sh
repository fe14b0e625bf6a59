# shellcheck shell=bash
# Sourced after machine.sh: a real Debian root filesystem, from the host's own apt configuration.

# debian_rootfs FOLDER PACKAGE,PACKAGE: bootstraps this host's release there. Sources, keyrings, proxies and logins
# are those that apt uses on this host; none is written here, and logins do not stay in the tree.
debian_rootfs() {
    local folder=$1 packages=$2 codename source
    local -a sources=() options=()
    need mmdebstrap=mmdebstrap
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    [[ -n $codename ]] || die "this host does not tell its release (VERSION_CODENAME in /etc/os-release)"
    for source in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        if [[ -s $source ]]; then sources+=("$source"); fi
    done
    ((${#sources[@]} > 0)) || die "apt has no sources on this host"
    # mmdebstrap gives its own apt the new tree's configuration: what the host needs to reach its sources goes along.
    options+=("--aptopt=Dir::Etc::netrc \"/etc/apt/auth.conf\"" "--aptopt=Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\"")
    local setting
    while read -r setting; do options+=("--aptopt=$setting"); done < <(
        apt-config dump --format '%F "%v";%n' Acquire | grep -iE '^Acquire::(https?::(proxy|verify|ca)|retries)' || true
    )
    # shellcheck disable=SC2016 # mmdebstrap gives $1 to the hook
    mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" "${options[@]}" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"' \
        "$codename" "$folder" "${sources[@]}" >&2
}

# decorate_rootfs FOLDER: gives the tree what packaging usually loses: access, default and nested default ACLs,
# capabilities, setuid, hard links, other extended attributes, holes, odd and long names, times before 1970.
decorate_rootfs() {
    local root=$1 srv=$1/srv/demo long
    need setfacl=acl setcap=libcap2-bin setfattr=attr
    rm -rf "$srv"
    mkdir -p "$srv"/{team/inbox/deep,team/plain,links/other,names,bin}
    # Access ACLs: the group bits of the mode show the mask, not the group's right.
    printf 'quarterly numbers\n' >"$srv/report"
    chmod 0640 "$srv/report"
    setfacl -m u:1001:rw,g:2001:r,m::rw "$srv/report"
    # Default ACLs, one below another; children with and without ACLs of their own.
    setfacl -m u:1001:rwx,d:u:1001:rwx,d:g:2001:rx,d:o::- "$srv/team"
    setfacl -m d:u:1002:rx "$srv/team/inbox"
    printf 'made before the default ACL\n' >"$srv/team/old"
    setfacl -b "$srv/team/old"
    printf 'inherits\n' >"$srv/team/inbox/deep/inherits"
    setfacl -bk "$srv/team/plain"
    # Privileges.
    cp -p "$root/bin/cat" "$srv/bin/cat-any"
    setcap cap_dac_read_search+ep "$srv/bin/cat-any"
    cp "$root/bin/true" "$srv/bin/as-root"
    chmod 4755 "$srv/bin/as-root"
    chmod 2775 "$srv/names"
    # A link group across folders, an attribute of somebody's, a file of holes.
    printf 'one file, three names\n' >"$srv/links/first"
    ln "$srv/links/first" "$srv/links/second"
    ln "$srv/links/first" "$srv/links/other/third"
    setfattr -n user.origin -v 'the "harbour"' "$srv/links/first"
    truncate -s 64M "$srv/sparse"
    printf 'end' >>"$srv/sparse"
    # Names that break naive tools.
    long=$(printf 'x%.0s' {1..180})
    mkdir -p "$srv/names/$long"
    printf 'deep\n' >"$srv/names/$long/$long"
    printf 'a\n' >"$srv/names/"$'new\nline'
    printf 'b\n' >"$srv/names/"$'not-utf8-\xff\xfe'
    printf 'c\n' >"$srv/names/ spaces and = signs "
    ln -sfn /nonexistent/"$long" "$srv/names/dangling"
    touch -d '1960-02-03 04:05:06.789 UTC' "$srv/names/old"
    chown -R 3000000:4000000 "$srv/names/$long"
}
