"""
castoff's client for Salt: one call, one answer.

Over the daemon's unix socket where there is one, else through the binary (an argument vector, never a shell). A socket
that is there but does not answer is an error, never a reason to try something else. Every failure is a
:py:class:`CastoffError`, which Salt shows without a traceback. Importing this opens nothing; it needs only the standard
library and Salt's exceptions.
"""

import http.client
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from urllib.parse import quote

from salt.exceptions import CommandExecutionError

log = logging.getLogger(__name__)

SYSTEM_SOCKET = "/run/castoff/castoff.sock"
#: Seconds until a pillar, and until any other answer, must be there whole; longer work is a job.
PILLAR_TIMEOUT = 10
CALL_TIMEOUT = 90
#: Seconds a job is followed while the daemon does not answer, as during its restart.
JOB_PATIENCE = 60
#: The most bytes an answer may have.
LARGEST_ANSWER = 256 * 1024 * 1024

_ARGUMENT_NAME = re.compile(r"[^\W\d][\w.-]*\Z")
_KINDS_BY_EXIT_CODE = {
    64: "usage", 65: "corrupt", 66: "not-found", 69: "unavailable", 70: "limit", 73: "conflict", 74: "no-space",
    75: "interrupted", 76: "unsupported", 77: "refused", 255: "usage",
}  # fmt: skip


class CastoffError(CommandExecutionError):
    """A failure that castoff, or the way to it, told: what happened to what, why, and what to do next."""

    def __init__(self, message, kind="failed", causes=(), hint=None):
        self.kind = kind
        text = "\nCaused by: ".join([str(message), *(str(cause) for cause in causes)])
        super().__init__(text + f"\n\nhint: {hint}" if hint else text)


class NotInstalled(CastoffError):
    """This host has neither castoff's daemon nor its binary."""

    def __init__(self):
        super().__init__(f"castoff is not installed on {socket.gethostname()}", kind="unsupported")


def option(opts, name, default=None):
    """The value of ``castoff.NAME``, or of NAME in map ``castoff``, in Salt's configuration."""
    nested = opts.get("castoff")
    value = opts.get(f"castoff.{name}", nested.get(name) if isinstance(nested, dict) else None)
    return default if value is None else value


def connect(opts, path=None, timeout=None):
    """
    The way to castoff on this host: the daemon where its socket is, else the binary, else :py:class:`NotInstalled`.

    ``path`` is a socket that must be there; else ``castoff.socket`` of Salt's configuration, CASTOFF_SOCKET, the
    system's place and the user's are looked at in this order, the first two being binding as well.
    """
    for named in (path, option(opts, "socket"), os.environ.get("CASTOFF_SOCKET")):
        if named:
            if not isinstance(named, str) or not named.startswith("/"):
                raise CastoffError(f"`{named}` is not the absolute path of a socket", kind="usage")
            return Daemon(named, timeout)
    places = [SYSTEM_SOCKET]
    if os.geteuid() != 0 and os.environ.get("XDG_RUNTIME_DIR"):
        places.append(os.path.join(os.environ["XDG_RUNTIME_DIR"], "castoff.sock"))
    for place in places:
        if _exists(place):
            return Daemon(place, timeout)
    binary = shutil.which(option(opts, "binary", "castoff"))
    if binary is None:
        raise NotInstalled
    return Process(binary, timeout)


def installed(opts):
    """Whether this host has castoff: somebody named its socket, or the socket or the binary is there."""
    try:
        connect(opts)
    except NotInstalled:
        return False
    return True


def judge_settings(opts, settings):
    """Raises what castoff has against these settings; they would win over all others."""
    binary = shutil.which(option(opts, "binary", "castoff"))
    if binary is None:
        raise NotInstalled
    Process(binary, CALL_TIMEOUT, CASTOFF_SETTINGS=_encode(settings)).call("mc_cloud_images.settings")


def _exists(path):
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # A folder that may not be entered hides the socket; its absence must not be concluded from that.
        raise CastoffError(
            f"cannot look at castoff's socket `{path}`: {error.strerror}",
            kind="refused",
            hint="let Salt's user into group `castoff`, or name the group in castoff's `salt_group`",
        ) from error
    return True


def public(arguments):
    """The keyword arguments without those that Salt adds (``__pub_fun`` and its like)."""
    return {name: value for name, value in arguments.items() if not name.startswith("__")}


def _decode(text, origin):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CastoffError(f"{origin} gave an answer that is not JSON", kind="corrupt", causes=[error]) from error


