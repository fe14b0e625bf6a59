#!/usr/bin/env python3
"""Asks `castoff daemon` for pillar, for some minutes, while its sources are edited, broken and mended all the time.

serving.py BINARY FOLDER MINUTES. This process holds the listening socket, as systemd does, and hands it to one daemon
after another. Judged, for each answer, against what was in the files while it was asked for:

- right: every value is one that its file held at some moment between question and answer;
- honest: while a source was broken all that time, the answer is an error, in the form that makes Salt refuse;
- complete: every question gets an answer, also while the daemon is stopped by SIGTERM and the next one starts. A
  connection that had served before may be closed under a new question, as HTTP has it; the question asked again on a
  new connection must be answered;
- bounded: memory and descriptors do not grow over the first half, in which the daemon is not restarted.
"""

import collections
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../bench"))
from cloud import CONTROLLER, FLAVORS, IMAGES, Cloud, replace, vm  # noqa: E402  the path comes first

binary, folder, minutes = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), float(sys.argv[3])
work = os.path.join(folder, "serving")
path = os.path.join(work, "castoff.sock")
seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 2**32))
ASKERS, VMS = 8, 500
RESTART_EVERY = 15
# The most a daemon may grow over the measured time, MiB, and what it may hold open when nobody asks.
GROWTH, DESCRIPTORS = 16, 8
BROKEN = "broken"


class Source:
    """What one file held, when: (from, until, content); the ends are the moments before and after the rename."""

    def __init__(self, content):
        self.lock, self.times = threading.Lock(), collections.deque([[0.0, float("inf"), content]])

    def change(self, content, write):
        with self.lock:
            self.times.append([time.monotonic(), float("inf"), content])
        write()
        with self.lock:
            self.times[-2][1] = time.monotonic()
            while len(self.times) > 400:
                self.times.popleft()

    def held(self, begin, end):
        with self.lock:
            return {content for since, until, content in self.times if since <= end and until >= begin}


