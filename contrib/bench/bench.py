#!/usr/bin/env python3
"""castoff against what people use today, on one image, in one run: prints a table, judges nothing.

bench.py BINARY ROOTFS FOLDER; the engine comes from ENGINE_HOST, ENGINE_DOCKERD_PID and ENGINE_CONTAINERD_PID.
BENCH_RUNS says how often each is run (5); the slow peers run once. CPU is that of the command's processes, of dockerd
and of containerd; what runs inside containers is not counted, in favour of the procedures that use them.
"""

import os
import shutil
import subprocess
import sys

import image
import measure

binary, rootfs, folder = sys.argv[1:4]
runs = int(os.environ.get("BENCH_RUNS", "5"))
host = os.environ["ENGINE_HOST"]
daemons = [int(os.environ["ENGINE_DOCKERD_PID"]), int(os.environ["ENGINE_CONTAINERD_PID"])]
squash = os.path.join(os.environ["BENCH_VENV"], "bin/docker-squash")
state = os.path.join(folder, "state")
environment = {"PATH": os.environ["PATH"], "HOME": folder, "DOCKER_HOST": host, "CASTOFF_STATE_DIR": state,
               "CASTOFF_ENGINE": "store", "CASTOFF_CONFIG": "/dev/null", "TMPDIR": folder}
out = os.path.join(folder, "out.tar")


def castoff(*words):
    return [binary, "call", *words]


def docker(*words):
    return ["docker", *words]


def quiet(command):
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def remove_containers():
    names = subprocess.run(docker("ps", "-aq"), check=True, env=environment, capture_output=True, text=True)
    if names.stdout.split():
        quiet(docker("rm", "-f", *names.stdout.split()))


def shell(script):
    return docker("run", "--network=none", "--name", "bench", "castoff-bench:in", "sh", "-c", script)


def procedures(source, size):
    """Name, how often, the commands. The first two are what the ratios are to."""
    tops = "bin boot etc home lib lib64 media mnt opt root sbin srv tmp usr var"
    me = os.path.join(os.path.dirname(__file__), "measure.py")
    return [
        ("floor: read, hash in, hash out, write", runs, [[sys.executable, me, source, out, str(size), "verify"]]),
        ("floor: read, hash out, write", runs, [[sys.executable, me, source, out, str(size), "-"]]),
        ("castoff image.pack archive to archive", runs,
         [castoff("image.pack", f"docker-archive:{source}", f"docker-archive:{out}")]),
        ("castoff image.pack store to store", runs, [castoff("image.pack", "store:bench:in", "store:bench:out")]),
        ("castoff image.pack engine to engine", 1,
         [castoff("image.pack", "docker-daemon:castoff-bench:in", "docker-daemon:castoff-bench:packed")]),
        ("docker export | docker import", runs,
         [docker("create", "--name", "bench", "castoff-bench:in"),
          [docker("export", "bench"), docker("import", "-", "castoff-bench:imported")]]),
        ("the original two-container procedure", 1,
         [shell(f"cd / && getfacl -R -p {tops} > /acls.txt"), docker("commit", "bench", "castoff-bench:acls"),
          docker("rm", "bench"), docker("create", "--name", "bench", "castoff-bench:acls"),
          [docker("export", "bench"), docker("import", "-", "castoff-bench:base")], docker("rm", "bench"),
          docker("run", "--network=none", "--name", "bench", "castoff-bench:base", "sh", "-c",
                 "cd / && setfacl --restore=/acls.txt"),
          docker("commit", "bench", "castoff-bench:original")]),
        ("docker-squash", 1, [[squash, "--tag", "castoff-bench:squashed", "castoff-bench:in"]]),
    ]


def prepare(name, source):
    """Nothing that an earlier run made spares this one work, or is to be removed by it."""
    remove_containers()
    if "store to store" in name:
        shutil.rmtree(state)
        quiet(castoff("image.copy", f"docker-archive:{source}", "store:bench:in"))
    if os.path.exists(out):
        os.remove(out)
    os.sync()


def main():
    source = image.make(rootfs, folder)
    million = image.million(folder)
    shutil.rmtree(state, ignore_errors=True)
    quiet(docker("load", "-i", source))
    quiet(castoff("image.copy", f"docker-archive:{source}", "store:bench:in"))
    quiet(castoff("image.pack", f"docker-archive:{source}", f"docker-archive:{out}"))
    size = os.path.getsize(out)
    listed = procedures(source, size)
    table = [(name, []) for name, _, _ in listed]
    # In turns, so that what else the machine does falls on all alike.
    for turn in range(runs):
        for (name, times, commands), (_, costs) in zip(listed, table):
            if turn < times:
                prepare(name, source)
                print(f"… {name}", file=sys.stderr)
                try:
                    costs.append(measure.run(commands, daemons, environment))
                except RuntimeError as error:
                    print(f"{name}: {error}", file=sys.stderr)
    report(table, os.path.getsize(source), size)
    small(million)


def report(table, size_in, size_out):
    print(f"\n{measure.machine()}\nin {size_in / 1e9:.3f} GB, out {size_out / 1e9:.3f} GB; median wall, least CPU, most memory\n")
    print(f"{'':42} {'n':>2} {'wall s':>7} {'CPU s':>7} {'x floor':>8} {'x less CPU':>11} {'MiB':>6}")
    costs = {name: measure.best(found) for name, found in table if found}
    verified, trusted = (costs[name] for name, _ in table[:2])
    peer = costs.get("docker export | docker import")
    for name, found in table:
        if name not in costs:
            print(f"{name:42}  failed, see above")
            continue
        cost = costs[name]
        base = trusted if "store to store" in name or name == table[1][0] else verified
        less = f"{peer.cpu / cost.cpu:.1f}" if peer else "-"
        print(f"{name:42} {len(found):>2} {cost.wall:>7.2f} {cost.cpu:>7.2f} {cost.cpu / base.cpu:>8.2f} {less:>11} "
              f"{cost.rss / 2**20:>6.0f}")
    print("\nx floor: CPU over that of the floor with the same duties (store to store: its input was verified before);"
          "\nx less CPU: CPU of docker export | docker import over this one's.")


def small(million):
    cost = measure.run([castoff("image.pack", f"docker-archive:{million}", f"docker-archive:{out}")], (), environment)
    print(f"\n1 000 000 entries packed: {cost.wall:.2f} s wall, {cost.cpu:.2f} s CPU, {cost.rss / 2**20:.0f} MiB")
    cost = measure.best([measure.run([castoff("sys.version")], (), environment) for _ in range(20)])
    print(f"castoff call sys.version: {cost.wall * 1000:.1f} ms wall, {cost.cpu * 1000:.1f} ms CPU, "
          f"{measure.memory(castoff('sys.version'), environment) / 2**20:.1f} MiB")


main()
