//! A publisher made of other programs: GNU tar, xz, zstd, sha256sum, md5sum, ssh-keygen.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{program, require_root, succeed};

pub(super) const IMAGE: &str = "makina-states-bionic";
pub(super) const FLAVOUR: &str = "lxc";
pub(super) const WHO: &str = "release@example.net";

/// A folder that is served, a key, and the trees that were released.
pub(super) struct Publisher {
    work: tempfile::TempDir,
    /// The served folder.
    pub(super) place: PathBuf,
    /// Where hosts find it.
    pub(super) url: String,
    manifest: Value,
}

impl Publisher {
    /// A publisher to this folder, which hosts reach by `url`.
    pub(super) fn new(place: &Path, url: &str) -> Self {
        require_root();
        let work = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.join("versions")).unwrap();
        for name in ["key", "other"] {
            let file = work.path().join(name);
            succeed(program("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(file));
        }
        let publisher = Self { place: place.to_owned(), url: url.to_owned(), work, manifest: Value::Null };
        let public = std::fs::read_to_string(publisher.path("key.pub")).unwrap();
        std::fs::write(publisher.allowed_signers(), format!("{WHO} namespaces=\"castoff-release\" {public}")).unwrap();
        publisher
    }

    /// A publisher to a folder of its own, as a `file` address.
    pub(super) fn local() -> (tempfile::TempDir, Self) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("file://{}", folder.path().display());
        let publisher = Self::new(folder.path(), &url);
        (folder, publisher)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    pub(super) fn allowed_signers(&self) -> PathBuf {
        self.path("allowed_signers")
    }

    pub(super) fn tree(&self, number: u32) -> PathBuf {
        self.path(&format!("tree-{number}"))
    }

    pub(super) fn tar(&self, number: u32) -> PathBuf {
        self.path(&format!("{number}.tar"))
    }

    /// A container's folder: what the one before had, and what is new; `mib` of it does not compress.
    pub(super) fn grow(&self, number: u32, mib: usize) {
        let tree = self.tree(number);
        let sh = |script: &str| succeed(Command::new("sh").current_dir(&tree).args(["-ec", script]));
        if number > 1 {
            succeed(program("cp").arg("-a").arg(self.tree(number - 1)).arg(&tree));
        } else {
            std::fs::create_dir(&tree).unwrap();
            sh("mkdir -p rootfs/etc rootfs/usr/bin rootfs/srv/shared/deep rootfs/data rootfs/var; echo lxc.arch=amd64 > config
                printf x > rootfs/usr/bin/su; chown 0:0 rootfs/usr/bin/su; chmod 4755 rootfs/usr/bin/su
                ln rootfs/usr/bin/su rootfs/usr/bin/su2; ln -s ../usr/bin rootfs/etc/bin; ln -s /etc/passwd rootfs/etc/outside
                mkfifo rootfs/var/pipe; mknod rootfs/var/null c 1 3; chown 1234:4321 rootfs/srv/shared
                touch rootfs/srv/shared/file rootfs/srv/shared/deep/file
                setfacl -m u:1001:rwx,g:1002:r-x,d:u:1001:rwx,d:g:1002:rx,m::rwx rootfs/srv/shared
                setfacl -m u:1003:r rootfs/srv/shared/file; setfattr -n user.note -v hello rootfs/etc
                chmod 0750 rootfs/srv/shared/deep; printf 'f\\xff' > \"$(printf 'rootfs/etc/n\\377me')\"");
            sh(&format!("head -c {} /dev/urandom > rootfs/usr/noise", mib << 20));
        }
        sh(&format!(
            "for at in $(seq 40); do echo {number} > rootfs/data/$at; done; echo {number} > rootfs/etc/version
             head -c 3000 /dev/urandom > rootfs/usr/new-{number}"
        ));
    }

    /// Grows a tree and releases it, with patches from these releases.
    pub(super) fn release(&mut self, number: u32, mib: usize, from: &[u32]) {
        self.grow(number, mib);
        self.pack(number);
        self.announce(number, from);
    }

    /// The archive of a grown tree.
    pub(super) fn pack(&self, number: u32) {
        let tar = self.tar(number);
        succeed(
            program("tar")
                .args(["--format=posix", "--sort=name", "--numeric-owner", "--acls", "--xattrs"])
                .args(["--xattrs-include=*", "-C"])
                .arg(self.tree(number))
                .arg("-cf")
                .arg(&tar)
                .arg("."),
        );
        let archive = self.place.join(archive(number));
        succeed(Command::new("sh").args(["-ec", "xz -0 -c \"$0\" > \"$1\""]).arg(&tar).arg(&archive));
    }

    /// The manifest of what is packed, with patches by zstd, signed.
    pub(super) fn announce(&mut self, number: u32, from: &[u32]) {
        let patches: Vec<Value> = from.iter().map(|from| self.patch(*from, number)).collect();
        let archive = archive(number);
        let path = self.place.join(&archive);
        let tar = self.tar(number);
        let manifest = json!({
            "format": 1,
            "image": IMAGE,
            "flavor": FLAVOUR,
            "version": number,
            "created": "2026-01-01T00:00:00Z",
            "expires": "2099-01-01T00:00:00Z",
            "diff_id": sha256(&tar),
            "tar_size": size(&tar),
            "tree": tree_digest(&self.tree(number)),
            "urls": [format!("{}/{{name}}", self.url)],
            "artefacts": [{
                "name": archive,
                "compression": "xz",
                "size": size(&path),
                "sha256": sha256(&path),
                "md5": &succeed(program("md5sum").arg(&path))[..32],
            }],
            "patches": patches,
            "setuid": [],
        });
        self.sign(manifest, "key");
    }

    fn patch(&self, from: u32, to: u32) -> Value {
        let name = format!("{IMAGE}-{FLAVOUR}-{to}.from-{from}.zst");
        let path = self.place.join(&name);
        let mut zstd = program("zstd");
        zstd.args(["-q", "-f", "-3", "--long=27"]).arg(format!("--patch-from={}", self.tar(from).display()));
        succeed(zstd.arg(self.tar(to)).arg("-o").arg(&path));
        patch_row(&name, &path, &self.tar(from), &self.tar(to))
    }

    /// The manifest as it was last published, changed by `change`, signed by this key.
    pub(super) fn change(&mut self, key: &str, change: impl FnOnce(&mut Value)) {
        let mut manifest = self.manifest.clone();
        change(&mut manifest);
        self.sign(manifest, key);
    }

    fn sign(&mut self, manifest: Value, key: &str) {
        let path = self.manifest_path();
        std::fs::write(&path, serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
        let signature = path.with_extension("json.sig");
        let _none_yet = std::fs::remove_file(&signature);
        succeed(
            program("ssh-keygen")
                .args(["-q", "-Y", "sign", "-n", "castoff-release", "-f"])
                .arg(self.path(key))
                .arg(&path),
        );
        self.manifest = manifest;
    }

    pub(super) fn manifest_path(&self) -> PathBuf {
        self.place.join(format!("versions/{IMAGE}-{FLAVOUR}_manifest.json"))
    }

    pub(super) fn archive_path(&self, number: u32) -> PathBuf {
        self.place.join(archive(number))
    }

    pub(super) fn published(&self) -> &Value {
        &self.manifest
    }
}

fn archive(number: u32) -> String {
    format!("{IMAGE}-{FLAVOUR}-{number}.tar.xz")
}

/// The canonical digest of a tree, by another program: see `rootfs::Canonical`.
fn tree_digest(tree: &Path) -> String {
    let script = r#"
import hashlib, os, stat, struct, sys
tree, inodes = hashlib.sha256(b"castoff tree 1\n"), {}
def number(value): tree.update(struct.pack(">Q", value & (1 << 64) - 1))
def text(value): number(len(value)); tree.update(value)
def entry(path, name):
    found = os.lstat(path)
    mode, kind = found.st_mode, stat.S_IFMT(found.st_mode)
    first = inodes.setdefault((found.st_dev, found.st_ino), name)
    hard = kind != stat.S_IFDIR and first != name
    letter = {stat.S_IFREG: b"f", stat.S_IFDIR: b"d", stat.S_IFLNK: b"l", stat.S_IFCHR: b"c", stat.S_IFBLK: b"b", stat.S_IFIFO: b"p"}[kind]
    text(name); tree.update(b"h" if hard else letter)
    for value in (stat.S_IMODE(mode), found.st_uid, found.st_gid, found.st_mtime_ns // 10**9): number(value)
    xattrs = sorted(os.fsencode(name) for name in os.listxattr(path, follow_symlinks=False))
    number(len(xattrs))
    for xattr in xattrs: text(xattr); text(os.getxattr(path, xattr, follow_symlinks=False))
    if hard: text(first)
    elif letter == b"f":
        number(found.st_size); tree.update(hashlib.sha256(open(path, "rb").read()).digest())
    elif letter == b"l": text(os.readlink(path))
    elif letter in b"cb": number(os.major(found.st_rdev)); number(os.minor(found.st_rdev))
    elif letter == b"d":
        for below in sorted(os.listdir(path)): entry(path + b"/" + below, name + b"/" + below if name else below)
entry(os.fsencode(sys.argv[1]), b"")
print("sha256:" + tree.hexdigest())
"#;
    succeed(program("python3").args(["-c", script]).arg(tree)).trim().to_owned()
}

/// The row of a patch in a manifest.
pub(super) fn patch_row(name: &str, path: &Path, from: &Path, to: &Path) -> Value {
    json!({
        "from": sha256(from),
        "to": sha256(to),
        "to_size": size(to),
        "name": name,
        "codec": "zstd-patch-from",
        "size": size(path),
        "sha256": sha256(path),
    })
}

pub(super) fn sha256(path: &Path) -> String {
    format!("sha256:{}", &succeed(program("sha256sum").arg(path))[..64])
}

pub(super) fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}
