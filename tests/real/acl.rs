//! ACLs as the kernel stores them, set by setfacl, shown by getfacl and archived by GNU tar and bsdtar.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use castoff::rootfs::acl::{Acl, Numeric, PasswdNames};
use castoff::rootfs::tar::{Member, Positioned, Scanner, encode};
use castoff::rootfs::{Limits, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

/// Every shape of list setfacl can make on a directory, in its own words.
const LISTS: &[&str] = &[
    "u::rwx,g::r-x,o::r-x",
    "u:1001:rw",
    "u:1001:rwx,u:7:---,g:50:r-x,g:4000000000:--x",
    "u:1001:rw,m::r",
    "g:100:rwx,o::---",
    "u:0:r,g:0:w",
    "u:1001:rw,d:u:1002:rwx",
    "d:u::rwx,d:g::r-x,d:o::---",
    "d:u:1001:r-x,d:g:50:rwx,d:m::r-x",
];

fn output(program: &str, arguments: &[&dyn AsRef<OsStr>]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments.iter().map(|argument| argument.as_ref()))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make test` installs it"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The xattr as Python reads it from the file; empty when there is none.
fn kernel(path: &Path, name: &str) -> Vec<u8> {
    let script = "import os, sys\n\
                  path, name = sys.argv[1:]\n\
                  sys.stdout.buffer.write(os.getxattr(path, name) if name in os.listxattr(path) else b'')\n";
    output("python3", &[&"-c", &script, &path, &name])
}

fn folder_with(list: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    output("setfacl", &[&"-m", &list, &folder.path()]);
    folder
}

#[test]
fn what_getfacl_shows_is_what_the_kernel_stores() {
    for list in LISTS {
        let folder = folder_with(list);
        for numeric in ["-n", "-p"] {
            let text = output("getfacl", &[&numeric, &"--absolute-names", &folder.path()]);
            let names = PasswdNames::new(&std::fs::read("/etc/passwd").unwrap(), &std::fs::read("/etc/group").unwrap());
            let (access, default) =
                Acl::pair_from_text(&text, &names).unwrap_or_else(|error| panic!("{list}: {error}"));
            let stored = kernel(folder.path(), "system.posix_acl_access");
            let access = access.expect("getfacl always shows one");
            if access.is_minimal() {
                assert!(stored.is_empty(), "the kernel keeps it in the mode");
            } else {
                assert_eq!(access.to_xattr(), stored, "{list}");
                assert_eq!(Acl::from_xattr(&stored).unwrap(), access);
            }
            assert_eq!(
                default.map(|acl| acl.to_xattr()).unwrap_or_default(),
                kernel(folder.path(), "system.posix_acl_default")
            );
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.path()).unwrap());
            assert_eq!(access.mode_bits(), mode & 0o777, "{list}");
        }
    }
}

#[test]
fn setfacl_and_the_kernel_take_what_castoff_writes() {
    for list in LISTS {
        let folder = folder_with(list);
        let stored = kernel(folder.path(), "system.posix_acl_access");
        if stored.is_empty() {
            continue;
        }
        let other = tempfile::tempdir().unwrap();
        let text = Acl::from_xattr(&stored).unwrap().to_text();
        output("setfacl", &[&"--set", &text, &other.path()]);
        assert_eq!(kernel(other.path(), "system.posix_acl_access"), stored, "{text}");
    }
    // The empty default record takes an inherited list away.
    let folder = folder_with("d:u:1001:rwx");
    let child = folder.path().join("child");
    std::fs::create_dir(&child).unwrap();
    assert!(!kernel(&child, "system.posix_acl_default").is_empty(), "inherited");
    let script = "import os, sys; os.setxattr(sys.argv[1], 'system.posix_acl_default', bytes([2, 0, 0, 0]))";
    output("python3", &[&"-c", &script, &child]);
    assert!(kernel(&child, "system.posix_acl_default").is_empty());
}

fn scan(archive: &Vec<u8>) -> Vec<Member> {
    let mut scanner = Scanner::new(Positioned::new(archive, 0), Limits::default());
    std::iter::from_fn(|| scanner.next_member().unwrap()).collect()
}

#[test]
fn records_of_gnu_tar_and_bsdtar_say_what_the_kernel_stores() {
    for list in LISTS {
        let folder = folder_with(list);
        let access = kernel(folder.path(), "system.posix_acl_access");
        let default = kernel(folder.path(), "system.posix_acl_default");
        let gnu = output(
            "tar",
            &[&"-c", &"--format=posix", &"--acls", &"--xattrs", &"--xattrs-include=*", &"-C", &folder.path(), &"."],
        );
        let member = &scan(&gnu)[0];
        let record = |name: &[u8]| member.entry.xattrs.get(name).cloned().unwrap_or_default();
        assert_eq!(record(XATTR_ACL_ACCESS), access);
        assert_eq!(record(XATTR_ACL_DEFAULT), default);
        let bsd = output("bsdtar", &[&"-c", &"--format=pax", &"--acls", &"-f", &"-", &"-C", &folder.path(), &"."]);
        for archive in [&gnu, &bsd] {
            if std::ptr::eq(archive, &raw const bsd) && list.contains("4000000000") {
                continue; // bsdtar writes ids of 2^31 and more as 0.
            }
            let texts = scan(archive)[0].text_acls.clone().unwrap_or_default();
            let bytes = |text: Option<Vec<u8>>| {
                let acl = text.map(|text| Acl::from_text(&text, &Numeric).or_else(|_| by_name(&text)).unwrap());
                acl.filter(|acl| !acl.is_minimal()).map(|acl| acl.to_xattr()).unwrap_or_default()
            };
            assert_eq!(bytes(texts.access), access, "{list}");
            if !Acl::from_xattr(&default).is_ok_and(|acl| acl.is_minimal()) {
                assert_eq!(bytes(texts.default), default, "{list}");
            }
        }
    }
}

fn by_name(text: &[u8]) -> Result<Acl, castoff::rootfs::acl::AclError> {
    let names = PasswdNames::new(&std::fs::read("/etc/passwd").unwrap(), &std::fs::read("/etc/group").unwrap());
    Acl::from_text(text, &names)
}

#[test]
fn gnu_tar_restores_the_acls_castoff_writes_as_text() {
    for list in LISTS {
        let folder = folder_with(list);
        let archive =
            output("tar", &[&"-c", &"--format=posix", &"--xattrs", &"--xattrs-include=*", &"-C", &folder.path(), &"."]);
        let mut entry = scan(&archive).remove(0).entry;
        entry.path = b"d".to_vec();
        let written = [encode(&entry, None, true), vec![0; 1024]].concat();
        let target = tempfile::tempdir().unwrap();
        let file = target.path().join("written.tar");
        std::fs::write(&file, written).unwrap();
        output("tar", &[&"-x", &"-p", &"--acls", &"-C", &target.path(), &"-f", &file]);
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            assert_eq!(kernel(&target.path().join("d"), name), kernel(folder.path(), name), "{list}");
        }
    }
}