def _document(value, origin):
    """A minion's pillar, which is a map whatever happens: Salt breaks every command on anything else."""
    if not isinstance(value, dict):
        raise CastoffError(f"{origin} gave a pillar that is not a map", kind="corrupt")
    if "_errors" in value:
        raise CastoffError("; ".join(map(str, value["_errors"] or ["castoff gave no reason"])))
    return value


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        end = time.monotonic() + self.timeout
        while True:
            try:
                return self.sock.connect(self.path)
            except BlockingIOError:
                # The queue of connections is full just now; a unix socket does not wait for that by itself.
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def cut(self):
        """Ends the connection from another thread: whoever reads from it stops."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):
            pass  # It has ended already.


class Daemon:
    """castoff's daemon behind a unix socket."""

    def __init__(self, path, timeout=None):
        self.path = path
        self.timeout = None if timeout is None else _seconds(timeout)

    def __str__(self):
        return f"castoff's daemon at `{self.path}`"

    def call(self, function, arg=(), kwarg=None, minion=None):
        """What a function returns, and its return code; work that takes long is followed to its end."""
        body = {"fun": function, "arg": list(arg), "kwarg": public(kwarg or {})}
        if minion:
            body["minion"] = minion
        answer = self._request("POST", "/v1/call", CALL_TIMEOUT, body)
        if "job" in answer:
            answer = self._follow(function, str(answer["job"]))
        return _result(answer, self)

    def pillar(self, minion_id):
        """The pillar of one minion."""
        # An id that is no path segment is quoted here and refused there.
        answer = self._request("GET", f"/v1/pillar/{quote(minion_id, safe='')}", PILLAR_TIMEOUT)
        return _document(answer, self)

    def pillars(self, minion_ids):
        """The pillars of many minions, and why some have none."""
        answer = self._request("POST", "/v1/pillar", CALL_TIMEOUT, {"minions": list(minion_ids), "prefixed": True})
        try:
            return dict(answer["pillars"]), dict(answer["errors"])
        except (KeyError, TypeError, ValueError) as error:
            raise CastoffError(f"{self} gave pillars that are no maps", kind="corrupt") from error

    def _follow(self, function, job):
        pause, silent_since = 0.05, None
        while True:
            try:
                record = self._request("GET", f"/v1/jobs/{quote(job, safe='')}", CALL_TIMEOUT)
                silent_since = None
            except CastoffError as error:
                silent_since = silent_since or time.monotonic()
                if error.kind not in ("unavailable", "timeout") or time.monotonic() - silent_since > JOB_PATIENCE:
                    raise CastoffError(
                        f"{function} became job {job}, whose end is not known",
                        kind=error.kind,
                        causes=[error],
                        hint=f"ask for it with `castoff call job.show {job}`; it may still be at work",
                    ) from error
                record = {"state": "queued"}
            state = record.get("state")
            if state == "done":
                return record
            if state not in ("queued", "running"):
                error = record.get("error") or {}
                _raise(error if isinstance(error, dict) else {"message": error}, f"{function}: job {job} is {state}")
            time.sleep(pause)
            pause = min(pause * 1.5, 2)

    def _request(self, method, path, timeout, body=None):
        timeout = self.timeout or timeout
        text = None if body is None else _encode(body).encode("utf-8", "surrogatepass")
        end = time.monotonic() + timeout
        while True:
            status, headers, content = self._exchange(method, path, text, timeout)
            wait = _whole_number(headers.get("Retry-After"))
            if status != 503 or wait is None or time.monotonic() + wait > end:
                break
            # Too many callers at once: the call was not begun.
            time.sleep(max(wait, 0.1))
        answer = _decode(content, self)
        if not 200 <= status < 300:
            _raise_answer(answer, f"{self} answered {status}")
        if headers.get("Castoff-Stale"):
            log.warning("%s answers %s with what was true %s s ago", self, path, headers["Castoff-Stale"])
        if not isinstance(answer, dict):
            raise CastoffError(f"{self} gave an answer that is not a map", kind="corrupt")
        return answer

    def _exchange(self, method, path, text, timeout):
        connection = _Connection(self.path, timeout)
        # The socket's own time-out begins anew with every byte; this one does not.
        late = threading.Event()
        watch = threading.Timer(timeout, lambda: (late.set(), connection.cut()))
        watch.daemon = True
        headers = {"Accept": "application/json", "Connection": "close"}
        if text is not None:
            headers["Content-Type"] = "application/json"
        try:
            watch.start()
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            content = response.read(LARGEST_ANSWER + 1)
            if late.is_set() or (response.length and len(content) <= LARGEST_ANSWER):
                raise http.client.IncompleteRead(content, response.length)
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise CastoffError(
                    f"{self} gave no whole answer within {timeout:g} s",
                    kind="timeout",
                    hint="`journalctl -u castoff` says what it is doing; a changing call may still be at work",
                ) from error
            raise CastoffError(
                f"{self} does not answer",
                kind="unavailable",
                causes=[getattr(error, "strerror", None) or repr(error)],
                hint="`systemctl status castoff` says how it is",
            ) from error
        finally:
            watch.cancel()
            connection.close()
        if len(content) > LARGEST_ANSWER:
            raise CastoffError(f"{self} gave an answer of more than {LARGEST_ANSWER} bytes", kind="limit")
        return response.status, response.headers, content


