#!/usr/bin/env python3
"""castoff as a source of pillar, against Salt, in one run: prints tables, judges nothing.

serving.py BINARY FOLDER; BENCH_VENV is a Python environment with Salt, BENCH_OHA the load generator oha.
BENCH_RUNS says how often each command is run (20), BENCH_SECONDS how long each load lasts (10).

Limits of the generator: oha shares the cores with the daemon, and what it costs is in no figure but the rate. At a fixed
rate it starts a request when its time has come, on the first free connection, and counts the wait for a connection as
latency (--latency-correction), so that a slow answer is not hidden by what it kept from being asked. It measures in
user space: a generator that waits for a core looks like a slow daemon.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import measure
from cloud import Cloud, vm

binary, folder = (os.path.abspath(path) for path in sys.argv[1:3])
runs = int(os.environ.get("BENCH_RUNS", "20"))
seconds = int(os.environ.get("BENCH_SECONDS", "10"))
venv, oha = os.path.join(os.environ["BENCH_VENV"], "bin"), os.environ["BENCH_OHA"]
here = os.path.dirname(os.path.abspath(__file__))
work = os.path.join(folder, "serving")
socket = os.path.join(work, "castoff.sock")
MINIONS = 5000
RATE = 5000
URLS = "http://localhost/v1/pillar/vm-[0-4][0-9]{3}[.]example[.]net"


def environment(cloud):
    return {"PATH": os.environ["PATH"], "HOME": work, "CASTOFF_CONFIG": "/dev/null", "CASTOFF_ENGINE": "store",
            "CASTOFF_STATE_DIR": os.path.join(work, "state"), "CASTOFF_SOCKET": socket, **cloud.environment()}


def commands(small, large):
    """One call of each kind, in turns: castoff, and salt-call with a module that has the same data ready."""
    told = subprocess.run([binary, "call", "--out=json", "mc_cloud_images.settings"], env=environment(small),
                          check=True, capture_output=True, text=True)
    salt = os.path.join(work, "salt")
    os.makedirs(os.path.join(salt, "modules"))
    with open(os.path.join(salt, "data.json"), "w", encoding="utf-8") as file:
        json.dump(json.loads(told.stdout)["local"], file)
    with open(os.path.join(salt, "modules", "bench.py"), "w", encoding="utf-8") as file:
        file.write("import json\n\n\ndef settings():\n"
                   f"    with open({os.path.join(salt, 'data.json')!r}) as file:\n        return json.load(file)\n")
    with open(os.path.join(salt, "minion"), "w", encoding="utf-8") as file:
        file.write(f"root_dir: {salt}\nfile_client: local\nid: controller\nmodule_dirs: [{salt}/modules]\n")
    call = [binary, "call", "--out=json", "mc_cloud_images.settings"]
    peer = [os.path.join(venv, "salt-call"), "--local", f"--config-dir={salt}", "--out=json", "bench.settings"]
    listed = [("castoff call, a small cloud", call, environment(small), runs),
              ("castoff call, 5,000 VMs", call, environment(large), runs),
              ("salt-call --local, a Python module", peer, environment(small), max(3, runs // 4))]
    costs = [[] for _ in listed]
    for turn in range(runs):
        for found, (_, command, told, times) in zip(costs, listed):
            if turn < times:
                found.append(measure.run([command], (), told))
    print(f"\n{'mc_cloud_images.settings':36} {'n':>3} {'wall ms':>8} {'CPU ms':>8} {'MiB':>6} {'x less CPU':>11} {'x less MiB':>11}")
    best = [measure.best(found) for found in costs]
    memory = [measure.memory(command, told) for _, command, told, _ in listed]
    for (name, _, _, times), cost, rss in zip(listed, best, memory):
        print(f"{name:36} {times:>3} {cost.wall * 1e3:>8.1f} {cost.cpu * 1e3:>8.2f} {rss / 2**20:>6.1f} "
              f"{best[-1].cpu / max(cost.cpu, 1e-4):>11.0f} {memory[-1] / rss:>11.1f}")


class Daemon:
    """`castoff daemon` on its socket."""

    def __init__(self, cloud):
        self.process = subprocess.Popen([binary, "daemon"], env=environment(cloud), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while subprocess.run(["curl", "-sf", "--unix-socket", socket, "http://localhost/readyz"],
                             stdout=subprocess.DEVNULL, check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > until:
                sys.exit("the daemon does not come up")
            time.sleep(0.02)

    def warm(self):
        """Has every pillar made once, so that what is called cached is."""
        question = json.dumps({"minions": [vm(number) for number in range(MINIONS)]})
        told = subprocess.run(["curl", "-sf", "--unix-socket", socket, "--data-binary", "@-",
                               "http://localhost/v1/pillar"], input=question, check=True, capture_output=True, text=True)
        if len(json.loads(told.stdout)["pillars"]) != MINIONS:
            sys.exit("not every minion has a pillar")

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Editor(threading.Thread):
    """Replaces every source file once a second, with other content."""

    def __init__(self, cloud):
        super().__init__(daemon=True)
        self.cloud, self.done = cloud, threading.Event()
        self.start()

    def run(self):
        serial = 2
        while not self.done.wait(1):
            self.cloud.write_all(serial)
            serial += 1

    def stop(self):
        self.done.set()
        self.join()


def load(connections, rate):
    """What oha found: answers a second, seconds to p50 and p99, answers that were none."""
    command = [oha, "--no-tui", "--output-format", "json", "-z", f"{seconds}s", "-w", "-c", str(connections),
               "--unix-socket", socket, "--rand-regex-url", URLS]
    if rate:
        command += ["-q", str(rate), "--latency-correction"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    answers = {int(code): count for code, count in told["statusCodeDistribution"].items()}
    wrong = sum(told["errorDistribution"].values()) + sum(count for code, count in answers.items() if code != 200)
    percentiles, good = told["latencyPercentiles"], answers.get(200, 0)
    if good == 0:
        sys.exit(f"no answer is 200: {answers}, {told['errorDistribution']}")
    return good / told["summary"]["total"], percentiles["p50"], percentiles["p99"], wrong, good


def serving(what, cloud, listed):
    daemon = Daemon(cloud)
    daemon.warm()
    print(f"\n{MINIONS} minions, {what}; unix socket, {seconds} s each, generator on the same cores")
    print(f"{'sources':10} {'rate':>6} {'conn':>5} {'answers/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'not 200':>8} "
          f"{'daemon us/answer':>17} {'MiB':>6}")
    for sources in ("cached", "changing"):
        for rate in (RATE, None):
            for connections in listed:
                editor = Editor(cloud) if sources == "changing" else None
                cpu = measure.daemon_cpu([daemon.process.pid])
                found, p50, p99, wrong, count = load(connections, rate)
                cpu = measure.daemon_cpu([daemon.process.pid]) - cpu
                if editor:
                    editor.stop()
                print(f"{sources:10} {rate or 'most':>6} {connections:>5} {found:>10.0f} {p50 * 1e3:>8.2f} {p99 * 1e3:>8.2f} "
                      f"{wrong:>8} {cpu / max(count, 1) * 1e6:>17.0f} {daemon.memory():>6.1f}")
    daemon.stop()


def compiles(cloud):
    """Salt's own compilation of pillars, with our ext_pillar and without."""
    daemon = Daemon(cloud)
    ids = [vm(number * 61 % MINIONS) for number in range(60)]
    told = subprocess.run([os.path.join(venv, "python"), os.path.join(here, "pillars.py"), work, socket, *ids],
                          env=environment(cloud), check=False, capture_output=True, text=True)
    daemon.stop()
    if told.returncode != 0:
        sys.exit(f"pillars.py: {told.stderr}")
    print(f"\n{told.stdout.rstrip()}")


def main():
    shutil.rmtree(work, ignore_errors=True)
    small, large = Cloud(os.path.join(work, "small"), 50), Cloud(os.path.join(work, "large"), MINIONS)
    own = Cloud(os.path.join(work, "own"), MINIONS, own=True)
    print(f"\n{measure.machine()}")
    commands(small, large)
    serving("each with settings of its own", own, (1, 32, 256))
    serving("all with the same settings", large, (32,))
    compiles(own)


main()
