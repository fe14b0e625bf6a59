"""
castoff on a host that follows releases: run, look, pin, go back.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_sync"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def pin(image, number, test=False):
    """
    Hold an image at a release, whatever is served, until sync.unpin.

    A release that is kept here becomes current at once; another one is fetched by the next run that finds it served.

        salt-call castoff_sync.pin makina-states-bionic/lxc 24

    Usage: castoff_sync.pin image number [test=False]

    Arguments:
        image (text)
            IMAGE/FLAVOUR of sync.images; IMAGE alone where it is followed in one flavour
        number (whole number)
            The number of the release
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("sync.pin", pin, locals())


def rollback(image, number=None, test=False):
    """
    Go back to a release that is kept here, and pin the image to it.

        salt-call castoff_sync.rollback makina-states-bionic/lxc

    Usage: castoff_sync.rollback image [number=None] [test=False]

    Arguments:
        image (text)
            IMAGE/FLAVOUR of sync.images; IMAGE alone where it is followed in one flavour
        number (whole number, default None)
            The number of a kept release; null: the one before the current one
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("sync.rollback", rollback, locals())


def run(images=None, test=False):
    """
    Bring the images this host follows to what is released.

    For each: read the signed manifest from sync.source, judge it, fetch what is cheapest (patches where an earlier release is
    held, else the whole file), verify, unpack beside, move `current`. An interrupted run is finished by the next one. The
    result has a report for each image: from, to, the way, bytes moved, seconds, why.

        castoff sync
        salt-call castoff_sync.run images=makina-states-bionic/lxc test=True

    Usage: castoff_sync.run [images=None] [test=False]

    Arguments:
        images (list, or text with commas, default None)
            IMAGE/FLAVOUR, or IMAGE in every flavour; null: all of sync.images
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("sync.run", run, locals())


def status(images=None):
    """
    Show what this host follows: what is current, kept, pinned, the highest release seen, how the last run ended.

    Asks no far side.

        salt-call castoff_sync.status

    Usage: castoff_sync.status [images=None]

    Arguments:
        images (list, or text with commas, default None)
            IMAGE/FLAVOUR, or IMAGE in every flavour; null: all of sync.images
    """
    return _call("sync.status", status, locals())


def unpin(image, test=False):
    """
    Let an image follow what is served again.

        salt-call castoff_sync.unpin makina-states-bionic/lxc

    Usage: castoff_sync.unpin image [test=False]

    Arguments:
        image (text)
            IMAGE/FLAVOUR of sync.images; IMAGE alone where it is followed in one flavour
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("sync.unpin", unpin, locals())
