"""Says what a tree is, one JSON line a path, from the file system (`dir PATH`) or from a tar (`tar FILE`).

Two trees are equal if their lines are. Written for the tests of walk and unpack: Python's os and tarfile modules know
nothing of castoff. Names are latin-1 of their bytes.
"""

import decimal
import hashlib
import json
import os
import stat
import sys
import tarfile

HOST_ONLY = ("security.selinux", "security.ima", "security.evm", "trusted.overlay.", "user.overlay.", "system.nfs4_acl")


def name_of(raw):
    return raw.decode("latin-1")


def digest(stream):
    state = hashlib.sha256()
    for chunk in iter(lambda: stream.read(1 << 20), b""):
        state.update(chunk)
    return state.hexdigest()


def of_directory(root):
    root = os.fsencode(root)
    groups, facts = {}, {}

    def add(path, relative):
        state = os.lstat(path)
        if stat.S_ISSOCK(state.st_mode):
            return
        fact = {
            "type": stat.S_IFMT(state.st_mode), "mode": state.st_mode & 0o7777, "uid": state.st_uid,
            "gid": state.st_gid, "mtime": state.st_mtime_ns, "xattrs": {},
        }
        for name in os.listxattr(path, follow_symlinks=False):
            if not name.startswith(HOST_ONLY):
                fact["xattrs"][name] = os.getxattr(path, name, follow_symlinks=False).hex()
        if stat.S_ISREG(state.st_mode):
            with open(path, "rb") as stream:
                fact.update(size=state.st_size, content=digest(stream))
        elif stat.S_ISLNK(state.st_mode):
            fact["target"] = name_of(os.readlink(path))
        elif stat.S_ISCHR(state.st_mode) or stat.S_ISBLK(state.st_mode):
            fact["device"] = [os.major(state.st_rdev), os.minor(state.st_rdev)]
        if not stat.S_ISDIR(state.st_mode):
            groups.setdefault((state.st_dev, state.st_ino), []).append(name_of(relative))
        facts[name_of(relative)] = fact

    add(root, b".")
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = os.path.join(folder, name)
            add(path, os.path.relpath(path, root))
    return with_groups(facts, groups.values())


def of_tar(file):
    kinds = {
        tarfile.REGTYPE: stat.S_IFREG, tarfile.DIRTYPE: stat.S_IFDIR, tarfile.SYMTYPE: stat.S_IFLNK,
        tarfile.CHRTYPE: stat.S_IFCHR, tarfile.BLKTYPE: stat.S_IFBLK, tarfile.FIFOTYPE: stat.S_IFIFO,
    }
    raw = lambda text: name_of(text.encode("utf-8", "surrogateescape"))
    facts, groups = {}, {}
    with tarfile.open(file, encoding="utf-8", errors="surrogateescape") as archive:
        for item in archive:
            path = raw(item.name)
            assert path not in facts, f"{path} stands twice"
            if item.islnk():
                target = raw(item.linkname)
                facts[path] = facts[target]
                groups.setdefault(target, [target]).append(path)
                continue
            time = decimal.Decimal(item.pax_headers.get("mtime", item.mtime))
            fact = {
                "type": kinds[item.type], "mode": item.mode, "uid": item.uid, "gid": item.gid,
                "mtime": int(time * 1000000000), "xattrs": {},
            }
            for key, value in item.pax_headers.items():
                if key.startswith("SCHILY.xattr."):
                    fact["xattrs"][key[13:]] = value.encode("utf-8", "surrogateescape").hex()
            if item.isreg():
                fact.update(size=item.size, content=digest(archive.extractfile(item)))
            elif item.issym():
                fact["target"] = raw(item.linkname)
            elif item.isdev() and not item.isfifo():
                fact["device"] = [item.devmajor, item.devminor]
            facts[path] = fact
    return with_groups(facts, groups.values())


def with_groups(facts, groups):
    facts = {path: dict(fact) for path, fact in facts.items()}
    for group in groups:
        for path in group:
            if len(group) > 1:
                facts[path]["names"] = sorted(group)
    return facts


def main():
    facts = {"dir": of_directory, "tar": of_tar}[sys.argv[1]](sys.argv[2])
    for path in sorted(facts):
        print(json.dumps([path, facts[path]], sort_keys=True))


main()
