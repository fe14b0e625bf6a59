"""Images that carry disk images, honest and hostile ones, as `docker save` writes them.

forest_make.py ARCHIVE KIND
"""

import hashlib
import io
import json
import subprocess
import sys
import tarfile


def add(layer, name, content=b"", **fields):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in fields.items():
        setattr(member, key, value)
    layer.addfile(member, io.BytesIO(content))


def packed(content):
    return subprocess.run(["zstd", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


def entries(layer, kind):
    add(layer, "data", type=tarfile.DIRTYPE, mode=0o755)
    add(layer, "data/images", type=tarfile.DIRTYPE, mode=0o755)
    add(layer, "etc-of-the-image", b"not brought out")
    if kind == "nothing":
        return
    add(layer, "data/images/first.img", b"first")
    place = "data/images/"
    if kind == "lvh":
        add(layer, place + "kind_6.1.qcow2.zst", packed(b"\0" * 8_000_000 + b"end"))
        add(layer, place + "sub", type=tarfile.DIRTYPE, mode=0o755)
        add(layer, place + "sub/two.img.zst", packed(b"one") + packed(b"two"))
    elif kind == "symlink":
        add(layer, place + "evil", type=tarfile.SYMTYPE, linkname="/etc/passwd")
    elif kind == "hardlink":
        add(layer, place + "evil", type=tarfile.LNKTYPE, linkname="etc-of-the-image")
    elif kind == "device":
        add(layer, place + "evil", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    elif kind == "fifo":
        add(layer, place + "evil", type=tarfile.FIFOTYPE)
    elif kind == "dotdot":
        add(layer, place + "../../../evil", b"out")
    elif kind == "absolute":
        add(layer, "/" + place + "evil", b"x")
    elif kind == "second":
        add(layer, place + "a.img.zst", packed(b"whole"))
        add(layer, place + "b.img.zst", packed(b"x" * 100_000)[:-10])
    elif kind == "newline":
        add(layer, place + "evil\nname", b"x")
    elif kind == "double":
        add(layer, place + "evil.zst", packed(b"x"))
        add(layer, place + "evil", b"x")
    elif kind == "unnamed":
        add(layer, place + ".zst", packed(b"x"))
    elif kind == "damaged":
        add(layer, place + "evil.zst", packed(b"x" * 100_000)[:-10])
    elif kind == "garbage":
        add(layer, place + "evil.zst", packed(b"x" * 1000) + b"garbage")
    elif kind == "empty":
        add(layer, place + "evil.zst")
    elif kind == "bomb":
        add(layer, place + "evil.zst", packed(b"\0" * 200_000_000))
    elif kind == "below-a-link":
        add(layer, place + "sub", type=tarfile.SYMTYPE, linkname="/tmp")
        add(layer, place + "sub/evil", b"x")
    else:
        raise SystemExit(f"what is `{kind}`?")


archive, kind = sys.argv[1:]
buffer = io.BytesIO()
with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as layer:
    entries(layer, kind)
layer = buffer.getvalue()
config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "history": [{"created_by": kind}],
                     "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}).encode()
manifest = json.dumps([{"Config": "config.json", "RepoTags": ["castoff-test-forest:1"], "Layers": ["layer.tar"]}]).encode()
with tarfile.open(archive, "w") as out:
    for name, content in [("layer.tar", layer), ("config.json", config), ("manifest.json", manifest)]:
        add(out, name, content)
