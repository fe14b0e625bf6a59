"""
castoff's builds: images from plans, and what failed builds leave behind.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_build"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def failed():
    """
    Return the trees that failed steps left for inspection, oldest first.

        salt-call castoff_build.failed

    Usage: castoff_build.failed
    """
    return _call("build.failed", failed, locals())


def run(file, images=None, force=False, refresh=False, test=False):
    """
    Build the images that a document of plans describes.

    The document is a list of plans, `{name, base, steps, outputs}`; what has a result in the store already is not run again. `test=True` says what would be run and why.

        salt-call castoff_build.run /srv/images/plans.json

    Usage: castoff_build.run file [images=None] [force=False] [refresh=False] [test=False]

    Arguments:
        file (path)
            The document with the plans, JSON
        images (list, or one text, default None)
            Only these, with what they build on
        force (boolean, default False)
            Make everything anew
        refresh (boolean, default False)
            Look at the archives of packages now, however young what is known of them is
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("build.run", run, locals())


def shell(failed=None, command=None, network=False, test=False):
    """
    Open a shell in the tree of a failed step, as the step saw it; with a command, run that instead.

    What is changed in there is gone afterwards. The last lines that a command printed are in the report. A shell needs the caller's terminal, so it is opened by `castoff call` and not by the daemon.

        salt-call castoff_build.shell
        salt-call castoff_build.shell command='["cat", "/etc/os-release"]'

    Usage: castoff_build.shell [failed=None] [command=None] [network=False] [test=False]

    Arguments:
        failed (text, default None)
            Name of the kept tree, as build.failed has it; null: the newest
        command (list, or one text, default None)
            Program and arguments; null: /bin/sh on the terminal
        network (boolean, default False)
            Whether it reaches the network
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("build.shell", shell, locals())


def sources(suite=None):
    """
    Return where the packages of a suite come from on this host, as plans take it.

    As `build.sources` of the configuration says, else as the host's own apt has it for its distribution.

        salt-call castoff_build.sources bookworm

    Usage: castoff_build.sources [suite=None]

    Arguments:
        suite (text, default None)
            The suite; null: this host's own
    """
    return _call("build.sources", sources, locals())
