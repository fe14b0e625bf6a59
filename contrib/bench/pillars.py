#!/usr/bin/env python3
"""CPU and wall time of Salt's own pillar compilation in a warm master process, with castoff's ext_pillar and without.

pillars.py FOLDER SOCKET MINION...; run by the Python that has Salt. The two take turns, minion by minion.
"""

import os
import statistics
import sys
import time

folder, socket, ids = sys.argv[1], sys.argv[2], sys.argv[3:]
glue = os.path.abspath(os.path.join(os.path.dirname(__file__), "../salt"))
sys.path.insert(0, glue)

import salt.config  # noqa: E402  the path comes first
import salt.pillar  # noqa: E402


def options(name, ext_pillar):
    root = os.path.join(folder, name)
    pillar = os.path.join(root, "srv-pillar")
    os.makedirs(pillar, exist_ok=True)
    with open(os.path.join(root, "master"), "w", encoding="utf-8") as file:
        file.write(f"root_dir: {root}\npillar_roots: {{base: [{pillar}]}}\nfile_roots: {{base: [{pillar}]}}\n"
                   f"pillar_dirs: [{os.path.join(glue, 'castoff_salt/pillar')}]\npillar_cache: false\n")
    opts = salt.config.master_config(os.path.join(root, "master"))
    opts["ext_pillar"] = ext_pillar
    return opts


def compile_one(opts, minion):
    wall, cpu = time.perf_counter(), time.process_time()
    data = salt.pillar.get_pillar(opts, {"id": minion}, minion, "base").compile_pillar()
    return time.process_time() - cpu, time.perf_counter() - wall, data


def main():
    cases = [("none", options("none", []), []), ("castoff", options("with", [{"castoff": {"socket": socket}}]), [])]
    for turn, minion in enumerate([ids[0], *ids]):
        for name, opts, costs in cases:
            cpu, wall, data = compile_one(opts, minion)
            if "_errors" in data or bool(data) != (name == "castoff"):
                sys.exit(f"{name}, {minion}: {data}")
            # The first of each loads what a master has long loaded.
            if turn:
                costs.append((cpu, wall))
    print(f"{'pillar of one minion, in ms':28} {'n':>3} {'CPU min':>8} {'median':>8} {'wall min':>9} {'median':>8}")
    best = []
    for name, _, costs in cases:
        cpu, wall = ([cost[which] * 1e3 for cost in costs] for which in (0, 1))
        best.append((min(cpu), statistics.median(cpu), min(wall), statistics.median(wall)))
        print(f"{'Salt, ext_pillar: ' + name:28} {len(costs):>3} {best[-1][0]:>8.2f} {best[-1][1]:>8.2f} {best[-1][2]:>9.2f} "
              f"{best[-1][3]:>8.2f}")
    more = [b - a for a, b in zip(*best)]
    print(f"{'more':28} {'':>3} {more[0]:>8.2f} {more[1]:>8.2f} {more[2]:>9.2f} {more[3]:>8.2f}")


main()
