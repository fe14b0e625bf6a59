#!/usr/bin/env python3
"""castoff's SFTP upload against OpenSSH's sftp, scp and rsync, in one run: prints tables, judges nothing.

upload.py UPLOAD FOLDER: UPLOAD is the example program `upload`; FOLDER holds the files, best on a tmpfs. A server of its
own is started on the loopback; the second table is behind a round trip of UPLOAD_DELAY_MS (40): in a network namespace
with netem where the kernel has it, else through a proxy that keeps every byte for half of it in each direction.
UPLOAD_RUNS (3) and UPLOAD_MIB (500) say how often and how much; the slow line gets a quarter of it. What each client
needs to log in is measured apart and shown, not subtracted.
"""

import collections
import contextlib
import os
import pwd
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time

import measure

program, folder = sys.argv[1:3]
in_namespace = sys.argv[3:] == ["namespace"]
runs = int(os.environ.get("UPLOAD_RUNS", "3"))
mib = int(os.environ.get("UPLOAD_MIB", "500"))
delay = int(os.environ.get("UPLOAD_DELAY_MS", "40")) / 1000
user = pwd.getpwuid(os.getuid()).pw_name


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"nobody answers at port {port}")


class Way:
    """One direction of a connection: bytes with the time at which they may go on."""

    # More than any client has under way; beyond it the sender waits, as on a real line.
    LIMIT = 64 << 20

    def __init__(self, source, sink):
        self.source, self.sink, self.queue, self.held, self.ended = source, sink, collections.deque(), 0, False

    def take(self, now):
        if self.ended or self.held >= self.LIMIT:
            return False
        try:
            data = self.source.recv(1 << 20)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        self.ended = not data
        self.queue.append((now + delay / 2, memoryview(data)))
        self.held += len(data)
        return True

    def give(self, now):
        moved = False
        while self.queue and self.queue[0][0] <= now:
            due, data = self.queue[0]
            if not data:
                self.sink.shutdown(socket.SHUT_WR)
                self.queue.popleft()
                continue
            try:
                count = self.sink.send(data)
            except BlockingIOError:
                return moved
            except OSError:
                self.queue.clear()
                return moved
            self.held -= count
            moved = True
            if count == len(data):
                self.queue.popleft()
            else:
                self.queue[0] = (due, data[count:])
        return moved


