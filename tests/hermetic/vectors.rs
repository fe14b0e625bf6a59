//! The twenty vectors of the merge: layers written by Python, GNU tar or by hand, the result listed by Python, what is
//! expected written down by hand.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use castoff::error::Result;
use castoff::rootfs::flatten::{Flat, FlattenOptions, FlattenReport, Flattener};
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::{Limits, ReadAt};

#[path = "vectors_acls.rs"]
mod acls;
#[path = "vectors_base.rs"]
mod base;
#[path = "vectors_forms.rs"]
mod forms;
#[path = "vectors_links.rs"]
mod links;
#[path = "vectors_names.rs"]
mod names;
#[path = "vectors_whiteouts.rs"]
mod whiteouts;

/// What every script begins with: `layer()` starts the next layer, the short names add entries to it.
const WRITER: &str = r#"
import io, os, struct, subprocess, sys, tarfile
T = None; N = 0
def path(n): return f"layer{n}.tar"
def layer(format=tarfile.PAX_FORMAT):
    global T, N
    if T: T.close()
    T = tarfile.open(path(N), "w", format=format); N += 1
def close():
    global T
    if T: T.close()
    T = None
def add(name, kind, data=b"", mode=0o644, uid=0, gid=0, mtime=0, to="", dev=(0, 0), pax=None, x=None):
    i = tarfile.TarInfo(name)
    i.type, i.mode, i.uid, i.gid, i.mtime, i.linkname, i.size = kind, mode, uid, gid, mtime, to, len(data)
    i.devmajor, i.devminor = dev
    i.pax_headers = dict(pax or {})
    for key, value in (x or {}).items():
        i.pax_headers["SCHILY.xattr." + key] = value.decode("utf-8", "surrogateescape")
    T.addfile(i, io.BytesIO(data))
def f(name, data=b"", **k): add(name, tarfile.REGTYPE, data, **k)
def d(name, mode=0o755, **k): add(name, tarfile.DIRTYPE, mode=mode, **k)
def s(name, to, mode=0o777, **k): add(name, tarfile.SYMTYPE, to=to, mode=mode, **k)
def h(name, to, **k): add(name, tarfile.LNKTYPE, to=to, **k)
def c(name, major, minor, **k): add(name, tarfile.CHRTYPE, dev=(major, minor), **k)
def wh(name): f(name, mode=0)
TAGS = {"u:": 1, "u": 2, "g:": 4, "g": 8, "m:": 16, "o:": 32}
def acl(text):
    "u::rw-,u:1001:r--,g::r--,m::rw-,o::---  ->  the kernel's bytes"
    out = struct.pack("<I", 2)
    for item in filter(None, text.split(",")):
        tag, who, perm = item.split(":")
        tag, who = (TAGS[tag], int(who)) if who else (TAGS[tag + ":"], 0xffffffff)
        bits = sum(b for b, l in zip((4, 2, 1), perm) if l != "-")
        out += struct.pack("<HHI", tag, bits, who)
    return out
A, D = "system.posix_acl_access", "system.posix_acl_default"
"#;

/// Lists a tar the way the vectors write their expectations, and fails where an engine would.
const LISTER: &str = r#"
import struct, sys, tarfile
KIND = {b"0": "f", b"5": "d", b"2": "s", b"1": "h", b"3": "c", b"4": "b", b"6": "p", b"S": "f"}
TAGS = {1: "u", 2: "u", 4: "g", 8: "g", 16: "m", 32: "o"}
def acl(value):
    assert value[:4] == b"\2\0\0\0" and (len(value) - 4) % 8 == 0, value
    items = [struct.unpack_from("<HHI", value, at) for at in range(4, len(value), 8)]
    return ",".join("%s:%s:%s" % (TAGS[t], "" if w == 0xffffffff else w,
        "".join(l if p & b else "-" for b, l in ((4, "r"), (2, "w"), (1, "x")))) for t, p, w in items)