class Editor(threading.Thread):
    """Edits, breaks and mends the sources."""

    def __init__(self, cloud, done):
        super().__init__(daemon=True)
        self.cloud, self.done, self.chance = cloud, done, random.Random(seed)
        self.database = Source(1)
        self.releases = {(image, flavor): Source(1) for image in IMAGES for flavor in FLAVORS}
        self.serial, self.edits, self.hurt, self.linked = 1, 0, [], None

    def run(self):
        while not self.done.wait(self.chance.uniform(0.005, 0.3)):
            self.edits += 1
            self.serial += 1
            if self.hurt and self.chance.random() < 0.6:
                self.mend(self.hurt.pop(self.chance.randrange(len(self.hurt))))
            elif self.chance.random() < 0.4:
                self.edit_database()
            else:
                self.edit_release(self.chance.choice(list(self.releases)))
        for key in self.hurt:
            self.mend(key)

    def mend(self, key):
        """Makes a source whole; `database`, or image and flavor."""
        serial = self.serial
        if key == "database":
            self.database.change(serial, lambda: replace(self.database_file(), self.cloud.database(serial)))
        else:
            self.releases[key].change(serial, lambda: replace(self.release_file(key), str(serial)))

    def damage(self, key, source, write):
        if key not in self.hurt:
            self.hurt.append(key)
        source.change(BROKEN, write)

    def database_file(self):
        return os.path.join(self.cloud.root, "database.yaml")

    def release_file(self, key):
        return os.path.join(self.cloud.versions, "{}-{}_version.txt".format(*key))

    def edit_database(self):
        target, text = self.database_file(), self.cloud.database(self.serial)
        how = self.chance.choice(["new"] * 6 + ["link", "syntax", "empty", "gone", "cut", "bomb", "list"])
        if how == "new":
            if "database" in self.hurt:
                self.hurt.remove("database")
            self.mend("database")
        elif how == "link":
            # A database may be swapped by a link that is renamed over the file.
            if "database" in self.hurt:
                self.hurt.remove("database")
            other = os.path.join(self.cloud.folder, f"elsewhere-{self.serial}.yaml")
            replace(other, text)
            os.symlink(other, target + ".link")
            self.database.change(self.serial, lambda: os.rename(target + ".link", target))
            if self.linked:
                os.remove(self.linked)
            self.linked = other
        elif how == "gone":
            self.damage("database", self.database, lambda: os.path.lexists(target) and os.remove(target))
        else:
            bomb = "a: &a [x, x]\nb0: &b0 [*a, *a]\n" + "".join(f"b{n}: &b{n} [*b{n - 1}, *b{n - 1}]\n" for n in range(1, 40))
            bad = {"syntax": text + "]: [", "empty": "", "cut": text[:len(text) // 2] + "\n  - {", "list": "- a\n",
                   "bomb": bomb}[how]
            self.damage("database", self.database, lambda: replace(target, bad))

    def edit_release(self, key):
        source, target = self.releases[key], self.release_file(key)
        how = self.chance.choice(["new"] * 6 + ["in place"] * 3 + ["word", "gone"])
        if how == "word":
            self.damage(key, source, lambda: replace(target, "twelve"))
        elif how == "gone":
            # The checksum stays: a half release is an error, not a release that is not there.
            self.damage(key, source, lambda: os.path.exists(target) and os.remove(target))
        elif how == "in place" and key not in self.hurt and os.path.getsize(target) == len(str(self.serial)):
            # The same inode and the same size: only the times tell.
            text = str(self.serial).encode()
            source.change(self.serial, lambda: write_over(target, text))
        else:
            if key in self.hurt:
                self.hurt.remove(key)
            self.mend(key)


def write_over(target, text):
    file = os.open(target, os.O_WRONLY)
    os.pwrite(file, text, 0)
    os.close(file)


class Asker(threading.Thread):
    """Asks in many ways over connections that it keeps for a while, and judges what it hears."""

    def __init__(self, number, editor, done):
        super().__init__(daemon=True)
        self.editor, self.done, self.chance = editor, done, random.Random(seed + number + 1)
        self.connection, self.used = None, False
        self.count, self.wrong, self.waits = collections.Counter(), [], []
        self.tags = {}

    def run(self):
        ways = [self.one] * 12 + [self.known] * 4 + [self.stranger, self.hostile, self.many, self.call, self.forget, self.vanish]
        while not self.done.is_set() and len(self.wrong) < 5:
            self.chance.choice(ways)()
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection, self.used = None, False

    def ask(self, method, url, body=None, headers=None):
        """Status, document and headers; asked again only where HTTP says that the question may not have been read."""
        begin = time.monotonic()
        for attempt in (1, 2):
            try:
                if self.connection is None:
                    self.connection = Unix()
                data = None if body is None else json.dumps(body)
                self.connection.request(method, url, data, {"Content-Type": "application/json", **(headers or {})})
                answer = self.connection.getresponse()
                text = answer.read()
            except (OSError, http.client.HTTPException) as error:
                used = self.used
                self.close()
                if not used or attempt == 2:
                    self.wrong.append(f"{method} {url}: lost: {error!r} on a {'used' if used else 'new'} connection")
                    return None
                self.count["asked again"] += 1
                continue
            self.used = True
            self.count["asked"] += 1
            self.waits.append(time.monotonic() - begin)
            if answer.getheader("Connection") == "close" or self.chance.random() < 0.05:
                self.close()
            return begin, time.monotonic(), answer.status, text, answer
        return None

    def fault(self, what, heard):
        self.wrong.append(f"{what}: {heard[2]} {heard[3][:600]!r} after {heard[1] - heard[0]:.3f} s")

    def judge(self, what, heard, settings, failed):
        """Whether settings, or a failure, are what the sources held meanwhile."""
        begin, end = heard[:2]
        database = self.editor.database.held(begin, end)
        releases = {key: source.held(begin, end) for key, source in self.editor.releases.items()}
        if failed:
            self.count["errors"] += 1
            if BROKEN not in database and not any(BROKEN in held for held in releases.values()):
                self.fault(f"{what}: an error while nothing was broken", heard)
            return
        if settings.get("serial") not in database:
            self.fault(f"{what}: serial {settings.get('serial')}, the database held {database}", heard)
        for (image, flavor), held in releases.items():
            version = settings["lxc"]["images"][image].get(flavor + "_tarball_ver")
            if version not in {str(content) for content in held if content != BROKEN}:
                self.fault(f"{what}: {image} {flavor} {version}, the file held {held}", heard)
            reference = settings["lxc"]["images"][image]["builder_ref"]
            if f"-{settings['serial']}." not in reference:
                self.fault(f"{what}: two databases in one answer", heard)

    def pillar(self, heard, what, known=None):
        status, text = heard[2:4]
        if status == 304:
            self.judge(what, heard, known, False)
            return None
        document = json.loads(text)
        if status == 200:
            self.judge(what, heard, document, False)
            return document
        if status < 400 or list(document) != ["_errors"]:
            self.fault(what, heard)
        self.judge(what, heard, None, True)
        return None

    def one(self):
        minion = self.chance.choice([CONTROLLER, vm(self.chance.randrange(VMS))])
        heard = self.ask("GET", f"/v1/pillar/{minion}?prefixed=false")
        if heard:
            document = self.pillar(heard, minion)
            if document:
                self.tags[minion] = (heard[4].getheader("ETag"), document)

    def known(self):
        if self.tags:
            minion, (tag, document) = self.chance.choice(list(self.tags.items()))
            heard = self.ask("GET", f"/v1/pillar/{minion}?prefixed=false", headers={"If-None-Match": tag})
            if heard:
                self.count["304"] += heard[2] == 304
                self.pillar(heard, f"{minion}, known", document)

    def stranger(self):
        heard = self.ask("GET", "/v1/pillar/stranger.example.org")
        if heard:
            document = json.loads(heard[3])
            if heard[2] == 200 and document != {"makina-states.cloud.images": {}}:
                self.fault("a stranger", heard)

    def hostile(self):
        minion = self.chance.choice(["a;b", "%24%28id%29", "..", "a%2F..%2Fb", "a%00b", "x" * 300, "-v", "%0a"])
        heard = self.ask("GET", f"/v1/pillar/{minion}")
        if heard and not 400 <= heard[2] < 500:
            self.fault(f"hostile {minion}", heard)

    def many(self):
        minions = [vm(self.chance.randrange(VMS)) for _ in range(20)]
        heard = self.ask("POST", "/v1/pillar", {"minions": [*minions, "a;b"], "prefixed": False})
        if heard:
            document = json.loads(heard[3])
            if heard[2] != 200:
                self.judge("bulk", heard, None, True)
                return
            if not document["errors"].get("a;b"):
                self.fault("bulk: a hostile id", heard)
            for minion in set(minions):
                settings = document["pillars"].get(minion)
                self.judge(f"bulk {minion}", heard, settings, settings is None)

    def call(self):
        heard = self.ask("POST", "/v1/call", {"fun": "mc_cloud_images.extpillar_settings", "kwarg": {"id_": vm(1)}})
        if heard:
            failed = heard[2] != 200
            self.judge("call", heard, None if failed else json.loads(heard[3])["return"], failed)

    def forget(self):
        heard = self.ask("POST", "/v1/call", {"fun": "settings.invalidate"})
        if heard and heard[2] != 200:
            self.fault("settings.invalidate", heard)

    def vanish(self):
        """Asks and goes away; half a question, or no question at all."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as rude:
            rude.settimeout(10)
            rude.connect(path)
            question = f"GET /v1/pillar/{vm(2)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            rude.sendall(question[:self.chance.randrange(len(question) + 1)])


class Unix(http.client.HTTPConnection):
    """HTTP over the daemon's socket."""

    def __init__(self):
        super().__init__("localhost", timeout=60)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(path)


class Holder:
    """Holds the listening socket and keeps one daemon on it."""

    def __init__(self, cloud):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(4096)
        os.dup2(listener.fileno(), 3, inheritable=True)
        self.listener = listener
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": work, "CASTOFF_CONFIG": "/dev/null", "CASTOFF_ENGINE": "store",
            "CASTOFF_STATE_DIR": os.path.join(work, "state"), "CASTOFF_SOCKET": path, "LISTEN_FDS": "1",
            **cloud.environment()}
        self.log = open(os.path.join(work, "daemon.log"), "ab")
        self.process = None
        self.start()

    def start(self):
        # The process that is named must be the daemon's own: the shell becomes it.
        self.process = subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ exec "$0" daemon', binary], pass_fds=(3,),
                                        env=self.environment, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "killed: it did not end within 60 s of SIGTERM"

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


