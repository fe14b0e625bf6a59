# What a host is told over ssh: VERB LXC_PATH IMAGE [NAME KEEP]. The sender has made sure that no argument is anything but
# letters, digits and `. _ - /`. Needs a POSIX shell and coreutils.
#
#   LXC_PATH/IMAGE -> .castoff-push/IMAGE/NAME      moved by rename: a whole tree at every moment
#   LXC_PATH/.castoff-push/IMAGE/
#     NAME/            VERSION-DIGEST: a whole tree; `0-original*` is what was there before castoff
#     new/             half a tree, gone on with by the next run of this boot
#     order            the names in the order they became current
#     boot             the boot that `new` is of: after a crash its files may be other than they say
#     moving, before   a swap under way
set -eu
LC_ALL=C
export LC_ALL
umask 022
verb=$1 lxc=$2 image=$3
place=$lxc/$image
store=$lxc/.castoff-push/$image

fail() {
    echo "castoff: $1" >&2
    exit 3
}

# Something that had the name before castoff: kept as an earlier tree.
settle() {
    number=
    while [ -e "$store/0-original$number" ]; do number=$((${number:-0} + 1)); done
    mv -T "$1" "$store/0-original$number"
    echo "0-original$number" >>"$store/order"
}

# Finishes or undoes a swap that was cut off.
recover() {
    if [ -d "$store/before" ]; then
        if [ -e "$place" ] || [ -L "$place" ]; then settle "$store/before"; else mv -T "$store/before" "$place"; fi
    fi
    if [ -L "$store/moving" ]; then rm -f "$store/moving"; fi
    if [ -d "$store/moving" ]; then settle "$store/moving"; fi
}

# Two names change places in one step, where this host has a program that can: mv of coreutils 9.5, or perl.
exchange() {
    if mv --help | grep -q -e --exchange; then
        mv -T --exchange "$1" "$2"
        return
    fi
    case $(uname -m) in
    x86_64) number=316 ;;
    aarch64 | riscv64) number=276 ;;
    *) return 1 ;;
    esac
    perl -e 'exit(syscall($ARGV[0] + 0, -100, $ARGV[1], -100, $ARGV[2], 2) == 0 ? 0 : 1)' "$number" "$1" "$2" 2>/dev/null
}

look() {
    if [ -L "$place" ]; then
        echo "link $(readlink "$place")"
    elif [ -d "$place" ]; then
        echo "folder"
        if [ -f "$place/rootfs/.ms_version" ]; then
            echo "marked $(head -c 20 "$place/rootfs/.ms_version" | tr -cd 0-9)"
        fi
    elif [ -e "$place" ]; then
        echo "other"
    fi
    for tree in "$store"/*-*; do
        if [ -d "$tree" ]; then echo "kept ${tree##*/}"; fi
    done
    if grep -q -F -e "@$place/command" /proc/net/unix; then echo "running"; fi
    if ! command -v rsync >/dev/null; then echo "lacks"; fi
    echo "end"
}

begin() {
    mkdir -p -m 0711 "$lxc/.castoff-push"
    mkdir -p "$store"
    recover
    boot=$(cat /proc/sys/kernel/random/boot_id)
    if [ -d "$store/new" ] && [ "$(cat "$store/boot" 2>/dev/null)" != "$boot" ]; then rm -rf "$store/new"; fi
    echo "$boot" >"$store/boot"
    look
}

commit() {
    name=$1 keep=$2
    recover
    if [ -d "$store/$name" ]; then
        rm -rf "$store/new"
    else
        sync -f "$store/new" || sync
        mv -T "$store/new" "$store/$name"
    fi
    ln -s ".castoff-push/$image/$name" "$store/moving"
    if [ -L "$place" ] || [ ! -e "$place" ]; then
        mv -T "$store/moving" "$place"
    elif ! exchange "$store/moving" "$place"; then
        mv -T "$place" "$store/before"
        mv -T "$store/moving" "$place"
    fi
    sync -f "$lxc" || sync
    recover
    touch "$store/order"
    { grep -v -x -F -e "$name" "$store/order" || [ $? = 1 ]; echo "$name"; } >"$store/order.new"
    tail -n $((keep + 1)) "$store/order.new" >"$store/order.newer"
    mv -T "$store/order.newer" "$store/order"
    rm -f "$store/order.new"
    for tree in "$store"/*-*; do
        if [ -d "$tree" ] && ! grep -q -x -F -e "${tree##*/}" "$store/order"; then rm -rf "$tree"; fi
    done
    echo "end"
}

[ -d "$lxc" ] || fail "there is no folder $lxc"
case $verb in
look) look ;;
begin) begin ;;
commit) commit "$4" "$5" ;;
*) fail "unknown verb" ;;
esac
