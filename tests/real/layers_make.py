"""Makes two trees in the working folder, `before` and `after`, and two layers that lead from nothing to `after`:
`layer0.tar` holds `before`, `layer1.tar` what changes it. Needs root, setfacl, setcap, GNU tar and busybox-static.
"""

import os
import shutil
import subprocess

os.umask(0o022)


def run(*arguments, **options):
    subprocess.run(arguments, check=True, **options)


def write(path, content=b"", mode=0o644):
    with open(path, "wb") as out:
        out.write(content)
    os.chmod(path, mode)


def setfacl(*arguments):
    run("setfacl", *arguments)


os.makedirs("before/bin")
shutil.copy2("/bin/busybox", "before/bin/busybox")
os.makedirs("before/t")
os.chdir("before/t")
write("acl", b"named user", 0o640)
setfacl("-m", "u:1001:rw-,g:1002:r--", "acl")
os.makedirs("shared/sub/deep")
write("shared/plain", b"inherits nothing", 0o640)
write("shared/sub/plain", b"neither does this")
write("shared/own", b"has its own", 0o600)
os.symlink("plain", "shared/link")
os.mkfifo("shared/pipe", 0o620)
os.mknod("shared/null", 0o020666, os.makedev(1, 3))
os.makedirs("shared/nested/inner")
write("shared/nested/file", b"x", 0o4755)
write("h1", b"three names", 0o640)
os.link("h1", "h2")
os.link("h1", "shared/h3")
write("cap", b"capable", 0o755)
run("setcap", "cap_net_bind_service+ep", "cap")
os.link("cap", "cap2")
write("suid", b"suid", 0o6755)
with open("sparse", "wb") as out:
    out.seek(5 << 20)
    out.write(b"end")
write("xattr")
os.setxattr("xattr", "user.binary", b"a\0b\nc=\xff")
os.setxattr("xattr", "trusted.seen", b"by root")
os.makedirs("locked/in", 0o700)
write("locked/in/file")
write(b"n\xff\xfe\nodd", b"odd")
write("l" * 250)
write("deleted")
os.makedirs("opaque/gone/deeper")
write("opaque/gone/file")
os.makedirs("anew/old")
write("anew/old/file")
os.makedirs("becomes-file/x")
write("becomes-directory")
write("loses-acl")
setfacl("-m", "u:7:rwx", "loses-acl")
os.makedirs("loses-default")
write("loses-default/child")
# After everything is in them, so that nothing has inherited yet.
setfacl("-m", "u:1001:r--", "shared/own")
setfacl("-m", "d:u::rwx,d:u:1001:rwx,d:g::r-x,d:o::---", "shared")
setfacl("-m", "d:u::rwx,d:g:50:r-x,d:g::---,d:o::---", "-m", "u:1003:--x", "shared/nested")
setfacl("-m", "d:u::rwx,d:g::---,d:o::---", "loses-default")
setfacl("-m", "u:1001:--x", "locked")
os.chown("locked", 5, 6)
os.chown("suid", 3000000, 4000000)
os.chmod("suid", 0o6755)
for number, (folder, _, files) in enumerate(os.walk(b".", topdown=False)):
    for name in files + [b""]:
        os.utime(os.path.join(folder, name), ns=(0, 1_500_000_000_123_456_789 + number), follow_symlinks=False)
os.chdir("../..")

run("cp", "-a", "before", "after")
os.chdir("after/t")
os.remove("deleted")
shutil.rmtree("opaque")
os.makedirs("opaque/new")
shutil.rmtree("anew")
os.mkdir("anew")
write("anew/file", b"anew")
shutil.rmtree("becomes-file")
write("becomes-file", b"now a file")
os.remove("becomes-directory")
os.mkdir("becomes-directory")
write("becomes-directory/child")
os.remove("h1")
write("h1", b"a file of its own")
os.remove("cap")
setfacl("-b", "loses-acl")
setfacl("-b", "loses-default")
write("loses-default/second")
write("shared/late", b"late")
setfacl("-b", "shared/late")
os.chmod("shared/late", 0o604)
os.makedirs("shared/sub/new")
write("shared/sub/new/file")
os.chdir("../..")

changed = ["t", "t/opaque", "t/opaque/new", "t/anew", "t/anew/file", "t/becomes-file", "t/becomes-directory",
           "t/becomes-directory/child", "t/h1", "t/loses-acl", "t/loses-default", "t/loses-default/second", "t/shared",
           "t/shared/late", "t/shared/sub", "t/shared/sub/new", "t/shared/sub/new/file"]
# `t/shared/late` was made below a default ACL; `t/shared/sub/new` too, and its parent has none. What `after` says of
# itself is what counts.
marks = ["t/.wh.deleted", "t/opaque/.wh..wh..opq", "t/.wh.cap", "t/anew/.wh..wh..opq", "t/loses-default/.wh.nothing"]
for mark in marks:
    os.makedirs(os.path.dirname("marks/" + mark), exist_ok=True)
    write("marks/" + mark)
tar = ["tar", "--format=posix", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--acls", "-S", "--sort=name"]
run(*tar, "-cf", "layer0.tar", "-C", "before", "bin", "t")
run(*tar, "-cf", "layer1.tar", "-C", "after", "--no-recursion", *changed)
run("tar", "-rf", "layer1.tar", "-C", "marks", *marks)
