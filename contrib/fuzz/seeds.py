#!/usr/bin/env python3
"""Writes the first inputs of a fuzz target: seeds.py TARGET FOLDER. Archives come from GNU tar and Python's tarfile."""

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile

ACLS = [
    b"user::rw-,user:1001:rw-,group::r--,group:2001:r-x,mask::rwx,other::---",
    b"# file: a\n# owner: 0\n# group: 0\nuser::rwx\nuser:1:r-x\t#effective:r--\ngroup::r-x\nmask::r--\nother::---\n"
    b"default:user::rwx\ndefault:group::r-x\ndefault:other::r-x\n",
    b"user::rwx,user:lisa:r-x:502,group::r-x,mask::r-x,other::r-x",
    bytes.fromhex("02000000" "01000600ffffffff" "02000600e9030000" "04000400ffffffff" "10000600ffffffff" "20000000ffffffff"),
    b"u::7,g::5,o::0",
]

RECORDS = [
    b"\0path=a/b\nlinkpath=c\nsize=4096\nuid=4000000000\ngid=1\nmtime=-1.5\nSCHILY.xattr.user.x=\x01\x02",
    b"\0GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=n\nGNU.sparse.realsize=100000",
    b"\0GNU.sparse.size=9000\nGNU.sparse.numblocks=2\nGNU.sparse.map=0,512,4096,512",
    b"\0SCHILY.xattr.system.posix_acl_access=" + ACLS[3].replace(b"\n", b""),
    b"\0SCHILY.acl.access=" + ACLS[0] + b"\nLIBARCHIVE.xattr.user.y=YWJj\natime=1\nctime=2\ncomment=x",
    b"\2path=g\nuid=7",
    b"\1" + b"12 path=abc\n18 mtime=1.000000\n",
]

DIGEST = "sha256:" + "ab" * 32
DOCUMENTS = [
    {"architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "x": [1.0, None],
     "config": {"Cmd": ["a"], "Env": ["A=b"], "ExposedPorts": {"1/tcp": {}}},
     "rootfs": {"type": "layers", "diff_ids": [DIGEST]}, "history": [{"created_by": "x"}, {"empty_layer": True}]},
    {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
     "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 3},
     "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": DIGEST, "size": 9}],
     "annotations": {"a": "b"}},
    {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": DIGEST,
     "size": 5, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"},
     "annotations": {"org.opencontainers.image.ref.name": "latest"}}]},
]

ARGUMENTS = ["1", "1.5", "True", "yes", "y", "None", "~", "010", "0x10", "1e3", ".inf", "1_000", "12:30:45",
             "[1,2]", "{a: 1}", '{"a": null}', "a: b", "- a", "{not json", "!x @y", "#foo", '"5"', "'5'", "  sp ",
             "name=v", "x-y=1", "a==b", "d=", "g=x=y", "{a: &x [1], b: *x}", "[[[[1]]]]", "2026-01-01", "{<<: {a: 1}}"]


def tars():
    """Small archives in every dialect."""
    with tempfile.TemporaryDirectory() as folder:
        os.makedirs(f"{folder}/t/d")
        open(f"{folder}/t/f", "w").write("content")
        os.link(f"{folder}/t/f", f"{folder}/t/link")
        os.symlink("x" * 120, f"{folder}/t/symlink")
        os.mkfifo(f"{folder}/t/fifo")
        open(f"{folder}/t/" + "n" * 150, "w").write("long")
        with open(f"{folder}/t/sparse", "wb") as sparse:
            sparse.write(b"a" * 4096)
            sparse.truncate(1 << 20)
            sparse.seek(1 << 19)
            sparse.write(b"b" * 4096)
        os.utime(f"{folder}/t/f", ns=(1, -1_500_000_000))
        for dialect in ["gnu", "oldgnu", "pax", "ustar", "v7"]:
            for sparse in [[], ["--sparse"], ["--sparse", "--sparse-version=0.1"]]:
                command = ["tar", f"--format={dialect}", *sparse, "--blocking-factor=1", "-C", folder, "-cf", "-", "t"]
                # Dialects that cannot hold a name leave it out and say so with their exit code.
                yield subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "global"}) as archive:
        member = tarfile.TarInfo("./a//b")
        member.pax_headers = {"SCHILY.acl.access": ACLS[0].decode(), "SCHILY.xattr.user.x": "v"}
        archive.addfile(member)
    yield buffer.getvalue()


def seeds(target):
    if target == "tar":
        return [b"\1" + tar[:16000] for tar in tars()]
    if target == "pax":
        return RECORDS
    if target == "acl_text":
        return ACLS
    if target == "manifest":
        return [json.dumps(document).encode() for document in DOCUMENTS]
    if target == "argument":
        return [text.encode() for text in ARGUMENTS]
    sys.exit(f"no seeds are known for {target}")


target, folder = sys.argv[1:]
for number, seed in enumerate(seeds(target)):
    with open(f"{folder}/seed-{number:02}", "wb") as file:
        file.write(seed)