def percentile(waits, part):
    waits = sorted(waits)
    return waits[min(len(waits) - 1, int(len(waits) * part))] * 1e3 if waits else 0.0


def fail(why):
    sys.exit(f"SOAK_SEED={seed}: {why}\n(the daemon's log is {work}/daemon.log)")


def round_of(editor_of, seconds, each_second):
    """Editor and askers for so long; returns them."""
    done = threading.Event()
    editor = editor_of(done)
    askers = [Asker(number, editor, done) for number in range(ASKERS)]
    for thread in [editor, *askers]:
        thread.start()
    until = time.monotonic() + seconds
    while time.monotonic() < until and not any(asker.wrong for asker in askers):
        time.sleep(1)
        each_second()
    done.set()
    for thread in [editor, *askers]:
        thread.join(120)
        if thread.is_alive():
            fail("a question is without an answer for two minutes")
    wrong = [what for asker in askers for what in asker.wrong]
    if wrong:
        fail("\n".join(wrong[:10]))
    return editor, askers


def told(name, editor, askers):
    count = sum((asker.count for asker in askers), collections.Counter())
    waits = [wait for asker in askers for wait in asker.waits]
    print(f"{name}: {count['asked']} answers, {count['errors']} of them errors while a source was broken, {count['304']} "
          f"unchanged, {editor.edits} edits, {count['asked again']} asked again on a closed connection; "
          f"p50 {percentile(waits, 0.5):.1f} ms, p99 {percentile(waits, 0.99):.1f} ms, most {percentile(waits, 1):.0f} ms "
          "(in these Python threads)", flush=True)


