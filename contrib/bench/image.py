"""The image that is measured: five layers of about 1.26 GB from a real Debian root filesystem and files of this host.

1 the root filesystem, 2 documentation, Python and headers, 3 libraries and 60 MB that do not compress, 4 deletions,
an opaque folder, rewrites and 120 MB that do not compress, 5 ACLs, capabilities, a sparse file, hard links.
GNU tar writes the layers, this file the manifest; castoff has no part in it.
"""

import hashlib
import json
import os
import random
import shutil
import subprocess
import tarfile

MB = 1000 * 1000


def make(rootfs, folder):
    """Makes FOLDER/in.tar in `docker save` form; returns its path. Not made again when it is whole."""
    archive = os.path.join(folder, "in.tar")
    if os.path.exists(archive):
        return archive
    work = os.path.join(folder, "layers")
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    layers = []
    for number, fill in enumerate([None, documents, libraries, changes, attributes], start=1):
        tree = rootfs if fill is None else os.path.join(work, str(number))
        if fill is not None:
            os.makedirs(tree)
            fill(tree, rootfs)
        layer = os.path.join(work, f"{number}.tar")
        subprocess.run(["tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name",
                        "--one-file-system", "-C", tree, "-cf", layer, "."], check=True)
        layers.append(layer)
    write_archive(layers, archive)
    shutil.rmtree(work)
    return archive


def take(source, target, megabytes):
    """Copies regular files below SOURCE into TARGET, in order of name, until there are so many megabytes."""
    left = megabytes * MB
    for folder, folders, files in os.walk(source):
        folders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            copy = target + path
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copy2(path, copy)
            left -= os.path.getsize(path)
            if left <= 0:
                return 0
    return left // MB


def fill(tree, sources, megabytes):
    for source in sources:
        megabytes = take(source, tree, megabytes)
    if megabytes > 0:
        incompressible(os.path.join(tree, "srv/filler"), megabytes)


def incompressible(path, megabytes):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    generator = random.Random(path)
    with open(path, "wb") as file:
        for _ in range(megabytes):
            file.write(generator.randbytes(MB))


def documents(tree, _):
    fill(tree, ["/usr/share/doc", "/usr/lib/python3", "/usr/lib/python3.11", "/usr/include", "/usr/share/perl",
                "/usr/lib/gcc"], 303)


def libraries(tree, _):
    fill(tree, ["/usr/lib/x86_64-linux-gnu", "/usr/lib/git-core", "/usr/bin", "/usr/sbin"], 579)
    incompressible(os.path.join(tree, "srv/random-60"), 60)


def changes(tree, rootfs):
    # The host's documents of layer 2, one in seven of them deleted; the Python folder of layer 2 made opaque.
    for name in sorted(os.listdir("/usr/share/doc"))[::7]:
        mark(os.path.join(tree, "usr/share/doc"), f".wh.{name}")
    mark(os.path.join(tree, "usr/lib/python3"), ".wh..wh..opq")
    for name in sorted(os.listdir(os.path.join(rootfs, "etc")))[::3]:
        path = os.path.join(rootfs, "etc", name)
        if os.path.isfile(path) and not os.path.islink(path):
            os.makedirs(os.path.join(tree, "etc"), exist_ok=True)
            shutil.copy2(path, os.path.join(tree, "etc", name))
            with open(os.path.join(tree, "etc", name), "ab") as file:
                file.write(b"\n# rewritten\n")
    incompressible(os.path.join(tree, "srv/random-120"), 120)


def mark(folder, name):
    os.makedirs(folder, exist_ok=True)
    open(os.path.join(folder, name), "w").close()


def attributes(tree, _):
    shared = os.path.join(tree, "srv/shared")
    for number in range(24):
        folder = os.path.join(shared, f"team-{number}")
        os.makedirs(folder)
        subprocess.run(["setfacl", "-m", f"d:u:{1000 + number}:rwx,u:{1000 + number}:rwx", folder], check=True)
        for item in range(18):
            path = os.path.join(folder, f"file-{item}")
            with open(path, "w") as file:
                file.write(f"{number} {item}\n" * 100)
    for number in range(50):
        os.link(os.path.join(shared, "team-0/file-0"), os.path.join(shared, f"link-{number}"))
    with open(os.path.join(shared, "sparse"), "wb") as file:
        file.truncate(16 * MB)
    tool = os.path.join(shared, "tool")
    shutil.copy2("/bin/cat", tool)
    subprocess.run(["setcap", "cap_net_raw+ep", tool], check=True)


def million(folder):
    """An archive of one layer with a million empty files; returns its path."""
    archive = os.path.join(folder, "million.tar")
    if os.path.exists(archive):
        return archive
    layer = os.path.join(folder, "million-layer.tar")
    with open(layer, "wb") as file:
        for number in range(1000):
            member = tarfile.TarInfo(f"d{number:03}")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            file.write(member.tobuf(tarfile.USTAR_FORMAT))
            member = tarfile.TarInfo(f"d{number:03}/f000")
            block = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
            blocks = bytearray()
            for item in range(999):
                block[6:9] = b"%03d" % item
                block[148:156] = b" " * 8
                block[148:156] = b"%06o\0 " % sum(block)
                blocks += block
            file.write(blocks)
        file.write(bytes(1024))
    write_archive([layer], archive)
    os.remove(layer)
    return archive


def digest(path):
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def write_archive(layers, archive):
    config = {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
              "config": {"Cmd": ["/bin/bash"], "Env": ["PATH=/usr/bin:/bin", "BENCH=1"], "Labels": {"of": "bench"}},
              "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
              "history": [{"created_by": f"layer {number + 1}"} for number in range(len(layers))]}
    names = [f"layer{number + 1}.tar" for number in range(len(layers))]
    documents = {"config.json": config,
                 "manifest.json": [{"Config": "config.json", "RepoTags": ["castoff-bench:in"], "Layers": names}]}
    with tarfile.open(archive + ".part", "w", format=tarfile.USTAR_FORMAT) as file:
        for name, layer in zip(names, layers):
            file.add(layer, name)
        for name, document in documents.items():
            path = os.path.join(os.path.dirname(archive), name)
            with open(path, "w") as written:
                json.dump(document, written)
            file.add(path, name)
            os.remove(path)
    os.rename(archive + ".part", archive)
