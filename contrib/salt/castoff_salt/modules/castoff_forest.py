"""
castoff's images of virtual machines: build a forest of them, push and pull them.

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


def build(dir, images=None, force=False, dry_run=False, merge_steps=True, pkg_repo='sid', refresh=False, test=False):
    """
    Build the images of a forest, each once and only where anything it is made of has changed.

    Reads an unchanged `images.json` of little-vm-helper. What an image is made of is known by content: its parents,
    packages and their archive, actions, and the bytes of every file that is copied in. A failed image is never taken for a
    result, and what builds on it is left out; other trees go on. An image that is there and that castoff did not make, or
    that was changed since, is moved aside: `cachedImageDeleted` says why.

        salt-call castoff_forest.build /srv/vm
        salt-call castoff_forest.build /srv/vm images=base.img dry_run=True
        castoff lvh images build --dir /srv/vm

    Usage: castoff_forest.build dir [images=None] [force=False] [dry_run=False] [merge_steps=True] [pkg_repo='sid'] [refresh=False] [test=False]

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        images (list, or text with commas, default None)
            Names of images: they, what builds on them, and what they build on; null: all
        force (boolean, default False)
            Make everything anew, whatever is there already
        dry_run (boolean, default False)
            Build nothing: make an empty file where no image is, and say what would become of those that are there
        merge_steps (boolean, default True)
            Accepted for the callers of lvh: steps cost nothing here, and results are the same either way
        pkg_repo (text, default 'sid')
            Suite of Debian or Ubuntu that images begin with; `SUITE MIRROR`, or `SUITE deb ..`, where this host's apt has none
        refresh (boolean, default False)
            Look at the archives of packages now, however young what is known of them is
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("forest.build", build, locals())


def build_image(dir, image, force=False, dry_run=False, merge_steps=True, pkg_repo='sid', refresh=False, test=False):
    """
    Build one image of a forest and what it builds on, nothing else; see forest.build.

        salt-call castoff_forest.build_image /srv/vm k8s.qcow2

    Usage: castoff_forest.build_image dir image [force=False] [dry_run=False] [merge_steps=True] [pkg_repo='sid'] [refresh=False] [test=False]

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        image (text)
            Name of an image of the forest
        force (boolean, default False)
            Make everything anew, whatever is there already
        dry_run (boolean, default False)
            Build nothing: make an empty file where no image is, and say what would become of those that are there
        merge_steps (boolean, default True)
            Accepted for the callers of lvh: steps cost nothing here, and results are the same either way
        pkg_repo (text, default 'sid')
            Suite of Debian or Ubuntu that images begin with; `SUITE MIRROR`, or `SUITE deb ..`, where this host's apt has none
        refresh (boolean, default False)
            Look at the archives of packages now, however young what is known of them is
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("forest.build_image", build_image, locals())


def dependencies(dir, image):
    """
    Return the images that an image builds on, the oldest first, itself left out.

        salt-call castoff_forest.dependencies /srv/vm k8s.qcow2

    Usage: castoff_forest.dependencies dir image

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        image (text)
            Name of an image of the forest
    """
    return _call("forest.dependencies", dependencies, locals())


def example_config():
    """
    Return the text of an `images.json` with two images: a base, and one that builds on it.

        castoff lvh images example-config

    Usage: castoff_forest.example_config
    """
    return _call("forest.example_config", example_config, locals())


def image_filename(dir, image):
    """
    Return the file that an image of the forest is built in.

        salt-call castoff_forest.image_filename /srv/vm k8s.qcow2

    Usage: castoff_forest.image_filename dir image

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        image (text)
            Name of an image of the forest
    """
    return _call("forest.image_filename", image_filename, locals())


def is_leaf(dir, image):
    """
    Return whether no other image of the forest builds on an image.

        salt-call castoff_forest.is_leaf /srv/vm base.img

    Usage: castoff_forest.is_leaf dir image

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        image (text)
            Name of an image of the forest
    """
    return _call("forest.is_leaf", is_leaf, locals())


def is_root(dir, image):
    """
    Return whether an image builds on no other image of the forest.

        salt-call castoff_forest.is_root /srv/vm base.img

    Usage: castoff_forest.is_root dir image

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
        image (text)
            Name of an image of the forest
    """
    return _call("forest.is_root", is_root, locals())


def leaves(dir):
    """
    Return the images that no other image builds on, in the order of the document.

        salt-call castoff_forest.leaves /srv/vm

    Usage: castoff_forest.leaves dir

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
    """
    return _call("forest.leaves", leaves, locals())


def pull(url, dir='_data', cache=False, platform=None, test=False):
    """
    Bring the disk images that an OCI image carries in /data/images into a folder, without any Docker daemon.

    A bare name means a registry: quay.io/lvh-images/kind:6.1-main is docker://quay.io/lvh-images/kind:6.1-main; any other
    reference works too. Files that end with .zst are unfolded, zeros become holes, and files get their names when all of them
    are whole. Links, devices, absolute names and names that lead elsewhere are refused, and then nothing is written. The
    image comes into the embedded store, where image.remove takes it away; what is there is neither fetched nor written
    again.

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


def roots(dir):
    """
    Return the images that build on no other image of the forest, in the order of the document.

        salt-call castoff_forest.roots /srv/vm

    Usage: castoff_forest.roots dir

    Arguments:
        dir (path)
            Folder with `images.json`; images are made in `images` below it
    """
    return _call("forest.roots", roots, locals())
