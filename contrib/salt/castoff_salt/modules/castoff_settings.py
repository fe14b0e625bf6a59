"""
castoff's image settings: where each value came from, what is cached.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_settings"


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def cache():
    """
    Return the counters of kept settings and pillars: hits, misses, errors, last good answers, times.

    They are those of the process that answers: the daemon's, or this one's.

        salt-call castoff_settings.cache

    Usage: castoff_settings.cache
    """
    return _call("settings.cache", cache, locals())


def explain(key=None, id_=None):
    """
    Return where every image setting under a key came from: its value, layer, file and line.

    The key is dotted (`lxc.images`), with or without `makina-states.cloud.images` in front; without one everything is told.
    With `id_` it is about the pillar of that minion, else about the settings of this machine.

        salt-call castoff_settings.explain lxc.cron_sync
        salt-call castoff_settings.explain lxc.images id_=vm1.example.net

    Usage: castoff_settings.explain [key=None] [id_=None]

    Arguments:
        key (text, default None)
            Dotted key; null: every setting
        id_ (text, default None)
            Minion id; null: this machine
    """
    return _call("settings.explain", explain, locals())


def invalidate(test=False):
    """
    Forget every kept answer to settings and pillars, last good ones too; return how many there were.

    Edited files are noticed without it; what is not a file (this host's name, being a container) is looked at again only now.

        salt-call castoff_settings.invalidate

    Usage: castoff_settings.invalidate [test=False]

    Arguments:
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("settings.invalidate", invalidate, locals())
