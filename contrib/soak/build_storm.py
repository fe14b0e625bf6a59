#!/usr/bin/env python3
"""Kills builds at random moments, then lets one run: the result must be right, the trees whole, nothing left.

build_storm.py BINARY FOLDER SMALL BOOTSTRAPS. So many kills (190) in builds of a small forest on a busybox folder, and so
many (10) in builds of one that is bootstrapped from the host's own apt sources, each somewhere between the start and the
usual end, of the whole castoff or of one of the processes below it. tar and castoff's own verification judge what is left.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

binary, folder, small, bootstraps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 2**32))
chance = random.Random(seed)
state = os.path.join(folder, "state")
environment = dict(os.environ, CASTOFF_STATE_DIR=state, CASTOFF_ENGINE="store", CASTOFF_CONFIG="/dev/null")


def fail(why):
    sys.exit(f"SOAK_SEED={seed}: {why}\n(the state is left in {folder})")


def tree():
    shutil.rmtree(folder, ignore_errors=True)
    root = os.path.join(folder, "base")
    for name in ("bin", "etc", "usr/sbin", "root", "dev", "proc", "sys", "tmp"):
        os.makedirs(os.path.join(root, name))
    shutil.copy2("/bin/busybox", os.path.join(root, "bin/busybox"))
    for name in "sh cat echo mkdir dd sleep rm".split():
        os.symlink("busybox", os.path.join(root, "bin", name))
    os.makedirs(os.path.join(folder, "d/in"))


def run(line):
    return {"action": {"run": {"command": {"shell": line}, "environment": {}}}, "network": False}


def plans(base, number):
    """The number changes what is built, so that every round has something to do."""
    with open(os.path.join(folder, "d/in/number"), "w") as file:
        file.write(str(number))
    copy = {"action": {"copy-in": {"source": f"{folder}/d/in", "into": "/root"}}, "network": False}
    fill = run("for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=/tmp/x$i bs=65536 count=8 2>/dev/null; done; rm /tmp/x*")
    output = lambda name, form: {"form": form, "path": f"{folder}/{name}"}
    disk = {"disk": {"layout": "whole", "format": "qcow2", "size": "fitting"}}
    tar = {"tar": {"compression": "none"}}
    # Every tenth also has another base.
    steps = [run(f"echo {str(number)[:-1]} > /root/base"), fill]
    return [
        {"name": "base", "base": base, "steps": steps, "outputs": [output("base.img", disk)], "place": ""},
        {"name": "one", "base": {"plan": "base"}, "steps": [copy, fill, run(f"echo {number} > /root/one")],
         "outputs": [output("one.tar", tar)], "place": ""},
        {"name": "two", "base": {"plan": "base"}, "steps": [run(f"echo two-{number} > /root/two"), fill],
         "outputs": [output("two.tar", tar)], "place": ""},
    ]


def start(document, *more):
    return subprocess.Popen([binary, "call", "--out=json", "build.run", document, *more], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def below(pid):
    """Every process below this one."""
    found, children = [], {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                children.setdefault(int(file.read().rsplit(")", 1)[1].split()[1]), []).append(int(name))
        except OSError:
            continue
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child)
    return found


def check(number):
    for name, file, wanted in (("one.tar", "root/one", f"{number}\n"), ("two.tar", "root/two", f"two-{number}\n")):
        got = subprocess.run(["tar", "-xOf", f"{folder}/{name}", file], capture_output=True, text=True)
        if got.stdout != wanted:
            fail(f"{name}: {file} is {got.stdout!r}, not {wanted!r}: {got.stderr}")
    if subprocess.run(["qemu-img", "check", "-q", f"{folder}/base.img"]).returncode != 0:
        fail("base.img is damaged")


def settled(number):
    """One build that nobody disturbs, then nothing may be left of those before; how long it took."""
    document = os.path.join(folder, "d/plans.json")
    began = time.monotonic()
    process = start(document)
    out, told = process.communicate()
    took = time.monotonic() - began
    if process.returncode != 0 or not json.loads(out)["local"]["result"]:
        fail(f"the build after the kills failed:\n{told}\n{out}")
    check(number)
    verified = subprocess.run([binary, "call", "--out=json", "store.verify"], env=environment, capture_output=True, text=True)
    if not json.loads(verified.stdout)["local"]["result"]:
        fail(f"the store does not verify:\n{verified.stdout}")
    with open("/proc/self/mountinfo") as file:
        if state in file.read():
            fail("a mount is left")
    left = os.listdir(os.path.join(state, "trees/run"))
    if left:
        fail(f"left under work: {left}")
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout
    if folder in loops:
        fail(f"a loop is left:\n{loops}")
    return took


def storm(base, kills, label, *more):
    """`more` goes with the builds that are killed."""
    document = os.path.join(folder, "d/plans.json")

    def write(number):
        with open(document, "w") as file:
            json.dump(plans(base, f"{label}-{number:04}"), file)
        return f"{label}-{number:04}"

    usual = settled(write(0))
    done = rounds = 0
    while done < kills:
        rounds += 1
        if rounds > 10 * kills:
            fail(f"only {done} of {rounds} builds could be killed")
        name = write(rounds)
        process = start(document, *more)
        try:
            process.wait(timeout=chance.uniform(0.0, usual))
            process.communicate()
        except subprocess.TimeoutExpired:
            victims = below(process.pid)
            victim = process.pid if not victims or chance.random() < 0.6 else chance.choice(victims)
            try:
                os.kill(victim, signal.SIGKILL)
                done += 1
            except ProcessLookupError:
                pass
            process.communicate()
        if rounds % 10 == 9:
            settled(name)
    settled(name)
    deadline = time.monotonic() + 30
    while any("castoff" in open(f"/proc/{name}/comm").read() for name in below(os.getpid())):
        if time.monotonic() > deadline:
            fail("a process is left")
        time.sleep(0.1)
    print(f"{label}: {rounds} builds, {done} of them with a kill, the trees are whole (SOAK_SEED={seed})", flush=True)


def bootstrap():
    """What `forest.build` would make of an images.json with this host's suite."""
    sources = json.loads(subprocess.run(
        [binary, "call", "--out=json", "build.sources"], env=environment, check=True, capture_output=True, text=True).stdout)["local"]
    return {"bootstrap": {"suite": sources["suite"], "sources": {"files": [["sources.list", sources["text"]]]},
                          "architecture": sources["architecture"], "variant": "minbase", "packages": []}}


tree()
storm({"directory": f"{folder}/base"}, small, "small")
if bootstraps:
    storm(bootstrap(), bootstraps, "bootstrap", "force=True")
shutil.rmtree(folder, ignore_errors=True)
