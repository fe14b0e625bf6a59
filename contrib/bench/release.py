#!/usr/bin/env python3
"""Releases against the programs people make them with, in one run: prints tables, judges nothing.

release.py CASTOFF ROOTFS FOLDER: ROOTFS is a root filesystem, FOLDER holds everything that is made. The first table is
archives: castoff's, with every hash of it, against tar through xz at the same level on all cores, and against that with
sha256sum and md5sum. The second is the bytes that a host moves for a small update (the packages of RELEASE_PACKAGES,
`vim-tiny vim-common less`): castoff's patch, the whole archive, rsync of the tree, casync's chunks. RELEASE_RUNS (2) says
how often archives are made.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import measure

castoff, rootfs, folder = sys.argv[1:4]
runs = int(os.environ.get("RELEASE_RUNS", "2"))
packages = os.environ.get("RELEASE_PACKAGES", "vim-tiny vim-common less").split()
IMAGE = "bench"


def fresh(name):
    path = f"{folder}/{name}"
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path, mode=0o700)
    return path


def output(*command, **more):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


class Publisher:
    """An LXC host with one container, and places of its own to release to."""

    def __init__(self):
        self.lxc, self.state = fresh("lxc"), fresh("state")
        self.images, self.keys = fresh("images"), fresh("keys")
        self.repository = f"{fresh('repository')}/images.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.repository], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", f"{self.keys}/signer"], check=True)
        self.rootfs = f"{self.lxc}/{IMAGE}/rootfs"
        os.mkdir(f"{self.lxc}/{IMAGE}")
        subprocess.run(["cp", "-a", "--reflink=auto", rootfs, self.rootfs], check=True)
        with open(f"{self.lxc}/{IMAGE}/config", "w") as file:
            file.write(f"lxc.uts.name = {IMAGE}\n")
        self.configuration = f"{folder}/castoff.yaml"
        with open(self.configuration, "w") as file:
            json.dump({
                "state_dir": self.state,
                "lxc": {"path": self.lxc},
                "settings": {"makina-states.cloud.images": {
                    "root": fresh("root"), "git_url": f"file://{self.repository}",
                    "lxc": {"images": {IMAGE: {"flavors": ["lxc"]}}}}},
                "release": {"branch": "main", "signing_key": f"{self.keys}/signer",
                            "targets": {"main": {"url": f"file://{self.images}"}}},
            }, file)
        self.environment = {**os.environ, "CASTOFF_CONFIG": self.configuration}
        self.environment.pop("SOURCE_DATE_EPOCH", None)

    def command(self, *words):
        return [castoff, "call", "--out=json", *words]

    def call(self, *words):
        return json.loads(output(*self.command(*words), env=self.environment))["local"]


def archives(publisher):
    """The first table."""
    container = f"{publisher.lxc}/{IMAGE}"
    made, plain = f"{publisher.lxc}/{IMAGE}-lxc-1.tar.xz", f"{folder}/plain.tar.xz"
    tar = ["tar", "--sort=name", "--numeric-owner", "--acls", "--xattrs", "-cf", "-", "-C", container, "."]
    xz = ["xz", "-7e", "-T0", "-c"]
    with_sums = f"set -eu; {' '.join(tar)} | xz -7e -T0 -c > '{plain}'; sha256sum '{plain}'; md5sum '{plain}'"
    allow = "allow=host-keys,machine-id,authorized-keys,salt-keys,new-privileged,left-out"
    found = {}
    for _ in range(runs):
        if os.path.exists(made):
            os.remove(made)
        shutil.rmtree(f"{publisher.state}/release", ignore_errors=True)
        found.setdefault("castoff", []).append(
            measure.run([publisher.command("release.archive", IMAGE, "lxc", "snapshot=False", allow)],
                        environment=publisher.environment))
        found.setdefault("tar | xz -7e -T0", []).append(measure.run([[tar, xz]]))
        found.setdefault("  and both sums", []).append(measure.run([["bash", "-c", with_sums]]))
    print(f"\narchive of {output('du', '-sh', container).split()[0]}, median of {runs}\n")
    print(f"{'':18} {'wall s':>7} {'x':>6} {'CPU s':>7} {'x':>6} {'MiB':>5} {'bytes':>12}")
    peer = measure.best(found["tar | xz -7e -T0"])
    for name, costs in found.items():
        cost = measure.best(costs)
        size = os.path.getsize(made if name == "castoff" else plain)
        print(f"{name:18} {cost.wall:>7.2f} {cost.wall / peer.wall:>6.2f} {cost.cpu:>7.2f} {cost.cpu / peer.cpu:>6.2f} "
              f"{cost.rss / 2**20:>5.0f} {size:>12,}", flush=True)


def update(publisher):
    """Installs the packages' files, and says what they weigh."""
    debs = fresh("debs")
    subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages], check=True, cwd=debs)
    for name in sorted(os.listdir(debs)):
        subprocess.run(["dpkg-deb", "-x", f"{debs}/{name}", publisher.rootfs], check=True)
    return sum(os.path.getsize(f"{debs}/{name}") for name in os.listdir(debs))


