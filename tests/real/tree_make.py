"""Makes a root filesystem with everything that gets lost, in the folder given; as root with what only root can make.

Uses Python's os module, setfacl and setcap.
"""

import os
import random
import socket
import subprocess
import sys

root = os.fsencode(sys.argv[1])
privileged = os.geteuid() == 0
os.umask(0o022)


def at(path):
    return os.path.join(root, path)


def write(path, content=b"", mode=0o644):
    with open(at(path), "wb") as stream:
        stream.write(content)
    os.chmod(at(path), mode)


def setfacl(*arguments):
    subprocess.run([b"setfacl", *arguments], check=True)


for folder in (b"a", b"a/b", b"a-", b"etc", b"drop", b"drop/nested", b"empty", b"long", b"shut"):
    os.makedirs(at(folder), exist_ok=True)
write(b"a/b/small", b"hello\n")
write(b"a-/x", b"sorted behind a by its directory, before it by its path")
write(b"etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n", 0o600)
write(b"nothing")
write(b"private", b"for its owner", 0o600)
write(b"block", bytes(random.Random(1).randbytes(512)))
write(b"odd", bytes(random.Random(2).randbytes(513)))
write(b"big", bytes(random.Random(3).randbytes(3_000_001)), 0o4755 if privileged else 0o755)
write(b"n\xff\xfe-not-utf8", b"raw name")
write(b"new\nline", b"name with a newline")
write(b"\xc3\xbcmlaut = sign", b"name with UTF-8")
write(b"back\\slash", b"name with a backslash")
write(b"x" * 255, b"255 bytes of name")
write(b"long/" + b"y" * 200, b"long path")

deep = b"deep"
for number in range(60):
    os.mkdir(at(deep))
    deep += b"/%d" % number
os.mkdir(at(deep))
write(deep + b"/end", b"deep")

with open(at(b"sparse"), "wb") as stream:
    stream.write(b"start")
    stream.seek(10 << 20)
    stream.write(b"middle" * 1000)
    stream.seek(40 << 20)
    stream.write(b"end")
    stream.truncate(64 << 20)
with open(at(b"hole"), "wb") as stream:
    stream.truncate(1 << 20)

os.symlink(b"/absolute/dangling", at(b"link-absolute"))
os.symlink(b"../../..", at(b"link-up"))
os.symlink(b"t" * 180, at(b"link-long"))
os.symlink(b"b", at(b"a/link-dir"))
os.mkfifo(at(b"pipe"), 0o620)
os.link(at(b"a/b/small"), at(b"z-hard"))
os.link(at(b"a/b/small"), at(b"etc/hard"))
os.link(at(b"link-up"), at(b"link-up-hard"), follow_symlinks=False)

server = socket.socket(socket.AF_UNIX)
server.bind(at(b"socket"))

os.setxattr(at(b"a/b/small"), "user.binary", b"\0\n=\xff" * 3)
os.setxattr(at(b"a"), "user.on-directory", b"")
os.setxattr(at(b"etc/passwd"), "user.text", "ünïcode".encode())

setfacl(b"-m", b"u:1001:rw-,g:1002:r--,m::rw-", at(b"etc/passwd"))
setfacl(b"-m", b"u:1001:r-x", at(b"a"))
write(b"drop/before", b"made before the default ACL")
setfacl(b"-d", b"-m", b"u:1001:rwx,g:2000:r-x", at(b"drop"))
write(b"drop/inherits", b"inherits")
os.mkdir(at(b"drop/child"))
setfacl(b"-b", at(b"drop/before"))

if privileged:
    os.chmod(at(b"shut"), 0o000)
    os.chown(at(b"block"), 3_000_000, 4_000_000_000)
    os.chown(at(b"etc"), 12, 34)
    os.lchown(at(b"link-long"), 5, 6)
    os.chmod(at(b"etc"), 0o2751)
    os.chmod(at(b"empty"), 0o1777)
    os.mknod(at(b"char"), 0o20660, os.makedev(1, 3))
    os.mknod(at(b"disk"), 0o60600, os.makedev(259, 70000))
    os.setxattr(at(b"odd"), "trusted.secret", b"t\0")
    os.setxattr(at(b"link-long"), "trusted.on-link", b"on a link", follow_symlinks=False)
    os.setxattr(at(b"char"), "trusted.on-device", b"on a device")
    write(b"ping", b"binary", 0o755)
    subprocess.run(["setcap", "cap_net_raw+ep", at(b"ping")], check=True)
    write(b"ping3", b"binary", 0o755)
    subprocess.run(["setcap", "-n", "100000", "cap_net_raw,cap_chown+ep", at(b"ping3")], check=True)

for path, ns in (
    (b"a/b/small", 1_600_000_000_123_456_789), (b"odd", -1_500_000_000), (b"block", -1),
    (b"nothing", 7_258_118_400_000_000_001), (b"link-up", 1_000_000_000_000_000_007), (b"pipe", 5),
    (b"drop", 1_111_111_111_111_111_111), (b"a/b", 1_222_222_222_222_222_222),
):
    os.utime(at(path), ns=(ns, ns), follow_symlinks=False)
os.utime(root, ns=(987_654_321_000_000_001, 987_654_321_000_000_001))
