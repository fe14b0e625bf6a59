"""
castoff's images: pack, verify, inspect, copy, list, remove.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_image"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def boot(
    image, pattern=None, command=None, timeout=600, memory=1024, cpus=2, kernel=None, initrd=None, append=None, uefi=False, ssh=None, user='root', accelerator='auto'
):
    """
    Boot a disk image in a machine of its own and say whether it came up.

    The image is never written: what the guest writes goes with the machine. The serial console (ttyS0) is followed until
    `pattern` comes; then `command` runs, as root over the console, which must ask for no password, or over ssh. `result` is
    false when the command fails; an image that does not come up is an error with the last lines of its console. The machine
    reaches no network. KVM is used where guests really run by it.

        salt-call castoff_image.boot base.qcow2 command='systemctl is-system-running --wait'
        salt-call castoff_image.boot base.img kernel=vmlinuz initrd=initrd.img timeout=600

    Usage: castoff_image.boot image [pattern=None] [command=None] [timeout=600] [memory=1024] [cpus=2] [kernel=None] [initrd=None] [append=None] [uefi=False] [ssh=None] [user='root'] [accelerator='auto']

    Arguments:
        image (path)
            The image file, raw or qcow2.
        pattern (text, default None)
            What the console shows once it is up, a regular expression; null: a login prompt
        command (text, default None)
            A shell command to run then; null: none
        timeout (whole number, default 600)
            Seconds that all of it may take
        memory (whole number, default 1024)
            The machine's memory in MiB
        cpus (whole number, default 2)
            The machine's processors
        kernel (path, default None)
            A kernel to start directly; null: the disk's own boot loader is tried
        initrd (path, default None)
            The initial RAM disk of that kernel
        append (text, default None)
            What that kernel is told; null: `root=/dev/vda rw console=ttyS0`
        uefi (boolean, default False)
            Boot by UEFI, not by BIOS
        ssh (path, default None)
            A private key: the command goes over ssh with it; the host key of the throw-away machine is not looked at
        user (text, default 'root')
            Who logs in over ssh
        accelerator (text, default 'auto')
            `kvm`, `tcg` (emulated), or `auto`: KVM where it works

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.boot", boot, locals())


def copy(source, destination, compression=None, tmpdir=None, keep_old=True, platform=None, test=False):
    """
    Copy an image as it is: same layers, same configuration, same image ID.

    A root filesystem (dir:, tar:) becomes an image of one layer; an image copied to dir: or tar: becomes its merged tree.

        salt-call castoff_image.copy docker-daemon:group/name:1 oci:layout:1

    Usage: castoff_image.copy source destination [compression=None] [tmpdir=None] [keep_old=True] [platform=None] [test=False]

    Arguments:
        source (image reference)
            What to copy
        destination (image reference)
            Where to
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        platform (text, default None)
            Platform as `linux/arm64`, where a registry has several; null: this host's
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.copy", copy, locals())


def gc(max_size=None, keep=None, test=False):
    """
    Remove untagged images, blobs nobody names and leftovers of killed runs from the embedded store.

    Honours store.keep (untagged images kept, newest first) and store.max_size (bytes). Results of build steps that nobody used for build.keep_days go too, and the oldest of them while they take more than build.max_size.

    Usage: castoff_image.gc [max_size=None] [keep=None] [test=False]

    Arguments:
        max_size (text, default None)
            Instead of store.max_size, for example 20GiB
        keep (whole number, default None)
            Instead of store.keep
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.gc", gc, locals())


def inspect(image, entries=False, tmpdir=None, platform=None):
    """
    Show an image: configuration, layers, names, and what its merged tree holds.

        salt-call castoff_image.inspect store:group/name:1

    Usage: castoff_image.inspect image [entries=False] [tmpdir=None] [platform=None]

    Arguments:
        image (image reference)
            Image or tree to look at
        entries (boolean, default False)
            List every entry of the merged tree as well
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        platform (text, default None)
            Platform as `linux/arm64`, where a registry has several; null: this host's

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.inspect", inspect, locals())


def list_(engine=None):
    """
    List the images of the embedded store, untagged ones among them, and those of the Docker engine if it answers.

    Usage: castoff_image.list [engine=None]

    Arguments:
        engine (text, default None)
            store or docker-daemon; null: both
    """
    return _call("image.list", list_, locals())


def pack(
    source, destination=None, acls=None, layers=1, keep_base=None, changes=None, compression=None, tmpdir=None, keep_old=True, idmap=None, live=False, test=False
):
    """
    Merge an image, or a root filesystem, into one layer with every ACL intact.

    The tree a container would see is kept exactly: owners, modes, times, hard links, devices, xattrs, capabilities and
    POSIX ACLs; the image configuration survives byte for byte except its layers and history. Nothing is unpacked, no
    container is started, no root is needed. The destination's name moves only when the new image is whole.

        salt-call castoff_image.pack docker-archive:in.tar docker-archive:out.tar
        salt-call castoff_image.pack dir:/srv/rootfs store:group/name:1 changes='CMD ["/sbin/init"]'

    Usage: castoff_image.pack source [destination=None] [acls=None] [layers=1] [keep_base=None] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [idmap=None] [live=False] [test=False]

    Arguments:
        source (image reference)
            Image or root filesystem to pack
        destination (image reference, default None)
            Where the result goes; null: the source's own name
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        keep_base (image reference, default None)
            Image whose layers stay as they are: only what lies above them is packed
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        idmap (text, default None)
            How a dir: tree is shifted, as `u:0:100000:65536,g:0:100000:65536` (container id, host id, count)
        live (boolean, default False)
            Read the root filesystem of a running container all the same; the report says so
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.pack", pack, locals())


def remove(image, test=False):
    """
    Take a name away from an image of the store or the engine; the store keeps the untagged image until image.gc.

    Usage: castoff_image.remove image [test=False]

    Arguments:
        image (image reference)
            Image, by name or by ID (an ID removes the image with all its names)
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("image.remove", remove, locals())


def verify(left, right, tmpdir=None, idmap=None):
    """
    Compare two images or trees entry by entry, ACLs included, and say each difference.

    Types, contents, modes, owners, times (nanoseconds), link groups, device numbers, xattrs, capabilities, access and
    default ACLs. The result is False when anything differs.

        salt-call castoff_image.verify dir:/srv/rootfs store:group/name:1

    Usage: castoff_image.verify left right [tmpdir=None] [idmap=None]

    Arguments:
        left (image reference)
            One image or tree
        right (image reference)
            The other
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        idmap (text, default None)
            How a dir: tree is shifted, as `u:0:100000:65536,g:0:100000:65536` (container id, host id, count)

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("image.verify", verify, locals())