def bytes_per_host(publisher):
    """The second table."""
    allow = "allow=host-keys,machine-id,authorized-keys,salt-keys,new-privileged,left-out"
    release = ["mc_cloud_images.sf_release", IMAGE, "sync=False", "snapshot=False", allow]
    publisher.call(*release)
    host = fresh("host")
    with open(f"{publisher.keys}/allowed", "w") as file, open(f"{publisher.keys}/signer.pub") as key:
        file.write(f"castoff {key.read()}")
    environment = {
        **os.environ, "CASTOFF_CONFIG": "/dev/null", "CASTOFF_STATE_DIR": f"{host}/state",
        "CASTOFF_SYNC_SOURCE": f"git:file://{publisher.repository}", "CASTOFF_SYNC_BRANCH": "main",
        "CASTOFF_SYNC_MIRROR": f"file://{publisher.images}/{{name}}", "CASTOFF_SYNC_IMAGES": f"{IMAGE}/lxc",
        "CASTOFF_SYNC_ALLOWED_SIGNERS": f"{publisher.keys}/allowed", "CASTOFF_SYNC_SIGNER": "castoff",
        "CASTOFF_SYNC_FOLDER": f"{host}/images",
    }

    def follow():
        told = json.loads(output(castoff, "call", "--out=json", "sync.run", env=environment))["local"]
        return told["images"][f"{IMAGE}/lxc"]

    follow()
    casync = shutil.which("casync")
    if casync:
        for number in (1,):
            subprocess.run([casync, "make", "--without=privileged", f"{folder}/{number}.caidx", f"--store={folder}/store.castr",
                            publisher.rootfs], check=True, stdout=subprocess.DEVNULL)
    copy = fresh("copy")
    subprocess.run(["rsync", "-aHAX", "--numeric-ids", f"{publisher.rootfs}/", f"{copy}/"], check=True)
    weight = update(publisher)
    publisher.call(*release)
    moved = follow()
    told = output("rsync", "-aHAX", "--numeric-ids", "--delete", "--no-whole-file", "--stats", f"{publisher.rootfs}/",
                  f"{copy}/", env={**os.environ, "LC_ALL": "C"})
    both = sum(int(re.search(rf"Total bytes {way}: ([\d,]+)", told)[1].replace(",", "")) for way in ("sent", "received"))
    rows = [(f"castoff ({moved['route']})", moved["moved"]),
            ("whole .tar.xz", os.path.getsize(f"{publisher.images}/{IMAGE}-lxc-2.tar.xz")),
            ("rsync of the tree", both)]
    if casync:
        before = stored()
        subprocess.run([casync, "make", "--without=privileged", f"{folder}/2.caidx", f"--store={folder}/store.castr",
                        publisher.rootfs], check=True, stdout=subprocess.DEVNULL)
        rows.append(("casync", stored() - before + os.path.getsize(f"{folder}/2.caidx")))
    full = rows[1][1]
    print(f"\nbytes that a host moves for {' '.join(packages)} ({weight:,} bytes of packages)\n")
    print(f"{'':24} {'bytes':>12} {'of the whole':>13}")
    for name, count in rows:
        print(f"{name:24} {count:>12,} {count / full:>12.1%}")


def stored():
    """The bytes of casync's chunks."""
    return sum(os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(f"{folder}/store.castr")
               for name in names)


def main():
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    try:
        print(measure.machine(), flush=True)
        publisher = Publisher()
        archives(publisher)
        shutil.rmtree(f"{publisher.state}/release", ignore_errors=True)
        os.remove(f"{publisher.lxc}/{IMAGE}-lxc-1.tar.xz")
        bytes_per_host(publisher)
    finally:
        shutil.rmtree(folder)


main()
