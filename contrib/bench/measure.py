"""Seconds and bytes of commands: wall, CPU of the command's own processes and of daemons that work for it, memory."""

import os
import resource
import statistics
import subprocess
import time


class Cost:
    """What one run cost."""

    def __init__(self, wall, cpu, rss):
        self.wall, self.cpu, self.rss = wall, cpu, rss


TICK = os.sysconf("SC_CLK_TCK")


def daemon_cpu(pids):
    """CPU seconds of processes and of the children they have waited for."""
    seconds = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        seconds += sum(int(field) for field in fields[11:15]) / TICK
    return seconds


def run(commands, daemons=(), environment=None):
    """Runs commands one after another; a list of lists is a pipeline. A failed one ends the measurement."""
    cpu = daemon_cpu(daemons)
    start = time.monotonic()
    rss = 0
    own = 0.0
    for command in commands:
        stages = command if isinstance(command[0], list) else [command]
        processes, source = [], subprocess.DEVNULL
        for number, stage in enumerate(stages):
            last = number == len(stages) - 1
            process = subprocess.Popen(stage, stdin=source, stdout=subprocess.DEVNULL if last else subprocess.PIPE,
                                       stderr=subprocess.PIPE if last else None, env=environment)
            if source is not subprocess.DEVNULL:
                source.close()
            source = process.stdout
            processes.append(process)
        words = processes[-1].stderr.read()
        for process, stage in zip(processes, stages):
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            own += usage.ru_utime + usage.ru_stime
            rss = max(rss, usage.ru_maxrss * 1024)
            if process.returncode != 0:
                raise RuntimeError(f"{' '.join(stage)}: exit {process.returncode}: {words.decode(errors='replace')}")
    wall = time.monotonic() - start
    return Cost(wall, own + daemon_cpu(daemons) - cpu, rss)


def memory(command, environment=None):
    """The most memory of a command, in bytes, by GNU time: what this process hears of its own children is never less
    than what it has itself, which hides small programs."""
    told = subprocess.run(["/usr/bin/time", "-f", "%M", *command], check=True, env=environment, text=True,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).stderr
    return int(told.splitlines()[-1]) * 1024


def best(costs):
    """The median wall, the least CPU (what else the machine does only adds to it), the most memory."""
    return Cost(statistics.median(cost.wall for cost in costs), min(cost.cpu for cost in costs),
                max(cost.rss for cost in costs))


def floor(source, target, size, verify):
    """The least a pack can do, in a process of its own: read all, hash the input where nobody has, hash and write
    the output. What it writes is the input's beginning, since only the size matters."""
    import hashlib
    digests = [hashlib.sha256(), hashlib.sha256()]
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    left = size
    with open(source, "rb", buffering=0) as input_file, open(target, "wb", buffering=0) as output_file:
        while count := input_file.readinto(buffer):
            if verify:
                digests[0].update(view[:count])
            part = view[:min(count, left)]
            if part:
                digests[1].update(part)
                output_file.write(part)
                left -= len(part)
        os.fsync(output_file.fileno())


def machine():
    """One line about where this was measured."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown CPU")
    return f"{model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, page size {resource.getpagesize()}"


if __name__ == "__main__":
    import sys
    floor(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "verify")
