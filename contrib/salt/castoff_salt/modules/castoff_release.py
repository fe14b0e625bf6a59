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


def history(image, flavor, limit=20):
    """
    Return the releases that the branch has announced, and the journals of this host, newest first.

        salt-call castoff_release.history makina-states-trusty lxc

    Usage: castoff_release.history image flavor [limit=20]

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours
        limit (whole number, default 20)
            The most releases to tell of
    """
    return _call("release.history", history, locals())


def prune(image, flavor, keep=None, test=False):
    """
    Remove the files of old releases from every target.

    What one of the last `keep` releases names stays, whatever its number, and what is being released too.

        salt-call castoff_release.prune makina-states-trusty lxc test=True
        salt-call castoff_release.prune makina-states-trusty lxc keep=5

    Usage: castoff_release.prune image flavor [keep=None] [test=False]

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours
        keep (whole number, default None)
            Releases that keep their files; null: `release.keep`
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("release.prune", prune, locals())


def publish(image, flavor, file, force=False, test=False):
    """
    Release a whole `.tar.xz` of this host: sign, upload to every target, announce.

    What an earlier run has done is found by looking and not done again, so that the same call finishes a release that was
    cut off. Whoever looks meanwhile sees the release before, whole.

        salt-call castoff_release.publish makina-states-trusty lxc /var/lib/lxc/makina-states-trusty-lxc-26.tar.xz

    Usage: castoff_release.publish image flavor file [force=False] [test=False]

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours
        file (path)
            The `.tar.xz` of this host
        force (boolean, default False)
            Release it although the same tree is announced already
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("release.publish", publish, locals())


def resume(image=None, flavor=None, test=False):
    """
    Finish the releases that were cut off on this host.

    Without arguments all of them; one that cannot be finished keeps no other from it.

        salt-call castoff_release.resume

    Usage: castoff_release.resume [image=None] [flavor=None] [test=False]

    Arguments:
        image (text, default None)
            Name of the image; null: all
        flavor (text, default None)
            Flavour; null: all
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("release.resume", resume, locals())


def rollback(image, flavor, version, test=False):
    """
    Announce what an older release holds as the next one; nothing is uploaded again.

    Hosts never go back by number, so the older content gets a new number. Its files must still be at every target.

        salt-call castoff_release.rollback makina-states-trusty lxc 25

    Usage: castoff_release.rollback image flavor version [test=False]

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours
        version (whole number)
            Number of the release
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("release.rollback", rollback, locals())


def status(image=None, flavor=None):
    """
    Return what is served now, and what is under way, of each image and flavour.

    Without arguments of every image that was ever released from this host.

        salt-call castoff_release.status
        salt-call castoff_release.status makina-states-trusty lxc

    Usage: castoff_release.status [image=None] [flavor=None]

    Arguments:
        image (text, default None)
            Name of the image; null: all
        flavor (text, default None)
            Flavour; null: all
    """
    return _call("release.status", status, locals())


def verify(image, flavor):
    """
    Check what is announced as a host would: signature, hashes, every file from every place, unpacked to nowhere.

        salt-call castoff_release.verify makina-states-trusty lxc

    Usage: castoff_release.verify image flavor

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("release.verify", verify, locals())


def withdraw(image, flavor, version, test=False):
    """
    Take the announced release back: the branch then announces none.

    Hosts keep what they have. The number is not used again; the files stay until they are pruned.

        salt-call castoff_release.withdraw makina-states-trusty lxc 26

    Usage: castoff_release.withdraw image flavor version [test=False]

    Arguments:
        image (text)
            Name of the image, such as `makina-states-trusty`
        flavor (text)
            Flavour: `lxc`, `standalone`, or one of yours
        version (whole number)
            Number of the release
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("release.withdraw", withdraw, locals())
