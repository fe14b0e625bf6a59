"""
Image settings and images, under the names of makina-states, by castoff.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "mc_cloud_images"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def apply_acls_to_docker(
    image, destination_image=None, file=None, layers=1, changes=None, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Put ACLs back that an image lost, from its own /acls.txt or from a file of this host.

    Repairs images that the original procedure damaged: names are resolved through the image's own passwd and group, the
    group bits that had become the mask are corrected by the ACL, nothing is run.

        salt-call mc_cloud_images.apply_acls_to_docker group/name:1

    Usage: mc_cloud_images.apply_acls_to_docker image [destination_image=None] [file=None] [layers=1] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Image to work on
        destination_image (image reference, default None)
            Where the result goes; null: the image's own name
        file (path, default None)
            getfacl -R output; null: the image's own /acls.txt
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.apply_acls_to_docker", apply_acls_to_docker, locals())


def archive(
    container, flavor, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False, *args, **kwargs
):
    """
    Cast a container into its archive, IMAGE-FLAVOR-N.tar.xz, and return where that is.

    A snapshot is taken and made impersonal, looked through for what must not be released, and written as a tar that equal
    trees make equal: sorted, numeric owners, whole seconds no later than SOURCE_DATE_EPOCH or else the newest file, ACLs
    for container engines and for GNU tar. An archive that is there already is kept if castoff made it of the same tree, and
    never trusted otherwise. Further variables of get_vars may be given.

        salt-call mc_cloud_images.archive makina-states-trusty lxc

    Usage: mc_cloud_images.archive container flavor [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text)
            `lxc`, `standalone`, or another one of `release.flavors`
        force (boolean, default False)
            Replace a file under the archive's name that castoff does not know
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.archive", archive, locals())


