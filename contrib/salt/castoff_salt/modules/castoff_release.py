"""
castoff's releases: from a container to an archive with its hashes.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_release"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def archive(
    container, flavor, force=False, allow=None, snapshot=True, method=None, live=False, tmpdir=None, test=False, *args, **kwargs
):
    """
    Cast a container into its archive, as mc_cloud_images.archive, and return everything about it.

    Sizes, hashes, the digests of tar and tree, how the tree was held still, what was left out, what was found and allowed.

        salt-call castoff_release.archive makina-states-trusty standalone

    Usage: castoff_release.archive container flavor [force=False] [allow=None] [snapshot=True] [method=None] [live=False] [tmpdir=None] [ARG…] [KEY=VALUE…] [test=False]

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
    return _call("release.archive", archive, locals())
