"""
castoff's plans: what is to be done for an image, what of it is there already and why not.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_plan"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def explain(source, images=None, pkg_repo='sid', refresh=False):
    """
    Say for every step of every image whether its result is there already, and if not, why.

    Nothing is built. A miss names what changed: a package, a file that is copied in, an archive of packages, or a step
    before it.

        salt-call castoff_plan.explain /srv/vm
        salt-call castoff_plan.explain /srv/vm images=k8s.qcow2

    Usage: castoff_plan.explain source [images=None] [pkg_repo='sid'] [refresh=False]

    Arguments:
        source (path)
            Folder with what images are made of, such as `images.json`, or such a file, or a document of plans
        images (list, or text with commas, default None)
            Names of images: they, what builds on them, and what they build on; null: all
        pkg_repo (text, default 'sid')
            Suite of Debian or Ubuntu that images begin with; `SUITE MIRROR`, or `SUITE deb ..`, where this host's apt has none
        refresh (boolean, default False)
            Look at the archives of packages now, however young what is known of them is
    """
    return _call("plan.explain", explain, locals())


def show(source, images=None, pkg_repo='sid'):
    """
    Show the plans that images are built by: what each begins with, its steps, what it becomes.

    Plans are values: the same whoever asks, and however often.

        salt-call castoff_plan.show /srv/vm --out=json

    Usage: castoff_plan.show source [images=None] [pkg_repo='sid']

    Arguments:
        source (path)
            Folder with what images are made of, such as `images.json`, or such a file, or a document of plans
        images (list, or text with commas, default None)
            Names of images: they, what builds on them, and what they build on; null: all
        pkg_repo (text, default 'sid')
            Suite of Debian or Ubuntu that images begin with; `SUITE MIRROR`, or `SUITE deb ..`, where this host's apt has none
    """
    return _call("plan.show", show, locals())