def archive_lxc(
    container, flavor=None, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False, *args, **kwargs
):
    """
    Cast a container into its archive of the flavour lxc, all of its folder; see archive.

        salt-call mc_cloud_images.archive_lxc makina-states-trusty

    Usage: mc_cloud_images.archive_lxc container [flavor=None] [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        force (boolean, default False)
            Replace a file under the archive's name that castoff does not know
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.archive_lxc", archive_lxc, locals())


def archive_standalone(
    container, flavor=None, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False, *args, **kwargs
):
    """
    Cast a container into its archive of the flavour standalone, Salt and makina-states alone; see archive.

        salt-call mc_cloud_images.archive_standalone makina-states-trusty

    Usage: mc_cloud_images.archive_standalone container [flavor=None] [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        force (boolean, default False)
            Replace a file under the archive's name that castoff does not know
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.archive_standalone", archive_standalone, locals())


def backup_acls_from_docker(image, file=None, tmpdir=None, test=False):
    """
    Write down every ACL of an image as getfacl does, in a file of this host or in the result.

        salt-call mc_cloud_images.backup_acls_from_docker group/name:1 file=/root/acls.txt

    Usage: mc_cloud_images.backup_acls_from_docker image [file=None] [tmpdir=None] [test=False]

    Arguments:
        image (image reference)
            Image to work on
        file (path, default None)
            File to write; null: the text is in the result
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.backup_acls_from_docker", backup_acls_from_docker, locals())


def build(typs=None, images=None, script=None, mirror=None, test=False):
    """
    Make the images that makina-states knows: containers of Ubuntu releases, and Docker images of them.

    A container that is there is taken as it is. Each image is told by itself, in `returns` or in `errors`; one that fails
    keeps no other from being made. `makina-states-vivid` needs the bootstrap script.

        salt-call mc_cloud_images.build
        salt-call mc_cloud_images.build docker images=makina-states/ubuntu-bionic-raw mirror=MIRROR

    Usage: mc_cloud_images.build [typs=None] [images=None] [script=None] [mirror=None] [test=False]

    Arguments:
        typs (list, or text with commas, default None)
            `lxc`, `docker` or both; null: both
        images (list, or text with commas, default None)
            Names of images; null: all
        script (path, default None)
            Bootstrap script of this host to run in the new container, with `-C`; null: none is run
        mirror (text, default None)
            Where the packages of a suite come from; null: as this host's own apt has it
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.build", build, locals())


def build_docker_from_container(
    image, container, force=False, acls=None, refresh=None, pack=True, script=None, snapshot=True, shell=None, network=True, live=False, idmap=None, layers=1, changes=None, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Make a Docker image of an LXC container's root filesystem; see build_docker_from_rootfs.

        salt-call mc_cloud_images.build_docker_from_container group/name:1 mycontainer

    Usage: mc_cloud_images.build_docker_from_container image container [force=False] [acls=None] [refresh=None] [pack=True] [script=None] [snapshot=True] [shell=None] [network=True] [live=False] [idmap=None] [layers=1] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Name, or reference, of the image to make
        container (text)
            Name of the LXC container
        force (boolean, default False)
            Accepted for the callers of the original, which reused half-written tars; here nothing stale is ever reused
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        refresh (boolean, default None)
            Run the refresh script first; null: where the image carries it or script= is given, else skipped and reported
        pack (boolean, default True)
            Merge the result into one layer; a refreshed image always is
        script (path, default None)
            File of this host to run inside as the refresh script; null: the image's own makina-states procedure
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh after its own refresh, where it has one; script= does as it likes
        shell (text, default None)
            Interpreter of the refresh script; null: bash where the image has it, else sh
        network (boolean, default True)
            Whether the refresh script reaches the network
        live (boolean, default False)
            Read the root filesystem of a running container all the same; the report says so
        idmap (text, default None)
            How a dir: tree is shifted, as `u:0:100000:65536,g:0:100000:65536` (container id, host id, count)
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.build_docker_from_container", build_docker_from_container, locals())


def build_docker_from_rootfs(
    image, rootfs, force=False, acls=None, refresh=None, pack=True, script=None, snapshot=True, shell=None, network=True, live=False, idmap=None, layers=1, changes=None, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Make a Docker image of a root filesystem, with every POSIX ACL intact.

    `rootfs` is a directory, a tar, or any image reference. A directory of an LXC container is read with its idmap, and
    refused while the container runs unless live=True. The image gets the tree's architecture, and /sbin/init as its
    command if the tree has one; `changes` says otherwise.

        salt-call mc_cloud_images.build_docker_from_rootfs group/name:1 /var/lib/lxc/name/rootfs

    Usage: mc_cloud_images.build_docker_from_rootfs image rootfs [force=False] [acls=None] [refresh=None] [pack=True] [script=None] [snapshot=True] [shell=None] [network=True] [live=False] [idmap=None] [layers=1] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Name, or reference, of the image to make
        rootfs (directory, tar file or image reference)
            Root filesystem: directory, tar file or image reference
        force (boolean, default False)
            Accepted for the callers of the original, which reused half-written tars; here nothing stale is ever reused
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        refresh (boolean, default None)
            Run the refresh script first; null: where the image carries it or script= is given, else skipped and reported
        pack (boolean, default True)
            Merge the result into one layer; a refreshed image always is
        script (path, default None)
            File of this host to run inside as the refresh script; null: the image's own makina-states procedure
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh after its own refresh, where it has one; script= does as it likes
        shell (text, default None)
            Interpreter of the refresh script; null: bash where the image has it, else sh
        network (boolean, default True)
            Whether the refresh script reaches the network
        live (boolean, default False)
            Read the root filesystem of a running container all the same; the report says so
        idmap (text, default None)
            How a dir: tree is shifted, as `u:0:100000:65536,g:0:100000:65536` (container id, host id, count)
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.build_docker_from_rootfs", build_docker_from_rootfs, locals())


def build_from_lxc(
    name, clone_from=None, profile=None, network_profile=None, data=None, script=None, snapshot=True, live=False, mirror=None, test=False, **kwargs
):
    """
    Make a container: a copy of another one, bootstrapped and made impersonal.

    Without `clone_from` it begins with the Ubuntu release that the name tells. The steps run in a sandbox on a snapshot; no
    container is started, and one that is there already, whatever its name, is never touched: a name that is taken is an
    error. What was done before for the same tree and script is not done again.

        salt-call mc_cloud_images.build_from_lxc makina-states-bionic clone_from=ubuntu-bionic script=/root/boot.sh

    Usage: mc_cloud_images.build_from_lxc name [clone_from=None] [profile=None] [network_profile=None] [data=None] [script=None] [snapshot=True] [live=False] [mirror=None] [KEY=VALUE…] [test=False]

    Arguments:
        name (text)
            Name of the container to make; nothing may have it
        clone_from (text, default None)
            Name of the container it begins with
        profile (anything, default None)
            Accepted: a copy keeps the original's settings
        network_profile (anything, default None)
            Accepted: a copy keeps the original's network, without its hardware addresses
        data (anything, default None)
            Accepted for the callers of the original
        script (path, default None)
            Bootstrap script of this host to run in the new container, with `-C`; null: none is run
        snapshot (boolean, default True)
            Run the container's /sbin/makinastates-snapshot.sh in the end, where it has one
        live (boolean, default False)
            Accept a container that is running: its files are read in the middle of what its programs do
        mirror (text, default None)
            Where the packages of a suite come from; null: as this host's own apt has it
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.build_from_lxc", build_from_lxc, locals())


def complete_images(data):
    """
    Return settings with every default image and what is derived from the version files below their `root`.

        salt-call mc_cloud_images.complete_images '{root: /srv/makina-states, lxc: {images: {}}}'

    Usage: mc_cloud_images.complete_images data

    Arguments:
        data (map)
            Settings with `root` and `lxc`
    """
    return _call("mc_cloud_images.complete_images", complete_images, locals())


def default_settings():
    """
    Return the image settings that there are without anybody configuring any.

        salt-call mc_cloud_images.default_settings

    Usage: mc_cloud_images.default_settings
    """
    return _call("mc_cloud_images.default_settings", default_settings, locals())


def docker_from_tar(
    image, tar, pack=None, acls=None, layers=1, changes=None, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Make a Docker image of a root filesystem tar, its ACLs (binary or text records) intact.

        salt-call mc_cloud_images.docker_from_tar group/name:1 /root/rootfs.tar

    Usage: mc_cloud_images.docker_from_tar image tar [pack=None] [acls=None] [layers=1] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Name, or reference, of the image to make
        tar (directory, tar file or image reference)
            Root filesystem tar: bare, gzip or zstd
        pack (boolean, default None)
            Accepted for the callers of the original; the result always has one layer
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.docker_from_tar", docker_from_tar, locals())


def ext_pillar(id_, prefixed=True, ttl=32140800, *args, **kwargs):
    """
    Return the pillar of a machine: its image settings if it belongs to the cloud, else nothing.

    Virtual machines, compute nodes and controllers of the database belong to the cloud.

        salt-call mc_cloud_images.ext_pillar vm1.example.net
        castoff pillar vm1.example.net

    Usage: mc_cloud_images.ext_pillar id_ [prefixed=True] [ttl=32140800] [ARG…] [KEY=VALUE…]

    Arguments:
        id_ (text)
            Minion id: letters, digits, `.`, `_`, `-`
        prefixed (boolean, default True)
            Whether the settings stand below `makina-states.cloud.images`
        ttl (whole number, default 32140800)
            Seconds for which an answer may be kept; an edited file is seen at once whatever it is
    """
    return _call("mc_cloud_images.ext_pillar", ext_pillar, locals())


def extpillar_settings(id_=None, limited=False, ttl=32140800):
    """
    Return the image settings that the controller computes for a machine.

    Weakest first: defaults, then `images`, `images_CONTROLLER` and `images_ID` of the database's `cloud_settings`; root and
    lxc.cron_sync are computed, and every released image has its version, URL and checksum.

        salt-call mc_cloud_images.extpillar_settings vm1.example.net

    Usage: mc_cloud_images.extpillar_settings [id_=None] [limited=False] [ttl=32140800]

    Arguments:
        id_ (text, default None)
            Minion id; null: for no machine in particular
        limited (boolean, default False)
            Accepted for the callers of the original; it changes nothing there either
        ttl (whole number, default 32140800)
            Seconds for which an answer may be kept; an edited file is seen at once whatever it is
    """
    return _call("mc_cloud_images.extpillar_settings", extpillar_settings, locals())


def get_last_local_lxc_image(
    name, clone_from=None, template=None, filtered='.*-standalone.*', images_path='/var/lib/lxc'
):
    """
    Return the newest released image in a folder; see get_last_local_lxc_images.

        salt-call mc_cloud_images.get_last_local_lxc_image makina-states-trusty

    Usage: mc_cloud_images.get_last_local_lxc_image name [clone_from=None] [template=None] [filtered='.*-standalone.*'] [images_path='/var/lib/lxc']

    Arguments:
        name (text)
            Name of an image or container, such as `makina-states-trusty`
        clone_from (text, default None)
            Name of what it is cloned from; asked where the name itself tells nothing
        template (text, default None)
            What the file names begin with; null: `makina-states-RELEASE` with the release that the name tells
        filtered (list, or one text, default '.*-standalone.*')
            Regular expressions; an image whose file name one of them finds is left out
        images_path (path, default '/var/lib/lxc')
            Folder of the images
    """
    return _call("mc_cloud_images.get_last_local_lxc_image", get_last_local_lxc_image, locals())


def get_last_local_lxc_images(
    name, filtered='.*-standalone.*', clone_from=None, images_path='/var/lib/lxc', template=None
):
    """
    Return the released images in a folder by ascending version: `IMAGE-FLAVOR-VERSION.tar.xz`.

        salt-call mc_cloud_images.get_last_local_lxc_images makina-states-trusty

    Usage: mc_cloud_images.get_last_local_lxc_images name [filtered='.*-standalone.*'] [clone_from=None] [images_path='/var/lib/lxc'] [template=None]

    Arguments:
        name (text)
            Name of an image or container, such as `makina-states-trusty`
        filtered (list, or one text, default '.*-standalone.*')
            Regular expressions; an image whose file name one of them finds is left out
        clone_from (text, default None)
            Name of what it is cloned from; asked where the name itself tells nothing
        images_path (path, default '/var/lib/lxc')
            Folder of the images
        template (text, default None)
            What the file names begin with; null: `makina-states-RELEASE` with the release that the name tells
    """
    return _call("mc_cloud_images.get_last_local_lxc_images", get_last_local_lxc_images, locals())


def get_vars(**kwargs):
    """
    Return the variables that a release's steps are written with: names, paths, versions.

    Any of them may be given and wins, further ones too; `{name}` in a value stands for another variable.

        salt-call mc_cloud_images.get_vars container=makina-states-trusty flavor=lxc

    Usage: mc_cloud_images.get_vars [KEY=VALUE…]
    """
    return _call("mc_cloud_images.get_vars", get_vars, locals())


def guess_template_env(name, clone_from=None):
    """
    Return operating system and release that an image's name tells, else the default ones.

        salt-call mc_cloud_images.guess_template_env makina-states-trusty

    Usage: mc_cloud_images.guess_template_env name [clone_from=None]

    Arguments:
        name (text)
            Name of an image or container, such as `makina-states-trusty`
        clone_from (text, default None)
            Name of what it is cloned from; asked where the name itself tells nothing
    """
    return _call("mc_cloud_images.guess_template_env", guess_template_env, locals())


def pack_docker(
    image, destination_image=None, acls=None, tmpdir=None, layers=1, keep_base=None, changes=None, compression=None, keep_old=True, test=False
):
    """
    Merge a Docker image into one layer (layers=2: content, then what has ACLs), POSIX ACLs intact.

        salt-call mc_cloud_images.pack_docker group/name:1
        salt-call mc_cloud_images.pack_docker docker-archive:in.tar destination_image=docker-archive:out.tar

    Usage: mc_cloud_images.pack_docker image [destination_image=None] [acls=None] [tmpdir=None] [layers=1] [keep_base=None] [changes=None] [compression=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Image to work on
        destination_image (image reference, default None)
            Where the result goes; null: the image's own name
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        keep_base (image reference, default None)
            Image whose layers stay as they are: only what lies above them is packed
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.pack_docker", pack_docker, locals())


def publish_release(container, flavor='standalone', test=False, **kwargs):
    """
    Announce an image's archive, uploading it first where that was not done.

        salt-call mc_cloud_images.publish_release makina-states-trusty flavor=lxc

    Usage: mc_cloud_images.publish_release container [flavor='standalone'] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        flavor (text, default 'standalone')
            Flavour of the release
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.publish_release", publish_release, locals())


def publish_release_lxc(container, test=False, **kwargs):
    """
    Announce the `lxc` archive of an image; see publish_release.

        salt-call mc_cloud_images.publish_release_lxc makina-states-trusty

    Usage: mc_cloud_images.publish_release_lxc container [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.publish_release_lxc", publish_release_lxc, locals())


def publish_release_standalone(container, test=False, **kwargs):
    """
    Announce the `standalone` archive of an image; see publish_release.

        salt-call mc_cloud_images.publish_release_standalone makina-states-trusty

    Usage: mc_cloud_images.publish_release_standalone container [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.publish_release_standalone", publish_release_standalone, locals())


def rebuild_ms_docker(
    image, destination_image=None, acls=None, refresh=None, pack=True, script=None, snapshot=True, shell=None, command='/sbin/init', network=True, layers=1, changes=None, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Refresh an image, then pack what came of it; see refresh_ms_docker and pack_docker.

        salt-call mc_cloud_images.rebuild_ms_docker group/name:1

    Usage: mc_cloud_images.rebuild_ms_docker image [destination_image=None] [acls=None] [refresh=None] [pack=True] [script=None] [snapshot=True] [shell=None] [command='/sbin/init'] [network=True] [layers=1] [changes=None] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Image to work on
        destination_image (image reference, default None)
            Where the result goes; null: the image's own name
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        refresh (boolean, default None)
            Run the refresh script first; null: where the image carries it or script= is given, else skipped and reported
        pack (boolean, default True)
            Merge the result into one layer; a refreshed image always is
        script (path, default None)
            File of this host to run inside as the refresh script; null: the image's own makina-states procedure
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh after its own refresh, where it has one; script= does as it likes
        shell (text, default None)
            Interpreter of the refresh script; null: bash where the image has it, else sh
        command (text, default '/sbin/init')
            Accepted for the callers of the original; the container only waits while the script runs
        network (boolean, default True)
            Whether the refresh script reaches the network
        layers (whole number, default 1)
            1, or 2: content first, then the entries that have ACLs with all their parents
        changes (list, or one text, default None)
            Configuration changes as docker import takes them: ['CMD ["/sbin/init"]', 'ENV A=b']
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.rebuild_ms_docker", rebuild_ms_docker, locals())


def refresh_ms_docker(
    image, destination_image=None, pack=True, acls=None, snapshot=True, shell=None, command='/sbin/init', script=None, refresh=None, network=True, compression=None, tmpdir=None, keep_old=True, test=False
):
    """
    Run the refresh script in an image and keep what it changed, ACLs included.

    On the Docker engine it runs in a container and the container's own tree is read (docker commit would lose ACLs), so
    the engine must be on this host. On the embedded store it runs in a sandbox. Skipped and reported where there is
    nothing to run.

        salt-call mc_cloud_images.refresh_ms_docker group/name:1 script=/root/refresh.sh

    Usage: mc_cloud_images.refresh_ms_docker image [destination_image=None] [pack=True] [acls=None] [snapshot=True] [shell=None] [command='/sbin/init'] [script=None] [refresh=None] [network=True] [compression=None] [tmpdir=None] [keep_old=True] [test=False]

    Arguments:
        image (image reference)
            Image to work on
        destination_image (image reference, default None)
            Where the result goes; null: the image's own name
        pack (boolean, default True)
            Merge the result into one layer; a refreshed image always is
        acls (boolean, default None)
            Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh after its own refresh, where it has one; script= does as it likes
        shell (text, default None)
            Interpreter of the refresh script; null: bash where the image has it, else sh
        command (text, default '/sbin/init')
            Accepted for the callers of the original; the container only waits while the script runs
        script (path, default None)
            File of this host to run inside as the refresh script; null: the image's own makina-states procedure
        refresh (boolean, default None)
            Run the refresh script first; null: where the image carries it or script= is given, else skipped and reported
        network (boolean, default True)
            Whether the refresh script reaches the network
        compression (text, default None)
            none, gzip or zstd for layers in files and the store; engines always get bare layers
        tmpdir (path, default None)
            Existing folder for compressed layers and engine streams while they are read; default: below the state folder
        keep_old (boolean, default True)
            Keep the image that loses the name until image.gc; False removes it once the new one is confirmed
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.refresh_ms_docker", refresh_ms_docker, locals())


def save_acls(container, flavor, test=False, *args, **kwargs):
    """
    Write down the ACLs of a container as getfacl does: acls.txt in its root filesystem and in its folder.

    The first lists etc, home, opt, root, srv and var, the second everything; both with numeric ids as they are on this
    host, for `setfacl --restore`. Each appears whole or not at all. The archive of a container gets texts of its own.
    Returns the paths of both.

        salt-call mc_cloud_images.save_acls makina-states-trusty lxc

    Usage: mc_cloud_images.save_acls container flavor [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text)
            `lxc`, `standalone`, or another one of `release.flavors`
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.save_acls", save_acls, locals())


def save_acls_lxc(container, flavor=None, test=False, *args, **kwargs):
    """
    Write down the ACLs of a container; see save_acls.

        salt-call mc_cloud_images.save_acls_lxc makina-states-trusty

    Usage: mc_cloud_images.save_acls_lxc container [flavor=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.save_acls_lxc", save_acls_lxc, locals())


def save_acls_standalone(container, flavor=None, test=False, *args, **kwargs):
    """
    Write down the ACLs of a container; see save_acls.

        salt-call mc_cloud_images.save_acls_standalone makina-states-trusty

    Usage: mc_cloud_images.save_acls_standalone container [flavor=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.save_acls_standalone", save_acls_standalone, locals())


def settings(ttl=60):
    """
    Return the image settings that hold on this machine: defaults, configured over them.

    Options, pillar and grains are looked up under `makina-states.cloud.images`, as one map, as flat keys or nested.

        salt-call mc_cloud_images.settings

    Usage: mc_cloud_images.settings [ttl=60]

    Arguments:
        ttl (whole number, default 60)
            Seconds for which an answer may be kept; an edited file is seen at once whatever it is
    """
    return _call("mc_cloud_images.settings", settings, locals())


def sf_release(
    images=None, flavors=None, sync=True, flavor=None, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False
):
    """
    Release images: hold each container still, archive, upload, announce.

    Every image of the settings in every flavour it has, or those that are named. One that fails keeps no other from its
    release; the report tells every step of each. An image whose tree is announced already is `unchanged`. A call that was
    cut off is finished by the same call, and whoever looks meanwhile sees the release before, whole. An image that nobody
    has configured and that has no container here is skipped.

        salt-call mc_cloud_images.sf_release makina-states-trusty flavor=lxc
        salt-call mc_cloud_images.sf_release images=makina-states-trusty,makina-states-precise test=True

    Usage: mc_cloud_images.sf_release [images=None] [flavors=None] [sync=True] [flavor=None] [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [test=False]

    Arguments:
        images (list, or text with commas, default None)
            Names of images, a list or separated by commas; null: all of the settings
        flavors (list, or text with commas, default None)
            Flavours, of which an image is released in those that its settings list; null: all that they list
        sync (boolean, default True)
            Bring each image's container to the state of its `builder_ref` first
        flavor (list, or text with commas, default None)
            The same as `flavors`, as older calls write it
        force (boolean, default False)
            Release an image although the same tree is announced already
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.sf_release", sf_release, locals())


def snapshot(container, flavor, method=None, live=False, tmpdir=None, allow=None, test=False, *args, **kwargs):
    """
    Try the snapshot that a release takes: hold the container still, make it impersonal, say what comes of it.

    The image's /sbin/makinastates-snapshot.sh runs sandboxed in the snapshot, never in the container, and nothing of the
    snapshot stays: `archive` takes its own. Returns what the script said in the form of cmd.run_all, how the tree was held
    still, and what would fail the release (`hygiene`).

        salt-call mc_cloud_images.snapshot makina-states-trusty lxc

    Usage: mc_cloud_images.snapshot container flavor [method=None] [live=False] [tmpdir=None] [allow=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text)
            `lxc`, `standalone`, or another one of `release.flavors`
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.snapshot", snapshot, locals())


def snapshot_lxc(container, flavor=None, method=None, live=False, tmpdir=None, allow=None, test=False, *args, **kwargs):
    """
    Try the snapshot that a release of the flavour lxc takes; see snapshot.

        salt-call mc_cloud_images.snapshot_lxc makina-states-trusty

    Usage: mc_cloud_images.snapshot_lxc container [flavor=None] [method=None] [live=False] [tmpdir=None] [allow=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.snapshot_lxc", snapshot_lxc, locals())


def snapshot_standalone(
    container, flavor=None, method=None, live=False, tmpdir=None, allow=None, test=False, *args, **kwargs
):
    """
    Try the snapshot that a release of the flavour standalone takes; see snapshot.

        salt-call mc_cloud_images.snapshot_standalone makina-states-trusty

    Usage: mc_cloud_images.snapshot_standalone container [flavor=None] [method=None] [live=False] [tmpdir=None] [allow=None] [ARG…] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the LXC container, which is the name of the image
        flavor (text, default None)
            Accepted for the callers of the original, who name the flavour twice
        method (text, default None)
            How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report
        live (boolean, default False)
            Accept a container that is running: its files are copied in the middle of what its programs do
        tmpdir (path, default None)
            Folder for the snapshot; null: below the state folder
        allow (list, or text with commas, default None)
            What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.snapshot_standalone", snapshot_standalone, locals())


def sync_container(container, destination, snapshot=True, force=True, test=False):
    """
    Copy the root filesystem of a container to another one; see mc_cloud_lxc.sync_image_reference_containers.

        salt-call mc_cloud_images.sync_container build-1 makina-states-trusty

    Usage: mc_cloud_images.sync_container container destination [snapshot=True] [force=True] [test=False]

    Arguments:
        container (text)
            Name of the container that is copied
        destination (text)
            Name of the container that becomes the copy
        snapshot (boolean, default True)
            Run the image's /sbin/makinastates-snapshot.sh in the copy, where it has one
        force (boolean, default True)
            Accept containers that run
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.sync_container", sync_container, locals())


def upload(container, flavor='standalone', test=False, **kwargs):
    """
    Upload an image's archive to every target, under a number that nobody uses; return where it is.

    The archive is `absolute_tarball` of get_vars, whose variables may be given. Nothing is announced.

        salt-call mc_cloud_images.upload makina-states-trusty flavor=lxc

    Usage: mc_cloud_images.upload container [flavor='standalone'] [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        flavor (text, default 'standalone')
            Flavour of the release
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.upload", upload, locals())


def upload_lxc(container, test=False, **kwargs):
    """
    Upload the `lxc` archive of an image; see upload.

        salt-call mc_cloud_images.upload_lxc makina-states-trusty

    Usage: mc_cloud_images.upload_lxc container [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.upload_lxc", upload_lxc, locals())


def upload_standalone(container, test=False, **kwargs):
    """
    Upload the `standalone` archive of an image; see upload.

        salt-call mc_cloud_images.upload_standalone makina-states-trusty

    Usage: mc_cloud_images.upload_standalone container [KEY=VALUE…] [test=False]

    Arguments:
        container (text)
            Name of the image's container
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("mc_cloud_images.upload_standalone", upload_standalone, locals())
