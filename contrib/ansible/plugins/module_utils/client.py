"""Talks to castoff: to its daemon over a unix socket or TLS, or, where no socket exists, by running the binary.

Standard library only: modules carry this file to their targets. Every wait has an end, every failure is a
`CastoffError` with a kind, a message and, where castoff knows one, a hint.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import socket
import ssl
import subprocess
import time
import urllib.parse

CONNECT_SECONDS = 10
ANSWER_SECONDS = 60
LARGEST_ANSWER = 64 * 1024 * 1024
# The longest pause between two looks at a job.
LOOK_SECONDS = 1.0
# How long a job is followed while the daemon does not answer, as during its restart.
JOB_PATIENCE = 60

ARGUMENTS = {
    "socket": {"type": "path"},
    "url": {"type": "str"},
    "token": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path", "no_log": False},
    "executable": {"type": "path"},
    "timeout": {"type": "int", "default": 3600},
}

# What `castoff call --retcode-passthrough` exits with.
KINDS = {
    1: "failed", 64: "usage", 65: "corrupt", 66: "not-found", 69: "unavailable", 70: "limit", 73: "conflict",
    74: "no-space", 75: "interrupted", 76: "unsupported", 77: "refused", 255: "not-found",
}
# What a pillar that is none says of its kind.
STATUSES = {
    400: "usage", 401: "refused", 403: "refused", 404: "not-found", 409: "conflict", 413: "limit", 422: "corrupt",
    501: "unsupported", 503: "unavailable", 504: "unavailable", 507: "no-space",
}
CODES = {kind: code for code, kind in KINDS.items() if code != 255}

# `key` alone is a place in the settings, `api_key` is a secret.
SECRET = re.compile("password|passwd|secret|token|credential|[a-z]_?key$", re.IGNORECASE)


class CastoffError(Exception):
    """What happened to what, of which kind, why, and what to do next."""

    def __init__(self, kind, message, hint=None, causes=(), retcode=None):
        super().__init__(message)
        self.kind, self.message, self.hint = kind, message, hint
        self.causes, self.retcode = list(causes), retcode or CODES.get(kind, 1)

    def text(self):
        """The whole text a person reads."""
        lines = [self.message]
        lines.extend("Caused by: " + cause for cause in self.causes)
        if self.hint:
            lines.append("hint: " + self.hint)
        return "\n".join(lines)

    def facts(self):
        """The members of a failed task's result, besides `msg`."""
        return {"kind": self.kind, "hint": self.hint, "causes": self.causes, "retcode": self.retcode}


class Outcome:
    """What a function returned, and Salt's code for it."""

    def __init__(self, value, retcode=0, job=None):
        self.value, self.retcode, self.job = value, retcode, job


def default_socket():
    """Where a daemon listens that nobody configured otherwise."""
    told = os.environ.get("CASTOFF_SOCKET")
    if told:
        return told
    folder = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() != 0 and folder:
        return os.path.join(folder, "castoff.sock")
    return "/run/castoff/castoff.sock"


def connect(options, warn=None):
    """The castoff that the options of `doc_fragments/conn.py` mean."""
    options = dict(options)
    executable = options.get("executable")
    if executable and os.path.basename(executable) == "salt-call":
        if warn:
            warn("`executable` is ignored: %s is not castoff" % executable)
        executable = None
    if options.get("url"):
        return Daemon(options)
    path = options.get("socket") or default_socket()
    options["socket"] = path
    try:
        there = os.path.lexists(path)
    except ValueError:
        raise CastoffError("usage", "`socket` is not a path") from None
    if there:
        return Daemon(options)
    if executable:
        return Program(executable, options)
    raise CastoffError("unavailable", "there is no castoff daemon: `%s` does not exist" % path,
                       "start castoff.service, name its `socket`, or give the `executable` of castoff")


class Castoff:
    """What both ways of reaching castoff share."""

    def settings(self, minion=None, prefixed=False):
        """The image settings of a minion, or without one of the machine castoff runs on."""
        if minion is None:
            value = self.call("mc_cloud_images.settings").value
        else:
            value = self.pillar(minion, prefixed)
        if not isinstance(value, dict):
            raise CastoffError("corrupt", "castoff gave settings that are no map")
        return value


