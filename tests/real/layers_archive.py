"""Writes the layers given as a docker-save archive: ARCHIVE NAME LAYER..."""

import hashlib
import io
import json
import sys
import tarfile

archive, name, *layers = sys.argv[1:]
with tarfile.open(archive, "w") as out:
    def add(path, content):
        item = tarfile.TarInfo(path)
        item.size = len(content)
        out.addfile(item, io.BytesIO(content))

    digests = []
    for layer in layers:
        with open(layer, "rb") as stream:
            content = stream.read()
        digests.append("sha256:" + hashlib.sha256(content).hexdigest())
        add(layer, content)
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/busybox", "sleep", "600"]},
        "rootfs": {"type": "layers", "diff_ids": digests},
    }
    add("config.json", json.dumps(config).encode())
    add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": layers}]).encode())
