#!/usr/bin/env python3
"""Images from packages and actions: castoff beside the programs that do the same, in one run; prints tables, judges nothing.

build.py CASTOFF FOLDER. One images.json: a base (BUILD_PACKAGES, `less vim sudo openssh-server curl`, and the kernel where
BUILD_BOOTABLE=1) with a file copied in, and a qcow2 child with three actions. The base alone, cold and with packages that
were fetched before, beside mmdebstrap with the same packages (the floor of a cold build) and `mke2fs -d` of its tree; then
both, cold and after what changes what: nothing, the last action, the file copied into the base. Where libguestfs is
installed, the steps that little-vm-helper runs (`guestfish`, `virt-customize`) too; BUILD_GUESTFS=0 leaves those out.
"""

import json
import os
import shutil
import subprocess
import sys

import measure

castoff, folder = sys.argv[1:3]
packages = os.environ.get("BUILD_PACKAGES", "less vim sudo openssh-server curl").split()
bootable = os.environ.get("BUILD_BOOTABLE", "0") == "1"
state, images = os.path.join(folder, "state"), os.path.join(folder, "forest")
environment = dict(os.environ, CASTOFF_STATE_DIR=state, CASTOFF_CONFIG="/dev/null", HOME=folder)
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(images)


def told(*words):
    output = subprocess.run([castoff, "call", "--out=json", *words], env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(output.stdout)["local"]


sources = told("build.sources")
suite, lines = sources["suite"], [line for line in sources["text"].splitlines() if line]


def forest(copied="one", last="last", child=True):
    with open(f"{images}/copied", "w") as file:
        file.write(copied)
    document = [
        {"name": "base.img", "packages": packages, "bootable": bootable, "image_size": "4G", "actions": [
            {"type": "run-command", "op": {"Cmd": "passwd -d root"}},
            {"type": "upload", "op": {"File": "copied", "Dest": "/root/copied"}}]},
        {"name": "child.qcow2", "parent": "base.img", "packages": ["jq"], "actions": [
            {"type": "set-hostname", "op": {"Hostname": "child"}},
            {"type": "mkdir", "op": {"Dir": "/srv/child"}},
            {"type": "run-command", "op": {"Cmd": f"echo {last} > /srv/child/last"}}]},
    ]
    with open(f"{images}/images.json", "w") as file:
        json.dump(document if child else document[:1], file)


def forget(*what):
    for path in what:
        shutil.rmtree(path, ignore_errors=True)


def build():
    return measure.run([[castoff, "lvh", "images", "build", "--dir", images, "--pkg-repo", suite]], environment=environment)


def row(name, cost, floor=None):
    ratio = f"{cost.wall / floor.wall:6.2f}x {cost.cpu / floor.cpu:6.2f}x" if floor else ""
    print(f"{name:58} {cost.wall:8.2f} s {cost.cpu:8.2f} s  {ratio}", flush=True)


print(measure.machine())
print(f"{'one base, one child':58} {'wall':>10} {'CPU':>10}  to the floor")
tree = os.path.join(folder, "mmdebstrap")
include = (["linux-image-amd64"] if bootable else []) + packages
plain = measure.run([["mmdebstrap", "--quiet", "--mode=root", f"--include={','.join(include)}", suite, tree, *lines]])
disk = os.path.join(folder, "floor.img")
subprocess.run(["truncate", "-s", "4G", disk], check=True)
written = measure.run([["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk]])
floor = measure.Cost(plain.wall + written.wall, plain.cpu + written.cpu, max(plain.rss, written.rss))
row("floor: mmdebstrap, the same packages of the base", plain)
row("floor: mmdebstrap and mke2fs -d", floor)

forest(child=False)
row("castoff: the base alone, nothing known", build(), floor)
forget(f"{state}/trees", f"{images}/images")
row("castoff: the base alone, packages fetched before", build(), plain)
forget(state, f"{images}/images")
forest()
first = build()
row("castoff: base and child, nothing known", first, floor)
row("castoff: nothing changed", build(), first)
forest(last="other")
row("castoff: the last action changed", build(), first)
forest(copied="two", last="other")
row("castoff: a file of the base changed", build(), first)
child = measure.run([["qemu-img", "convert", "-O", "qcow2", f"{images}/images/child.qcow2", f"{folder}/copy.qcow2"]])
row("floor: the write of the child's disk by qemu-img", child)

if os.environ.get("BUILD_GUESTFS", "1") != "0" and shutil.which("virt-customize"):
    # Nested KVM is often there and of no use: software emulation for both.
    guest = dict(os.environ, LIBGUESTFS_BACKEND="direct", LIBGUESTFS_BACKEND_SETTINGS="force_tcg")
    tar, image = os.path.join(folder, "base.tar"), os.path.join(folder, "guestfs.img")
    subprocess.run(["tar", "-C", tree, "-cf", tar, "."], check=True)
    row("little-vm-helper's guestfish: disk from the tar (TCG)", measure.run(
        [["guestfish", "-N", f"{image}=disk:4G", "--", "mkfs", "ext4", "/dev/vda", ":", "mount", "/dev/vda", "/", ":",
          "tar-in", tar, "/"]], environment=guest))
    row("little-vm-helper's virt-customize: one action (TCG)", measure.run(
        [["virt-customize", "-a", image, "--run-command", "passwd -d root"]], environment=guest))
shutil.rmtree(folder, ignore_errors=True)
