"""Writes images as archives of `docker save`: image_make.py OUT NAME CONTENT [BYTES [gzip]]

Two layers with what packing must keep: ACLs, a hard link, a deletion. CONTENT makes images that differ, BYTES of noise
make them large, `gzip` stores their layers compressed.
"""

import gzip
import hashlib
import io
import json
import random
import struct
import sys
import tarfile


def acl(*entries):
    """An ACL as the kernel stores it: (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF
ACCESS = acl((1, 6, NOBODY), (2, 6, 1001), (4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY))


class Layer:
    """A bare tar under construction; the bytes of PAX headers are written by Python."""

    def __init__(self):
        self.file = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.file, mode="w", format=tarfile.PAX_FORMAT)

    def add(self, name, content=None, link=None, mode=0o644, acl=None):
        item = tarfile.TarInfo(name)
        item.mode, item.mtime = mode, 1_600_000_000
        if acl:
            item.pax_headers["SCHILY.xattr.system.posix_acl_access"] = acl.decode("utf-8", "surrogateescape")
        if link is not None:
            item.type, item.linkname = tarfile.LNKTYPE, link
            self.tar.addfile(item)
        elif content is None:
            item.type = tarfile.DIRTYPE
            self.tar.addfile(item)
        else:
            item.size = len(content)
            self.tar.addfile(item, io.BytesIO(content))

    def bytes(self):
        self.tar.close()
        return self.file.getvalue()


def layers(content, size):
    lower = Layer()
    lower.add("etc", mode=0o755)
    lower.add("etc/name", b"lower\n")
    lower.add("etc/gone", b"deleted above\n")
    lower.add("etc/alias", link="etc/name")
    lower.add("noise", random.Random(content).randbytes(size))
    upper = Layer()
    upper.add("etc", mode=0o755)
    upper.add("etc/.wh.gone", b"")
    upper.add("etc/secret", content.encode(), mode=0o660, acl=ACCESS)
    return [lower.bytes(), upper.bytes()]


def save(out, names, bare, stored=None, config=None, change=None, raw_config=None):
    """An archive of these layers; `change` may damage the list of its members first."""
    stored = stored or bare
    document = {
        "architecture": "amd64", "os": "linux", "created": "2020-01-02T03:04:05Z",
        "config": {"Cmd": ["/bin/sh"], "Labels": {"made": "by hand"}}, **(config or {}),
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in bare]},
        "history": [{"created_by": f"step {number}"} for number, _ in enumerate(bare)],
    }
    raw = raw_config if raw_config is not None else json.dumps(document).encode()
    members = {f"layer{number}/layer.tar": layer for number, layer in enumerate(stored)}
    manifest = {"Config": hashlib.sha256(raw).hexdigest() + ".json", "RepoTags": names, "Layers": list(members)}
    members[manifest["Config"]] = raw
    manifests = [manifest]
    if change:
        change(members, manifests)
    members.setdefault("manifest.json", json.dumps(manifests).encode())
    with tarfile.open(out, "w") as archive:
        for name, content in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))


if __name__ == "__main__":
    out, name, content, *more = sys.argv[1:]
    bare = layers(content, int(more[0]) if more else 1000)
    save(out, [name], bare, [gzip.compress(layer) for layer in bare] if "gzip" in more else None)