def proxy(listener, target):
    """Serves one connection after another, for ever."""
    while True:
        client, _ = listener.accept()
        server = socket.create_connection(("127.0.0.1", target))
        selector = selectors.DefaultSelector()
        for side in (client, server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(side, selectors.EVENT_READ)
        ways = [Way(client, server), Way(server, client)]
        try:
            while not all(way.ended and not way.queue for way in ways):
                now = time.monotonic()
                moved = [way.take(now) for way in ways] + [way.give(now) for way in ways]
                if any(moved):
                    continue
                due = [way.queue[0][0] - now for way in ways if way.queue]
                # What is ended would be readable for ever.
                if any(way.ended for way in ways) or any(wait <= 0 for wait in due):
                    time.sleep(0.001)
                else:
                    selector.select(min(due, default=0.05))
        except OSError:
            pass
        selector.close()
        client.close()
        server.close()


def start_proxy(target):
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        try:
            proxy(listener, target)
        finally:
            os._exit(1)
    port = listener.getsockname()[1]
    listener.close()
    return pid, port


def start_sshd():
    for name in ("host", "id"):
        for file in (f"{folder}/{name}", f"{folder}/{name}.pub"):
            if os.path.exists(file):
                os.remove(file)
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", f"{folder}/{name}"], check=True)
    port = free_port()
    with open(f"{folder}/sshd_config", "w") as file:
        file.write(f"ListenAddress 127.0.0.1\nPort {port}\nPidFile none\nHostKey {folder}/host\nUsePAM no\nStrictModes no\n"
                   f"AuthorizedKeysFile {folder}/id.pub\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n")
    os.makedirs("/run/sshd", exist_ok=True)
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    child = subprocess.Popen([sshd, "-D", "-e", "-f", f"{folder}/sshd_config"], stderr=subprocess.DEVNULL)
    wait_for(port)
    return child, port


def clients(port, source):
    """Name and command of each client."""
    target = f"{folder}/target"
    options = ["-F", "none", "-i", f"{folder}/id", "-o", f"UserKnownHostsFile={folder}/known_hosts", "-o", "BatchMode=yes"]
    place = f"{user}@127.0.0.1"
    ssh = " ".join(["ssh", "-p", str(port), *options])
    with open(f"{folder}/batch", "w") as file:
        file.write(f"put {source} {target}/sftp.part\nrename {target}/sftp.part {target}/sftp\n")
    return [
        ("sftp", ["sftp", "-q", "-P", str(port), *options, "-b", f"{folder}/batch", place]),
        ("castoff", [program, source, "castoff", f"sftp://{place}:{port}{target}", f"{folder}/id",
                     f"{folder}/known_hosts"]),
        ("scp", ["scp", "-q", "-P", str(port), *options, source, f"{place}:{target}/scp"]),
        ("rsync -e ssh", ["rsync", "--whole-file", "-e", ssh, source, f"{place}:{target}/rsync"]),
    ]


def table(title, port, size):
    source, empty = f"{folder}/source", f"{folder}/empty"
    with open("/dev/urandom", "rb") as random, open(source, "wb") as file:
        for _ in range(size):
            file.write(random.read(1 << 20))
    open(empty, "wb").close()
    with open(f"{folder}/host.pub") as file:
        key = " ".join(file.read().split()[:2])
    with open(f"{folder}/known_hosts", "w") as file:
        file.write(f"[127.0.0.1]:{port} {key}\n")
    found = {}
    # In turns, so that what else the machine does falls on all alike.
    for _ in range(runs):
        for what in (source, empty):
            for name, command in clients(port, what):
                shutil.rmtree(f"{folder}/target", ignore_errors=True)
                os.mkdir(f"{folder}/target")
                found.setdefault((name, what), []).append(measure.run([command]))
                arrived = [os.path.getsize(f"{folder}/target/{file}") for file in os.listdir(f"{folder}/target")]
                if arrived != [os.path.getsize(what)]:
                    raise RuntimeError(f"{name}: {arrived} arrived")
    print(f"\n{title}, {size} MiB, median of {runs}\n")
    print(f"{'':14} {'wall s':>7} {'x sftp':>7} {'CPU s':>7} {'x sftp':>7} {'MiB':>5} {'login s':>8}")
    peer = measure.best(found["sftp", source])
    for name, what in found:
        if what == source:
            cost, login = measure.best(found[name, what]), measure.best(found[name, empty])
            print(f"{name:14} {cost.wall:>7.2f} {cost.wall / peer.wall:>7.2f} {cost.cpu:>7.2f} {cost.cpu / peer.cpu:>7.2f} "
                  f"{cost.rss / 2**20:>5.0f} {login.wall:>8.2f}")


# How a namespace says that this kernel cannot delay packets.
NO_NETEM = 7


def slow_line(size):
    """The second table, in a namespace of its own if that can be slow, else through the proxy."""
    command = ["unshare", "--net", sys.executable, __file__, program, folder, "namespace"]
    status = subprocess.run(command).returncode
    if status not in (0, NO_NETEM):
        raise RuntimeError(f"{' '.join(command)}: exit {status}")
    if status == 0:
        return
    with server() as port:
        helper, slow = start_proxy(port)
        try:
            table(f"{delay * 1000:.0f} ms round trip by a delaying proxy", slow, size)
        finally:
            os.kill(helper, signal.SIGTERM)
            os.waitpid(helper, 0)


def namespace(size):
    """Inside: the loopback is all there is, and each packet on it waits for half a round trip."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # More packets than any client has under way: the queue must not lose what a line would carry.
    netem = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", f"{delay * 500:g}ms", "limit", "100000"]
    if subprocess.run(netem, stderr=subprocess.DEVNULL).returncode != 0:
        sys.exit(NO_NETEM)
    with server() as port:
        table(f"{delay * 1000:.0f} ms round trip by netem", port, size)


@contextlib.contextmanager
def server():
    sshd, port = start_sshd()
    try:
        yield port
    finally:
        sshd.terminate()
        sshd.wait()


def main():
    if in_namespace:
        namespace(max(mib // 4, 1))
        return
    os.makedirs(folder, mode=0o700, exist_ok=True)
    try:
        print(measure.machine(), flush=True)
        with server() as port:
            table("loopback", port, mib)
        sys.stdout.flush()
        slow_line(max(mib // 4, 1))
    finally:
        shutil.rmtree(folder)


main()
