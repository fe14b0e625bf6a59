"""
castoff's own store of images.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_store"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def verify():
    """
    Check the whole embedded store: every blob against its name, every image against its blobs.

    Reads and hashes all of it; others may work with the store meanwhile. The result is False when anything is not what
    it says, and every mismatch is listed.

        salt-call castoff_store.verify

    Usage: castoff_store.verify

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("store.verify", verify, locals())
