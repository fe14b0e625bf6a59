"""
castoff's schedules: what runs when, how it ended, running it now.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_schedule"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def list_():
    """
    Return every schedule: what it calls, when it runs next, how the last run ended, or why it is off.

    `state` is `on`, `running`, `off`, or `late`: no success in two periods, which makes the return code 1. Times are those of
    the schedule's zone, delay included. The daemon starts what is due; without one this reads what the last one remembered.

        salt-call castoff_schedule.list

    Usage: castoff_schedule.list
    """
    return _call("schedule.list", list_, locals())


def run(name, test=False):
    """
    Run what a schedule calls now; return what that returned.

    Refused while a run of the schedule goes on, and the daemon starts none meanwhile. How it ends counts as a run of the
    schedule. One that is off can be run, too.

        salt-call castoff_schedule.run sync

    Usage: castoff_schedule.run name [test=False]

    Arguments:
        name (text)
            The schedule's name
        test (boolean, default False)
            Only say what would be done.

    Can take long: the daemon makes a job of it (see job.show).
    """
    return _call("schedule.run", run, locals())
