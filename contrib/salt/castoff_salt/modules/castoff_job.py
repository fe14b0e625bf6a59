"""
castoff's jobs: what works, what worked, with its events and results.

Made by contrib/salt/generate.py from castoff's function table: change the table, not this file.
"""

try:
    from castoff_salt.utils import castoff_module
except ImportError:  # Copied to _modules and _utils.
    import castoff_module

__virtualname__ = "castoff_job"
__func_alias__ = {"list_": "list"}


def __virtual__():
    return __virtualname__


def _call(name, function, given):
    return castoff_module.call(name, function, given, globals())


def cancel(id, grace=10, test=False):
    """
    End a job: a queued one at once; a running one is told to end, and killed when it does not.

    Returns the job as it stands then; one that was done just before stays done.

        salt-call castoff_job.cancel 01arz3ndektsv4rrffq69g5fav

    Usage: castoff_job.cancel id [grace=10] [test=False]

    Arguments:
        id (text)
            The job's id
        grace (whole number, default 10)
            Seconds that a running job has to end by itself, up to 600
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("job.cancel", cancel, locals())


def events(id, after=0, limit=1000):
    """
    Return what a job has told so far: states, progress, messages, its end.

    Each event has a number; `after` continues behind the last one seen. A message `dropped` stands for events that were too many to keep.

        salt-call castoff_job.events 01arz3ndektsv4rrffq69g5fav

    Usage: castoff_job.events id [after=0] [limit=1000]

    Arguments:
        id (text)
            The job's id
        after (whole number, default 0)
            Only events with greater numbers
        limit (whole number, default 1000)
            The most events to return, up to 10000
    """
    return _call("job.events", events, locals())


def list_(state=None, limit=50):
    """
    Return the jobs, the newest first: calls that take long, which the daemon runs in processes of their own.

    Secret arguments are masked. Jobs that ended are forgotten after jobs.keep_days, and beyond jobs.keep.

        salt-call castoff_job.list state=running

    Usage: castoff_job.list [state=None] [limit=50]

    Arguments:
        state (text, default None)
            Only those that are queued, running, done, failed or cancelled
        limit (whole number, default 50)
            The most jobs to return, up to 1000
    """
    return _call("job.list", list_, locals())


def retry(id, test=False):
    """
    Put the call of a job that failed or was cancelled into the queue again, as a new job; return its id.

    The daemon runs it; a job that died with its process is run again without this.

        salt-call castoff_job.retry 01arz3ndektsv4rrffq69g5fav

    Usage: castoff_job.retry id [test=False]

    Arguments:
        id (text)
            The job's id
        test (boolean, default False)
            Only say what would be done.
    """
    return _call("job.retry", retry, locals())


def show(id):
    """
    Return a job: its call, its state, and its result or why it failed.

        salt-call castoff_job.show 01arz3ndektsv4rrffq69g5fav

    Usage: castoff_job.show id

    Arguments:
        id (text)
            The job's id
    """
    return _call("job.show", show, locals())
