#!/usr/bin/env python3
"""Kills castoff at random moments while it writes, for some minutes; skopeo judges what is left.

kill_storm.py BINARY FOLDER MINUTES. After every kill: each name in the store still is one whole image, the one that
was there before or the one that was being made; the same command then finishes, and gives the same image as ever.
Every few rounds two commands run on one image at once.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

binary, folder, minutes = sys.argv[1], sys.argv[2], float(sys.argv[3])
state, tree, archive = (os.path.join(folder, name) for name in ("state", "tree", "out.tar"))
store = os.path.join(state, "store")
environment = dict(os.environ, CASTOFF_STATE_DIR=state, CASTOFF_ENGINE="store", CASTOFF_CONFIG="/dev/null",
                   SOURCE_DATE_EPOCH="1700000000")
seed = int(os.environ.get("SOAK_SEED", time.time_ns() % 2**32))
chance = random.Random(seed)


def make_tree():
    shutil.rmtree(folder, ignore_errors=True)
    content = random.Random(1)
    for number in range(40):
        os.makedirs(f"{tree}/d{number}")
        for item in range(50):
            with open(f"{tree}/d{number}/f{item}", "wb") as file:
                file.write(content.randbytes(content.randrange(60_000)))
        subprocess.run(["setfacl", "-m", "d:u:1001:rwx,u:1002:rx", f"{tree}/d{number}"], check=True)
        os.link(f"{tree}/d{number}/f0", f"{tree}/d{number}/link")


def command(words):
    return subprocess.Popen([binary, "call", "--out=json", *words], env=environment, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE)


def finish(words):
    process = command(words)
    _, told = process.communicate()
    if process.returncode != 0:
        fail(f"{' '.join(words)}: exit {process.returncode}\n{told.decode(errors='replace')}")


def skopeo(*words):
    process = subprocess.run(["skopeo", "--insecure-policy", *words], capture_output=True, text=True)
    if process.returncode != 0:
        fail(f"skopeo {' '.join(words)}:\n{process.stderr}")
    return process.stdout


def fail(why):
    sys.exit(f"SOAK_SEED={seed}: {why}\n(the state is left in {folder})")


def names():
    path = f"{store}/index.json"
    if not os.path.exists(path):
        return []
    with open(path) as file:
        index = json.load(file)
    found = (entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"])
    return [name for name in found if name]


def judge():
    """Every name is one whole image: skopeo reads every blob and checks its digest. Returns image IDs by name."""
    ids = {}
    for name in names():
        copied = f"{folder}/judged"
        skopeo("copy", "-q", f"oci:{store}:{name}", f"dir:{copied}")
        with open(f"{copied}/manifest.json") as file:
            ids[name] = json.load(file)["config"]["digest"]
        shutil.rmtree(copied)
    if os.path.exists(archive):
        skopeo("inspect", f"docker-archive:{archive}")
    return ids


def main():
    make_tree()
    works = [["image.pack", f"dir:{tree}", "store:soak/a:1"],
             ["image.pack", "store:soak/a:1", "store:soak/b:1"],
             ["image.copy", "store:soak/a:1", f"docker-archive:{archive}"],
             ["image.pack", f"docker-archive:{archive}", "store:soak/c:1"],
             ["image.gc"]]
    for words in works:
        finish(words)
    expected = judge()
    end, rounds, killed = time.monotonic() + minutes * 60, 0, 0
    while time.monotonic() < end:
        rounds += 1
        words = chance.choice(works)
        if chance.random() < 0.2 and words[0] != "image.gc":
            finish(["image.remove", "store:soak/b:1"] if "soak/b:1" in " ".join(words) and "soak/b:1" in names() else words)
        processes = [command(words) for _ in range(2 if rounds % 5 == 0 else 1)]
        time.sleep(chance.random() ** 2 * 0.6)
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        for name, found in judge().items():
            if found != expected.get(name):
                fail(f"after {' '.join(words)} was killed, {name} is {found} and not {expected.get(name)}")
        for again in works if rounds % 10 == 0 else [words]:
            finish(again)
    for words in works:
        finish(words)
    if judge() != expected:
        fail(f"at the end the store holds {judge()} and not {expected}")
    left = [name for _, _, files in os.walk(store) for name in files if name.endswith(".tmp")]
    if left:
        fail(f"temporaries are left: {left}")
    shutil.rmtree(folder)
    print(f"kill storm: {rounds} rounds, {killed} processes killed, nothing lost (SOAK_SEED={seed})")


main()