class Daemon(Castoff):
    """A castoff daemon."""

    def __init__(self, options):
        self.deadline = time.monotonic() + (options.get("timeout") or ARGUMENTS["timeout"]["default"])
        self.token = options.get("token") or os.environ.get("CASTOFF_TOKEN")
        self.url = options.get("url")
        self.path = options.get("socket")
        self.context = None
        if not self.url:
            self.name = self.path
            return
        self.parts = urllib.parse.urlsplit(self.url)
        self.name = self.url
        if self.parts.scheme not in ("http", "https") or not self.parts.hostname:
            raise CastoffError("usage", "`url` is not the address of a daemon: %s" % self.url,
                               "it looks like https://HOST:PORT")
        if self.parts.username or self.parts.password:
            raise CastoffError("usage", "`url` holds a user name or password", "use `token`")
        if self.parts.scheme == "https":
            self.context = tls(options)
        elif self.parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            raise CastoffError("refused", "%s is not encrypted" % self.url, "use https")

    def changes(self, function):
        """Whether the function changes anything; none if there is no such function."""
        for row in self.ask("GET", "/v1/functions")[1]["functions"]:
            if row["name"] == function:
                return bool(row["changes"])
        return None

    def call(self, function, words=(), named=None):
        """Calls the function and waits for its result, also where it becomes a job."""
        body = {"fun": function}
        if words:
            body["words"] = list(words)
        if named:
            body["kwarg"] = named
        status, answer = self.ask("POST", "/v1/call", body)
        if status == 202:
            return self.follow(answer["job"])
        return Outcome(answer.get("return"), answer.get("retcode", 0))

    def pillar(self, minion, prefixed):
        """What `castoff pillar` prints for the minion."""
        path = "/v1/pillar/%s?prefixed=%s" % (urllib.parse.quote(minion, safe=""), str(bool(prefixed)).lower())
        return self.ask("GET", path)[1]

    def follow(self, job):
        """Waits until the job is over; a job that takes longer than the caller waits is cancelled."""
        path, pause = "/v1/jobs/" + urllib.parse.quote(job, safe=""), 0.02
        heard = time.monotonic()
        while True:
            try:
                found = self.ask("GET", path)[1]
                heard = time.monotonic()
            except CastoffError as error:
                if error.kind != "unavailable" or time.monotonic() > heard + JOB_PATIENCE:
                    raise
                found = {"state": "running"}
            state = found.get("state")
            if state == "done":
                return Outcome(found.get("return"), found.get("retcode") or 0, job)
            if state not in ("queued", "running"):
                raise failure(found.get("error"), "job %s is %s" % (job, state))
            if time.monotonic() + pause > self.deadline:
                # A deadline of its own, or nothing could be said to the daemon any more.
                self.deadline = time.monotonic() + CONNECT_SECONDS
                self.ask("DELETE", path)
                raise CastoffError("interrupted", "job %s was not done in time and is cancelled" % job,
                                   "give a longer `timeout`")
            time.sleep(pause)
            pause = min(pause * 1.5, LOOK_SECONDS)

    def ask(self, method, path, body=None):
        """Status and document of one request; an answer that is an error is raised."""
        headers = {"Accept": "application/json"}
        if self.token and self.url:
            headers["Authorization"] = "Bearer " + self.token
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogateescape")
        connection = self.connection()
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self.unreachable(error) from None
        finally:
            connection.close()
        if len(text) > LARGEST_ANSWER:
            raise CastoffError("limit", "the answer of %s is larger than 64 MiB" % self.name)
        return self.judge(answer.status, text)

    def judge(self, status, text):
        """The document of an answer that is no error."""
        if status == 204:
            return status, None
        try:
            document = json.loads(text.decode("utf-8"))
        except ValueError:
            raise CastoffError("corrupt", "%s answered %d, and not in JSON" % (self.name, status),
                               "is it the daemon of castoff?") from None
        if not isinstance(document, dict):
            raise CastoffError("corrupt", "%s answered %d with something that is no map" % (self.name, status))
        if document.get("_errors"):
            raise CastoffError(STATUSES.get(status, "failed"), "; ".join(str(error) for error in document["_errors"]))
        if status >= 400:
            raise failure(document.get("error"), "%s answered %d" % (self.name, status))
        return status, document

    def connection(self):
        """An open way to the daemon, with time-outs."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise CastoffError("unavailable", "%s did not answer in time" % self.name, "give a longer `timeout`")
        if not self.url:
            return UnixConnection(self.path, min(left, ANSWER_SECONDS))
        host, port = self.parts.hostname, self.parts.port
        if self.context:
            return http.client.HTTPSConnection(host, port, timeout=min(left, ANSWER_SECONDS), context=self.context)
        return http.client.HTTPConnection(host, port, timeout=min(left, ANSWER_SECONDS))

    def unreachable(self, error):
        """What a failed connection means."""
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, PermissionError):
            return CastoffError("refused", "the castoff daemon at %s is not open to this user: %s" % (self.name, why),
                                "run as root (become), or join the group castoff")
        message = "the castoff daemon at %s does not answer: %s" % (self.name, why.strip())
        if isinstance(error, ssl.SSLCertVerificationError):
            return CastoffError("refused", message, "`ca_file` names the certificates that are trusted")
        hint = "look at it with `systemctl status castoff`"
        return CastoffError("unavailable", message, hint if self.url else hint + ", or remove a left-over socket")


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(min(self.timeout, CONNECT_SECONDS))
        self.sock.connect(self.path)
        self.sock.settimeout(self.timeout)


class Program(Castoff):
    """The binary, one process a call."""

    def __init__(self, executable, options):
        self.executable, self.options = executable, options
        self.seconds = options.get("timeout") or ARGUMENTS["timeout"]["default"]

    def changes(self, function):
        """Whether the function changes anything; none if there is no such function."""
        rows = self.call("sys.argspec", [json.dumps(function)]).value
        row = rows.get(function) if isinstance(rows, dict) else None
        return None if row is None else "test" in (row.get("args") or [])

    def call(self, function, words=(), named=None):
        """Calls the function and waits for its result."""
        words = list(words) + [name + "=" + as_word(value) for name, value in (named or {}).items()]
        command = [self.executable, "call", "--out=json", "--retcode-passthrough"]
        if self.options.get("config_dir"):
            command += ["-c", self.options["config_dir"]]
        command += ["-l", self.options.get("loglevel") or "error", "--", function]
        code, out, told = self.run(command + words)
        try:
            return Outcome(json.loads(out)["local"], code)
        except (ValueError, KeyError, TypeError):
            raise complaint(code, told) from None

    def pillar(self, minion, prefixed):
        """What `castoff pillar` prints for the minion."""
        command = [self.executable, "pillar", "--prefixed=" + str(bool(prefixed)).lower(), "--", minion]
        code, out, told = self.run(command)
        try:
            document = json.loads(out)
        except ValueError:
            raise complaint(code, told) from None
        if code != 0 or not isinstance(document, dict) or document.get("_errors"):
            raise complaint(code or 1, told or out)
        return document

    def run(self, command):
        """Exit code, output and complaints of a command, which is killed when its time is over."""
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  timeout=self.seconds, check=False)
        except subprocess.TimeoutExpired:
            raise CastoffError("interrupted", "%s was not done in %d seconds and is stopped"
                               % (self.executable, self.seconds), "give a longer `timeout`") from None
        except (OSError, ValueError) as error:
            raise CastoffError("unavailable", "cannot run %s: %s"
                               % (self.executable, getattr(error, "strerror", None) or error)) from None
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def tls(options):
    """How a server is checked and who asks it."""
    try:
        context = ssl.create_default_context(cafile=options.get("ca_file"))
        if options.get("client_cert"):
            context.load_cert_chain(options["client_cert"], options.get("client_key"))
    except (OSError, ssl.SSLError) as error:
        raise CastoffError("usage", "cannot use `ca_file` or `client_cert`: %s" % error) from None
    return context


def failure(error, message):
    """The error that castoff's own words tell of."""
    if not isinstance(error, dict):
        return CastoffError("failed", str(error) if error else message)
    return CastoffError(error.get("kind") or "failed", error.get("message") or message, error.get("hint"),
                        error.get("causes") or ())


