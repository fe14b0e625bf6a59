"""
castoff's forests: disk images out of OCI images and into them.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_forest"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def pull(url, dir='_data', cache=False, platform=None, test=False):
    """
    Bring the disk images that an OCI image carries in /data/images into a folder, without any Docker daemon.

    A bare name means a registry: quay.io/lvh-images/kind:6.1-main is docker://quay.io/lvh-images/kind:6.1-main; any other
    reference works too. Files that end with .zst are unfolded, zeros become holes, and each file has its name only when it
    is whole. Links, devices and names that lead elsewhere are refused, and then nothing is written. The image comes into the
    embedded store, where image.remove takes it away; what is there is neither fetched nor written again.

        salt-call castoff_forest.pull quay.io/lvh-images/kind:6.1-main
        salt-call castoff_forest.pull docker://127.0.0.1:5000/vm:1 dir=/srv/vm platform=linux/arm64

    Usage: castoff_forest.pull url [dir='_data'] [cache=False] [platform=None] [test=False]

    Arguments:
        url (image reference)
            Image that carries disk images
        dir (path, default '_data')
            Folder in which the folder `images` is
        cache (boolean, default False)
            Keep the compressed files beside the unfolded ones
        platform (text, default None)
            Platform as `linux/arm64`, where a registry has several; null: this host's
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("forest.pull", pull, locals())


def push(images, reference, dir='_data', base=None, platform=None, test=False):
    """
    Make an image that carries disk images in /data/images, each compressed with zstd, and send it away.

    Equal files make an equal image. A bare name means a registry, as for forest.pull. What the registry has is not sent.

        salt-call castoff_forest.push base.qcow2 docker://127.0.0.1:5000/vm:1
        salt-call castoff_forest.push base.qcow2,k8s.qcow2 oci:layout:1 dir=/srv/vm

    Usage: castoff_forest.push images reference [dir='_data'] [base=None] [platform=None] [test=False]

    Arguments:
        images (list, or text with commas)
            Files of the folder `images`
        reference (image reference)
            Where the image goes
        dir (path, default '_data')
            Folder in which the folder `images` is
        base (image reference, default None)
            Image to stand on; null: nothing
        platform (text, default None)
            Platform as `linux/arm64`, where a registry has several; null: this host's
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("forest.push", push, locals())