def steady(holder, cloud):
    """No restarts: right answers, and no growth."""
    memory = []
    editor, askers = round_of(lambda done: Editor(cloud, done), minutes * 30, lambda: memory.append(holder.memory()))
    told("steady", editor, askers)
    # Allocators take a while to settle: the first third is not counted.
    third = max(1, len(memory) // 3)
    early, late = max(memory[third:2 * third] or memory), max(memory[-third:])
    until = time.monotonic() + 30
    while holder.descriptors() > DESCRIPTORS + 20 and time.monotonic() < until:
        time.sleep(0.5)
    print(f"memory {memory[0]:.1f} MiB at first, {early:.1f} in the second third, {late:.1f} in the last; "
          f"{holder.descriptors()} descriptors at rest", flush=True)
    if late > early + GROWTH:
        fail(f"the daemon grew from {early:.1f} to {late:.1f} MiB")
    if holder.descriptors() > DESCRIPTORS + 20:
        fail(f"{holder.descriptors()} descriptors are open, and nobody asks")


def restarts(holder, cloud):
    """A daemon is stopped and the next one started, again and again, under load."""
    count, last = 0, time.monotonic()

    def maybe():
        nonlocal count, last
        if time.monotonic() - last > RESTART_EVERY:
            code = holder.stop()
            if code != 0:
                fail(f"the daemon ended with {code} after SIGTERM")
            holder.start()
            count, last = count + 1, time.monotonic()

    editor, askers = round_of(lambda done: Editor(cloud, done), minutes * 30, maybe)
    told(f"{count} restarts", editor, askers)


def main():
    shutil.rmtree(work, ignore_errors=True)
    cloud = Cloud(work, VMS)
    holder = Holder(cloud)
    try:
        steady(holder, cloud)
        cloud.write_all(1)
        restarts(holder, cloud)
    finally:
        code = holder.stop()
    if code != 0:
        fail(f"the daemon ended with {code} after SIGTERM")


main()
