//! Disk images, judged by e2fsck, debugfs, the kernel, sfdisk, qemu-img, unsquashfs and tree_facts.py.

use std::path::{Path, PathBuf};
use std::process::Command;

use castoff::disk::{Compression, Format, Layout, Request, Written, open, squashfs, write};
use castoff::error::Kind;
use castoff::progress::{Cancel, Progress};
use castoff::vocab::Digest;

use crate::harness::require_root;

/// A scratch folder on the disk, and one in memory for what must not depend on where it lies.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// A bootable Debian tree, made once a process.
pub(crate) struct Made {
    pub(crate) folder: Folder,
    pub(crate) tree: PathBuf,
}

pub(crate) fn made() -> Made {
    let folder = Folder::new();
    let tree = folder.path("debian");
    let script = "source contrib/make/machine.sh; source contrib/make/rootfs.sh; debian_rootfs \"$1\" \"$2\"; passwd -R \"$1\" -d root";
    run(Command::new("bash")
        .args(["-c", script, "-"])
        .arg(&tree)
        .arg("linux-image-amd64,systemd-sysv,udev,passwd")
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    Made { folder, tree }
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

pub(crate) fn sum(path: &Path) -> String {
    run(Command::new("sha256sum").arg("--").arg(path)).split_whitespace().next().unwrap().to_owned()
}

fn request(tree: impl Into<PathBuf>, layout: Layout, size: Option<u64>) -> Request {
    Request {
        tree: tree.into(),
        size,
        layout,
        format: Format::Raw,
        label: "root".to_owned(),
        seed: Digest::of(b"a plan"),
        epoch: 1_700_000_000,
        append: None,
    }
}

fn written(request: &Request, target: &Path) -> castoff::error::Result<Written> {
    write(request, target, &Progress::silent(), &Cancel::new())
}

pub(crate) fn write_disk(tree: impl Into<PathBuf>, target: &Path, layout: Layout, size: Option<u64>) -> Written {
    written(&request(tree, layout, size), target).unwrap_or_else(|error| panic!("{}", error.render()))
}

const PLAIN: Layout = Layout::WholeDisk { boot: false };

/// Names, kinds, owners, times and attributes that naive tools lose.
fn odd_tree(root: &Path) {
    let script = r#"
import os, sys
root = os.fsencode(sys.argv[1])
d = root + b'/odd'
os.makedirs(d)
for byte in range(1, 256):
    if byte != 47:
        open(d + b'/x' + bytes([byte]) + b'y', 'wb').write(bytes([byte]))
for name in [b'<12>', b'-f', b'#c', b'!ls', b'"', b' ', b'\n', b'\r', b'n' * 255, b'"' * 255, b'\n' * 255]:
    open(d + b'/' + name, 'w').write('1')
os.makedirs(d + b'/dir\nline/sub')
open(d + b'/dir\nline/sub/f', 'w').write('x')
os.link(d + b'/dir\nline/sub/f', d + b'/hard\n')
for name, target in [(b'long', b'a' * 4090), (b'l59', b'a' * 59), (b'l60', b'a' * 60), (b'quoted', b'x"y z'), (b'gone', b'/nowhere')]:
    os.symlink(target, d + b'/' + name)
deep = d
for _ in range(15):
    deep += b'/' + b'd' * 200
os.makedirs(deep)
open(deep + b'/f', 'w').write('deep')
os.setxattr(d + b'/<12>', 'user.empty', b'')
os.setxattr(d + b'/<12>', b'user.q"x y', b'v' * 3000)
os.setxattr(d + b'/<12>', 'trusted.t', bytes(range(256)))
os.mkdir(root + b'/many')
for number in range(3000):
    open(root + b'/many/%d' % number, 'w').write(str(number))
for number, seconds in enumerate([-2**31, -1, 0, 2**31, 2**32, 2**33 + 5]):
    name = root + b'/many/t%d' % number
    open(name, 'w')
    os.utime(name, ns=(0, seconds * 10**9 + 7))
with open(root + b'/spread', 'wb') as spread:
    for number in range(2000):
        spread.seek(number * 65536)
        spread.write(b'z' * 4096)
    spread.truncate(3 << 30)
os.mkdir(root + b'/lost+found')
os.mkdir(root + b'/bin')
os.mkdir(root + b'/srv')
os.mkdir(root + b'/dev')
import shutil
shutil.copy('/bin/cat', root + b'/bin/cat')
shutil.copy('/bin/true', root + b'/bin/true')
import stat
os.mknod(root + b'/dev/c', 0o20660, os.makedev(1, 300))
os.mknod(root + b'/dev/b', 0o60660, os.makedev(259, 70000))
os.mknod(root + b'/dev/p', 0o10644)
"#;
    run(Command::new("python3").args(["-c", script]).arg(root));
    let script = "source contrib/make/machine.sh; source contrib/make/rootfs.sh; decorate_rootfs \"$1\"";
    run(Command::new("bash").args(["-c", script, "-"]).arg(root).current_dir(env!("CARGO_MANIFEST_DIR")));
}

/// Everything about every entry, told by a program that is not castoff.
fn facts(root: &Path) -> String {
    let script = r#"
import os, stat, sys, hashlib
os.chdir(os.fsencode(sys.argv[1]))
rows, links = [], {}
for folder, folders, files in os.walk(b'.'):
    for name in [b'.'] + files + [name for name in folders if os.path.islink(folder + b'/' + name)]:
        path = os.path.normpath(folder + b'/' + name)
        s = os.lstat(path)
        xattrs = sorted((key, os.getxattr(path, key, follow_symlinks=False)) for key in os.listxattr(path, follow_symlinks=False))
        content = ''
        if stat.S_ISREG(s.st_mode):
            content = hashlib.sha256(open(path, 'rb').read(200 << 20)).hexdigest() + ' %d' % s.st_size
        if stat.S_ISLNK(s.st_mode):
            content = os.readlink(path)
        if not stat.S_ISDIR(s.st_mode) and s.st_nlink > 1:
            links.setdefault(s.st_ino, []).append(path)
        rows.append((path, oct(s.st_mode), s.st_uid, s.st_gid, s.st_mtime_ns, s.st_rdev, xattrs, content))
for row in sorted(rows):
    print(row)
for group in sorted(map(sorted, links.values())):
    print('one file:', group)
"#;
    run(Command::new("python3").args(["-c", script]).arg(root))
}

/// What the kernel shows of the image, mounted for as long as it takes to look.
fn facts_of_image(image: &Path, offset: u64) -> String {
    let folder = Folder::new();
    let point = folder.path("mounted");
    std::fs::create_dir(&point).unwrap();
    run(Command::new("mount").args(["-o", &format!("loop,ro,offset={offset}")]).arg(image).arg(&point));
    let told = std::panic::catch_unwind(|| facts(&point));
    run(Command::new("umount").arg(&point));
    told.unwrap()
}

fn assert_same(one: &str, other: &str) {
    let difference = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    assert!(one == other, "{difference:?}, {} and {} lines", one.lines().count(), other.lines().count());
}

fn fsck(image: &Path, offset: u64) {
    let name = format!("{}?offset={offset}", image.display());
    run(Command::new("e2fsck").args(["-f", "-n"]).arg(name));
}

#[test]
fn an_ext4_disk_holds_just_what_the_tree_does_whatever_its_names() {
    require_root();
    let folder = Folder::new();
    let (tree, image) = (folder.path("tree"), folder.path("a?b, c.img"));
    odd_tree(&tree);
    let plain = folder.path("plain.img");
    write_disk(&tree, &image, PLAIN, None);
    std::fs::rename(&image, &plain).unwrap();
    fsck(&plain, 0);
    assert_same(&facts(&tree), &facts_of_image(&plain, 0));
    let opened = open::inspect(&plain, None).unwrap();
    let opened = open::open(opened, &folder.path(""), &Progress::silent(), &Cancel::new()).unwrap();
    opened
        .unpack(&folder.path("again"), &Progress::silent(), &Cancel::new())
        .unwrap_or_else(|error| panic!("{}", error.render()));
    assert_same(&facts(&tree), &facts(&folder.path("again")));
    let left: Vec<_> = std::fs::read_dir(folder.path("")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(left.len() <= 4, "{left:?}");
}

#[test]
fn two_copies_of_one_tree_in_different_places_become_the_same_bytes() {
    require_root();
    let folder = Folder::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let tree = folder.path("tree");
    odd_tree(&tree);
    let copy = elsewhere.path().join("another name");
    run(Command::new("cp").args(["-a", "--sparse=always"]).arg(&tree).arg(&copy));
    for format in [
        Format::Raw,
        Format::Qcow2(Compression::None),
        Format::Qcow2(Compression::Zstd),
        Format::Qcow2(Compression::Zlib),
    ] {
        let mut first = request(&tree, PLAIN, Some(80 << 20));
        first.format = format;
        let second = Request { tree: copy.clone(), ..first.clone() };
        let images = [folder.path("one"), elsewhere.path().join("two")];
        written(&first, &images[0]).unwrap();
        let told = written(&second, &images[1]).unwrap();
        assert_eq!(sum(&images[0]), sum(&images[1]), "{format:?}");
        assert_eq!(told.virtual_size, 80 << 20);
        let kind = if format == Format::Raw { "raw" } else { "qcow2" };
        let info = run(Command::new("qemu-img").args(["info", "--output=json", "-f", kind]).arg(&images[1]));
        assert!(info.contains("\"virtual-size\": 83886080"), "{info}");
    }
    let mut other = request(&tree, PLAIN, Some(80 << 20));
    other.seed = Digest::of(b"another plan");
    written(&other, &folder.path("other")).unwrap();
    written(&request(&tree, PLAIN, Some(80 << 20)), &folder.path("one")).unwrap();
    assert_ne!(sum(&folder.path("one")), sum(&folder.path("other")));
}

#[test]
fn a_gpt_disk_has_the_table_sfdisk_reads_and_its_root_is_found_and_opened() {
    require_root();
    let folder = Folder::new();
    let tree = folder.path("tree");
    kernel_tree(&tree);
    let image = folder.path("gpt.qcow2");
    let mut wanted = request(&tree, Layout::Gpt, None);
    wanted.format = Format::Qcow2(Compression::Zstd);
    let told = written(&wanted, &image).unwrap_or_else(|error| panic!("{}", error.render()));
    assert_eq!(told.kernel.unwrap().initrd.unwrap(), "/boot/initrd.img-9.9");
    let raw = folder.path("raw");
    run(Command::new("qemu-img").args(["convert", "-f", "qcow2", "-O", "raw"]).arg(&image).arg(&raw));
    let verified = run(Command::new("sfdisk").arg("--verify").arg(&raw));
    assert!(verified.contains("No errors detected"), "{verified}");
    fsck(&raw, 66 << 20);
    let loaders =
        run(Command::new("mdir").arg("-b").arg("-i").arg(format!("{}@@2M", raw.display())).arg("::/EFI/BOOT"));
    assert!(loaders.contains("BOOTX64.EFI"), "{loaders}");
    let found = open::inspect(&image, None).unwrap();
    let opened = open::open(found, &folder.path(""), &Progress::silent(), &Cancel::new()).unwrap();
    assert_eq!(opened.root.offset, 66 << 20);
    opened.unpack(&folder.path("again"), &Progress::silent(), &Cancel::new()).unwrap();
    let configuration = std::fs::read_to_string(folder.path("again/boot/grub/grub.cfg")).unwrap();
    assert!(configuration.contains("linux /boot/vmlinuz-9.9 root=PARTUUID="), "{configuration}");
}

/// A tree with what looks like a kernel to a boot loader.
fn kernel_tree(tree: &Path) {
    std::fs::create_dir_all(tree.join("boot")).unwrap();
    let mut kernel = vec![0; 1024];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    std::fs::write(tree.join("boot/vmlinuz-9.9"), &kernel).unwrap();
    std::fs::write(tree.join("boot/vmlinuz-9.10.0"), b"not linked").unwrap();
    std::fs::write(tree.join("boot/initrd.img-9.9"), b"initrd").unwrap();
    std::os::unix::fs::symlink("boot/../../boot/vmlinuz-9.9", tree.join("vmlinuz")).unwrap();
}

#[test]
fn what_cannot_be_written_is_refused_by_name_and_leaves_the_old_disk() {
    require_root();
    let folder = Folder::new();
    let tree = folder.path("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    let image = folder.path("disk");
    std::fs::write(&image, b"the old one").unwrap();
    let refused = |wanted: &Request| {
        let error = written(wanted, &image).unwrap_err();
        assert_eq!(std::fs::read(&image).unwrap(), b"the old one");
        let left = std::fs::read_dir(folder.path("")).unwrap().count();
        assert_eq!(left, 2, "something was left behind");
        (error.kind(), error.render())
    };
    let (kind, text) = refused(&request(&tree, Layout::Gpt, None));
    assert!(kind == Kind::NotFound && text.contains("no kernel"), "{text}");
    std::os::unix::fs::symlink("one\ntwo", tree.join("etc/link")).unwrap();
    let (kind, text) = refused(&request(&tree, PLAIN, None));
    assert!(kind == Kind::Unsupported && text.contains("etc/link"), "{text}");
    std::fs::remove_file(tree.join("etc/link")).unwrap();
    let random = std::fs::File::open("/dev/urandom").unwrap();
    let mut file = std::fs::File::create(tree.join("large")).unwrap();
    std::io::copy(&mut std::io::Read::take(random, 40 << 20), &mut file).unwrap();
    for size in [20 << 20, 42 << 20] {
        let (_, text) = refused(&request(&tree, PLAIN, Some(size)));
        assert!(text.contains("does not fit"), "{text}");
    }
    let cancel = Cancel::new();
    cancel.cancel();
    let error = write(&request(&tree, PLAIN, None), &image, &Progress::silent(), &cancel).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
}

#[test]
fn images_that_lead_elsewhere_or_lie_about_their_size_are_refused() {
    let folder = Folder::new();
    let create = |name: &str, arguments: &[&str]| {
        let path = folder.path(name);
        run(Command::new("qemu-img").arg("create").args(arguments).arg(&path).arg("600G"));
        path
    };
    std::fs::write(folder.path("base"), vec![0; 4096]).unwrap();
    let base = folder.path("base");
    let backed = create("backed", &["-f", "qcow2", "-F", "raw", "-b", base.to_str().unwrap()]);
    let apart = create("apart", &["-f", "qcow2", "-o", &format!("data_file={}", folder.path("data").display())]);
    let large = create("large", &["-f", "qcow2"]);
    let vmdk = create("vmdk", &["-f", "vmdk"]);
    for (path, kind, what) in [
        (&backed, Kind::Refused, "backing file"),
        (&apart, Kind::Refused, "another file"),
        (&large, Kind::Limit, "644245094400"),
        (&vmdk, Kind::Unsupported, "VMDK"),
    ] {
        let error = open::inspect(path, Some(1 << 38)).unwrap_err();
        assert!(error.kind() == kind && error.render().contains(what), "{}", error.render());
    }
}

#[test]
fn a_squashfs_is_the_tree_and_says_which_acls_it_has_not() {
    require_root();
    let folder = Folder::new();
    let tree = folder.path("tree");
    std::fs::create_dir_all(tree.join("a")).unwrap();
    std::fs::write(tree.join("a/file"), b"content").unwrap();
    std::fs::hard_link(tree.join("a/file"), tree.join("a/second")).unwrap();
    run(Command::new("setfacl").args(["-m", "u:1001:r"]).arg(tree.join("a")));
    // Squashfs has whole seconds.
    for path in ["a/file", "a", "."] {
        run(Command::new("touch").args(["-d", "@1600000000"]).arg(tree.join(path)));
    }
    let copy = folder.path("copy");
    run(Command::new("cp").arg("-a").arg(&tree).arg(&copy));
    let make = |tree: &Path, name: &str| {
        squashfs(tree, &folder.path(name), 1_700_000_000, &Progress::silent(), &Cancel::new()).unwrap()
    };
    let told = make(&tree, "one");
    assert_eq!(told.acls_left_out, ["a"]);
    make(&copy, "two");
    assert_eq!(sum(&folder.path("one")), sum(&folder.path("two")));
    run(Command::new("unsquashfs").arg("-no-progress").arg("-d").arg(folder.path("out")).arg(folder.path("one")));
    run(Command::new("setfacl").arg("-b").arg(tree.join("a")));
    let names =
        |text: String| text.lines().map(|line| line.split(", [").next().unwrap().to_owned()).collect::<Vec<_>>();
    run(Command::new("chmod").arg("--reference").arg(folder.path("out/a")).arg(tree.join("a")));
    assert_eq!(names(facts(&tree)), names(facts(&folder.path("out"))));
}