def shown(text): return text.encode("utf-8", "surrogateescape").decode("latin-1").encode("unicode_escape").decode()
seen = set()
with tarfile.open(sys.argv[1], "r:") as tar:
    assert not tar.pax_headers, "a global header"
    for i in tar:
        assert i.name not in seen, "twice: " + i.name
        seen.add(i.name)
        above = i.name.rpartition("/")[0]
        assert not above or above in seen, "before its parent: " + i.name
        assert i.type != b"1" or i.linkname in seen, "before its target: " + i.name
        line = f"{KIND[i.type]} {i.mode:o} {i.uid}:{i.gid} {shown(i.name)}"
        if i.mtime: line += f" @{i.pax_headers.get('mtime', i.mtime)}"
        if i.linkname: line += " -> " + shown(i.linkname)
        if i.type in (b"3", b"4"): line += f" ({i.devmajor},{i.devminor})"
        if i.isreg():
            # A sparse gigabyte is not for printing.
            line += f" = {i.size} bytes" if i.size > 4096 else " = " + shown(tar.extractfile(i).read().decode("utf-8", "surrogateescape"))
        for key in sorted(i.pax_headers):
            value = i.pax_headers[key].encode("utf-8", "surrogateescape")
            if key == "SCHILY.xattr.system.posix_acl_access": line += f" access[{acl(value)}]"
            elif key == "SCHILY.xattr.system.posix_acl_default": line += f" default[{acl(value)}]"
            elif key.startswith("SCHILY."): line += f" {shown(key[7:])}={shown(i.pax_headers[key])}"
        print(line)
"#;

pub(crate) fn python(script: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("python3").arg("-c").arg(script).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}\n{script}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The layers a script writes, lowest first.
pub(crate) fn layers(script: &str) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    python(&format!("{WRITER}\n{script}\nclose()"), folder.path(), &[]);
    (0..).map_while(|n| std::fs::read(folder.path().join(format!("layer{n}.tar"))).ok()).collect()
}

pub(crate) fn shared(layers: &[Vec<u8>]) -> Vec<Arc<dyn ReadAt>> {
    layers.iter().map(|layer| Arc::new(layer.clone()) as Arc<dyn ReadAt>).collect()
}

pub(crate) fn merge(layers: &[Arc<dyn ReadAt>], options: FlattenOptions) -> Result<Flat> {
    let mut flattener = Flattener::new(options, Limits::default());
    for layer in layers {
        flattener.add_layer(&mut Scanner::new(Positioned::new(&**layer, 0), Limits::default()))?;
    }
    flattener.finish(layers)
}

/// The bytes of every output; their sizes were promised before.
pub(crate) fn write(flat: &Flat, layers: &[Arc<dyn ReadAt>]) -> Vec<Vec<u8>> {
    let written = |output: &castoff::rootfs::flatten::OutputLayer| {
        let mut bytes = Vec::new();
        output.write(layers, &mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, output.size(), "the promised size");
        bytes
    };
    flat.outputs.iter().map(written).collect()
}

pub(crate) struct Packed {
    pub(crate) lists: Vec<Vec<String>>,
    pub(crate) tars: Vec<Vec<u8>>,
    pub(crate) report: FlattenReport,
}

/// Lists a tar with Python.
pub(crate) fn list(tar: &[u8]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out.tar"), tar).unwrap();
    let listed = Command::new("tar")
        .args(["--warning=no-unknown-keyword", "-tf", "out.tar"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(listed.status.success() && listed.stderr.is_empty(), "{}", String::from_utf8_lossy(&listed.stderr));
    python(LISTER, folder.path(), &["out.tar"]).lines().map(str::to_owned).collect()
}

/// Merges layers, writes and lists every output; doing it again gives the same bytes.
pub(crate) fn pack(layers: &[Vec<u8>], options: FlattenOptions) -> Packed {
    let layers = shared(layers);
    let flat = merge(&layers, options).unwrap();
    let tars = write(&flat, &layers);
    assert_eq!(tars, write(&merge(&layers, options).unwrap(), &layers), "equal input, equal bytes");
    assert_eq!(flat.report.bytes_out, tars.iter().map(|tar| tar.len() as u64).sum::<u64>());
    Packed { lists: tars.iter().map(|tar| list(tar)).collect(), tars, report: flat.report }
}

/// Merges a script's layers into one and checks how that is listed. Merging the result changes no byte of it.
pub(crate) fn expect(script: &str, expected: &[&str]) -> FlattenReport {
    let mut packed = pack(&layers(script), FlattenOptions::default());
    assert_eq!(packed.lists.remove(0), expected);
    let again = pack(&packed.tars, FlattenOptions::default());
    assert!(again.tars == packed.tars, "packing twice: {:#?}", again.lists);
    assert_eq!(again.report.guards, 0, "guards are added once");
    packed.report
}

/// The error that merging a script's layers gives.
pub(crate) fn refused(script: &str) -> String {
    merge(&shared(&layers(script)), FlattenOptions::default()).unwrap_err().render()
}