def complaint(code, told):
    """The error that the binary printed: message, causes, hint."""
    message, causes, hint = [], [], None
    for line in told.strip().splitlines():
        if line.startswith("Caused by: "):
            causes.append(line[len("Caused by: "):])
        elif line.startswith("hint: "):
            hint = line[len("hint: "):]
        elif line.strip() and not causes:
            message.append(line[len("error: "):] if line.startswith("error: ") else line)
    return CastoffError(KINDS.get(code, "failed"), "\n".join(message) or "castoff exited with %d" % code, hint,
                        causes, code)


def as_word(value):
    """A value as the word that castoff reads as this value."""
    return json.dumps(value, ensure_ascii=False)


def words_of(arguments):
    """The words of `args`: text as a shell would split it, or a list of words and values."""
    if arguments is None:
        return []
    if isinstance(arguments, str):
        try:
            return shlex.split(arguments)
        except ValueError as error:
            raise CastoffError("usage", "`args` cannot be split into words: %s" % error,
                               "give a list, or `kwargs`") from None
    if isinstance(arguments, (list, tuple)):
        return [item if isinstance(item, str) else as_word(item) for item in arguments]
    return [as_word(arguments)]


def secrets(words, named):
    """The values of arguments that are named like a secret."""
    pairs = list(named.items()) + [word.split("=", 1) for word in words if "=" in word]
    return {value for name, value in pairs if value and isinstance(value, str) and SECRET.search(name)}


def asks_only_to_tell(words, named):
    """Whether the arguments hold `test=True`."""
    told = named.get("test")
    for word in words:
        if word.startswith("test="):
            told = word[len("test="):].lower() in ("true", "yes", "on")
    return told is True or (isinstance(told, str) and told.lower() in ("true", "yes", "on"))


def has_changed(value, only_told):
    """Whether a changing function changed something, or would, by what it returned."""
    if not isinstance(value, dict):
        return True
    if isinstance(value.get("changed"), bool):
        return value["changed"]
    previous = value.get("previous")
    if isinstance(previous, dict) and previous.get("state") == "same image":
        return False
    if "blobs" in value and "store_size" in value:
        # image.gc counts what it removes.
        return bool(value.get("removed_images") or value["blobs"])
    if only_told and "result" in value:
        return value["result"] is None
    if isinstance(value.get("changes"), (dict, list)):
        return bool(value["changes"])
    return True
