"""Writes image archives that lie, each into FOLDER under the name of its case: image_hostile.py FOLDER

Prints `CASE KIND` lines: the exit code word that castoff must answer with, see `tests/real/hostile.rs`.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

from image_make import Layer, layers, save

folder = sys.argv[1]


def case(name, kind, *arguments, **keywords):
    save(os.path.join(folder, name + ".tar"), ["castoff-test-hostile:1"], *arguments, **keywords)
    print(name, kind)


def entry(name, content=b"", **fields):
    """A layer of one harmless entry and one that is as given."""
    layer = Layer()
    layer.add("harmless", b"harmless\n")
    item = tarfile.TarInfo("x")
    item.name, item.size = name, len(content)
    for key, value in fields.items():
        setattr(item, key, value)
    layer.tar.addfile(item, io.BytesIO(content))
    return layer.bytes()


def numbered(block, place, value):
    """The header block with octal `value` at `place`, its checksum right again."""
    block = bytearray(block)
    block[place] = b"%0*o " % (place.stop - place.start - 1, value)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


SIZE = slice(124, 136)
good = layers("good", 1000)
LINK, SYMLINK = {"type": tarfile.LNKTYPE}, {"type": tarfile.SYMTYPE}

# Names that lead out.
case("parent", "refused", [entry("../evil", b"evil")])
case("parent-inside", "refused", [entry("a/../../evil", b"evil")])
case("hard-link-out", "refused", [entry("link", **LINK, linkname="../../etc/passwd")])
case("hard-link-nowhere", "corrupt", [entry("link", **LINK, linkname="not/there")])
case("whiteout-of-parent", "corrupt", [entry("a/.wh...", b"")])

# Headers that lie.
member = good[1].index(b"etc/secret\0", 1024)
for name, size in {"size-too-large": 1 << 32, "size-absurd": (1 << 33) - 1}.items():
    lying = bytearray(good[1])
    lying[member:member + 512] = numbered(lying[member:member + 512], SIZE, size)
    case(name, "corrupt", [bytes(lying)])
negative = bytearray(good[1])
negative[member + 124:member + 136] = b"\xff" * 12
block = bytearray(negative[member:member + 512])
block[148:156] = b" " * 8
block[148:156] = b"%06o\0 " % sum(block)
negative[member:member + 512] = block
case("size-negative", "corrupt", [bytes(negative)])

# A layer that is not the one it says, in every way of storing it.
flipped = bytearray(good[1])
flipped[member + 700] ^= 1


def swap(content):
    def change(members, manifests):
        members["layer1/layer.tar"] = content
    return change


def zstd(content):
    return subprocess.run(["zstd", "-q", "-c"], input=content, stdout=subprocess.PIPE, check=True).stdout


case("bit-flip", "corrupt", good, change=swap(bytes(flipped)))
case("bit-flip-gzip", "corrupt", good, change=swap(gzip.compress(bytes(flipped))))
case("bit-flip-zstd", "corrupt", good, change=swap(zstd(bytes(flipped))))
packed = gzip.compress(good[1])
case("gzip-truncated", "corrupt", good, change=swap(packed[:len(packed) // 2]))
packed = zstd(good[1])
case("zstd-truncated", "corrupt", good, change=swap(packed[:len(packed) // 2]))
case("trailing-bytes", "corrupt", good, change=swap(good[1] + b"more"))

# Bombs: little that unfolds to 64 MiB.
zeros = bytes(64 << 20)
case("bomb-gzip", "limit", [zeros], [gzip.compress(zeros)])
case("bomb-zstd", "limit", [zeros], [zstd(zeros)])
case("bomb-gzip-gzip", "limit", [gzip.compress(zeros)], [gzip.compress(gzip.compress(zeros) * 200)])


# Manifests.
def without(path):
    def change(members, manifests):
        del members[path]
    return change


def set_manifest(**fields):
    def change(members, manifests):
        manifests[0].update(fields)
    return change


def raw_manifest(content):
    def change(members, manifests):
        members["manifest.json"] = content
    return change


def wrong_config_name(members, manifests):
    members["0" * 64 + ".json"] = members.pop(manifests[0]["Config"])
    manifests[0]["Config"] = "0" * 64 + ".json"


case("missing-layer", "corrupt", good, change=without("layer1/layer.tar"))
case("missing-layer-in-list", "corrupt", good, change=set_manifest(Layers=["layer0/layer.tar"]))
case("layer-outside", "refused", good, change=set_manifest(Layers=["layer0/layer.tar", "../../etc/passwd"]))
case("layer-absolute", "corrupt", good, change=set_manifest(Layers=["layer0/layer.tar", "/etc/passwd"]))
case("config-outside", "refused", good, change=set_manifest(Config="../../../etc/passwd"))
case("config-wrong-digest", "corrupt", good, change=wrong_config_name)
case("layers-swapped", "corrupt", good, change=set_manifest(Layers=["layer1/layer.tar", "layer0/layer.tar"]))
case("config-not-json", "corrupt", good, raw_config=b"\x7fELF, not JSON")
case("config-a-list", "corrupt", good, raw_config=b"[]")
case("config-empty", "corrupt", good, raw_config=b"")
case("config-deep", "corrupt", good, raw_config=b'{"a":' * 100_000)
case("config-no-rootfs", "corrupt", good, raw_config=b'{"architecture":"amd64","os":"linux"}')
case("config-bad-diff-id", "corrupt", good,
     raw_config=b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["md5:00","../../x"]}}')
case("manifest-not-json", "corrupt", good, change=raw_manifest(b"[{"))
case("manifest-null", "corrupt", good, change=raw_manifest(b"null"))
case("manifest-deep", "corrupt", good, change=raw_manifest(b"[" * 200_000))
case("manifest-empty", "not-found", good, change=raw_manifest(b"[]"))


# A link of the archive that leads to a file of the host.
save(os.path.join(folder, "layer-link-out.tar"), ["castoff-test-hostile:1"], good,
     change=set_manifest(Layers=["layer0/layer.tar", "out"]))
with tarfile.open(os.path.join(folder, "layer-link-out.tar"), "a") as archive:
    item = tarfile.TarInfo("out")
    item.type, item.linkname = tarfile.SYMTYPE, "../../../../etc/passwd"
    archive.addfile(item)
print("layer-link-out", "refused")

# A layout whose blobs are missing, damaged or of another size.
digest = lambda content: hashlib.sha256(content).hexdigest()


def layout(name, kind, change):
    config = json.dumps({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest(layer) for layer in good]},
    }).encode()
    blobs = {}

    def blob(media, content):
        blobs[digest(content)] = content
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": "sha256:" + digest(content), "size": len(content)}

    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob("config.v1+json", config), "layers": [blob("layer.v1.tar", layer) for layer in good]}
    change(manifest, blobs)
    top = blob("manifest.v1+json", json.dumps(manifest).encode())
    top["annotations"] = {"org.opencontainers.image.ref.name": "t"}
    root = os.path.join(folder, name)
    os.makedirs(os.path.join(root, "blobs/sha256"))
    for hexadecimal, content in blobs.items():
        with open(os.path.join(root, "blobs/sha256", hexadecimal), "wb") as file:
            file.write(content)
    for file, content in {"oci-layout": {"imageLayoutVersion": "1.0.0"},
                          "index.json": {"schemaVersion": 2, "manifests": [top]}}.items():
        with open(os.path.join(root, file), "w") as out:
            json.dump(content, out)
    print(name, kind)


first = digest(good[0])
layout("layout-missing-layer", "corrupt", lambda manifest, blobs: blobs.pop(first))
layout("layout-damaged-layer", "corrupt", lambda manifest, blobs: blobs.update({first: good[0][:-1] + b"!"}))
layout("layout-short-layer", "corrupt", lambda manifest, blobs: blobs.update({first: good[0][:-512]}))
layout("layout-wrong-size", "corrupt", lambda manifest, blobs: manifest["layers"][0].update(size=1))
layout("layout-digest-outside", "corrupt",
       lambda manifest, blobs: manifest["layers"][0].update(digest="sha256:../../../../etc/passwd"))
layout("layout-other-algorithm", "corrupt", lambda manifest, blobs: manifest["layers"][0].update(digest="md5:00"))
