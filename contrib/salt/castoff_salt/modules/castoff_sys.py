"""
castoff itself: its functions, version, configuration, and what the machine offers it.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_sys"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def argspec(module=''):
    """
    Return the argument specification of functions.

        salt-call castoff_sys.argspec image.pack
        salt-call castoff_sys.argspec sys
        salt-call castoff_sys.argspec 'sys.*'

    Usage: castoff_sys.argspec [module='']

    Arguments:
        module (text, default '')
            A module, a function, or a pattern with `*`.
    """
    return _call("sys.argspec", argspec, locals())


def config():
    """
    Return every configuration value and where it came from.

    Precedence: flag, then environment, then drop-in, then file, then default.

        castoff config
        salt-call castoff_sys.config

    Usage: castoff_sys.config
    """
    return _call("sys.config", config, locals())


def doc(*args):
    """
    Return the documentation of functions: of all, or of some modules, functions or patterns with `*`.

        salt-call castoff_sys.doc sys.doc
        salt-call castoff_sys.doc test 'sys.list_*'

    Usage: castoff_sys.doc [ARG…]
    """
    return _call("sys.doc", doc, locals())


def doctor():
    """
    Return what this machine offers castoff: host programs, kernel, Docker engine, space, image database, and whose modules Salt loads.

    `result` is false only when something is missing that castoff needs for any work here; `problems` says what, and what to do.

        castoff doctor
        salt-call castoff_sys.doctor

    Usage: castoff_sys.doctor
    """
    return _call("sys.doctor", doctor, locals())


def list_functions(*args, **kwargs):
    """
    Return the names of functions: of all, or of some modules, functions or patterns with `*`.

        salt-call castoff_sys.list_functions sys
        salt-call castoff_sys.list_functions 'sys.list_*'

    Usage: castoff_sys.list_functions [ARG…] [KEY=VALUE…]
    """
    return _call("sys.list_functions", list_functions, locals())


def list_modules(*args):
    """
    Return the names of modules: of all, or of those that match a name or a pattern with `*`.

        salt-call castoff_sys.list_modules 's*'

    Usage: castoff_sys.list_modules [ARG…]
    """
    return _call("sys.list_modules", list_modules, locals())


def version():
    """
    Return castoff's name, version and what it was built with.

        salt-call castoff_sys.version

    Usage: castoff_sys.version
    """
    return _call("sys.version", version, locals())