class Process:
    """castoff's binary, where no daemon is: each call is a process that ends with it; ``environment`` is added."""

    def __init__(self, binary, timeout=None, **environment):
        self.binary = binary
        self.environment = environment
        self.timeout = None if timeout is None else _seconds(timeout)

    def __str__(self):
        return f"`{self.binary}`"

    def call(self, function, arg=(), kwarg=None, minion=None):
        """What a function returns, and its return code."""
        words = ["call", "--out=json", "--out-indent=-1", "--retcode-passthrough"]
        words += ["--minion-data=-"] if minion else []
        # Text in JSON's quotes is that text for castoff, whatever it looks like.
        words += ["--", function, *map(_encode, arg)]
        for name, value in public(kwarg or {}).items():
            if not _ARGUMENT_NAME.match(name):
                raise CastoffError(f"`{name}` cannot be the name of an argument", kind="usage")
            words.append(f"{name}={_encode(value)}")
        # The work is this process's own and may take as long as it takes; only an explicit limit ends it.
        done = self._run(words, self.timeout, _encode(minion) if minion else "")
        if not done.stdout.strip():
            raise self._failure(done)
        answer = _decode(done.stdout, self)
        if not isinstance(answer, dict) or "local" not in answer:
            raise CastoffError(f"{self} gave an answer without a result", kind="corrupt")
        return answer["local"], done.returncode

    def pillar(self, minion_id):
        """The pillar of one minion."""
        done = self._run(["pillar", "--", minion_id], self.timeout or PILLAR_TIMEOUT)
        if done.returncode != 0:
            raise self._failure(done)
        return _document(_decode(done.stdout, self), self)

    def pillars(self, minion_ids):
        """The pillars of many minions, and why some have none."""
        pillars, errors = {}, {}
        for minion_id in minion_ids:
            try:
                pillars[minion_id] = self.pillar(minion_id)
            except CastoffError as error:
                errors[minion_id] = str(error)
        return pillars, errors

    def _run(self, words, timeout, given=""):
        try:
            return subprocess.run(  # pylint: disable=subprocess-run-check
                [self.binary, *words],
                input=given,
                capture_output=True,
                timeout=timeout,
                encoding="utf-8",
                env={**os.environ, **self.environment},
            )
        except subprocess.TimeoutExpired as error:
            raise CastoffError(f"{self} did not end within {timeout:g} s", kind="timeout") from error
        except (OSError, ValueError) as error:
            raise CastoffError(f"{self} cannot be run", kind="unavailable", causes=[error]) from error

    def _failure(self, done):
        kind = _KINDS_BY_EXIT_CODE.get(done.returncode, "failed")
        told = re.sub(r"\A(Error running '[^']*'|error): ", "", done.stderr.strip())
        return CastoffError(told or f"{self} ended with {done.returncode} and said nothing", kind=kind)


def _seconds(timeout):
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise CastoffError(f"`{timeout}` is not a time-out in seconds", kind="usage")
    return seconds


def _whole_number(text):
    return int(text) if text and text.isascii() and text.isdigit() else None


def _encode(value):
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CastoffError("an argument cannot be written as JSON", kind="usage", causes=[error]) from error


def _result(answer, origin):
    if not isinstance(answer, dict) or "return" not in answer:
        raise CastoffError(f"{origin} gave an answer without a result", kind="corrupt")
    return answer["return"], int(answer.get("retcode") or 0)


def _raise(error, otherwise):
    causes = error.get("causes")
    raise CastoffError(
        error.get("message") or otherwise,
        kind=error.get("kind") or "failed",
        causes=causes if isinstance(causes, list) else (),
        hint=error.get("hint"),
    )


def _raise_answer(answer, otherwise):
    if isinstance(answer, dict):
        if isinstance(answer.get("_errors"), list) and answer["_errors"]:
            raise CastoffError("; ".join(map(str, answer["_errors"])))
        if isinstance(answer.get("error"), dict):
            _raise(answer["error"], otherwise)
    raise CastoffError(otherwise)
