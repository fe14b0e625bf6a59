//! The tar codec against archives that other programs wrote, and its own archives read by other programs.

mod forms;
mod hostile;
mod reading;
mod rewriting;
mod sparse;
mod writing;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use castoff::error::Result;
use castoff::rootfs::tar::{Member, Positioned, Scanner, content};
use castoff::rootfs::{Limits, ReadAt};

/// Scans a whole archive.
fn members(archive: &Vec<u8>) -> Result<Vec<Member>> {
    members_within(archive, Limits::default())
}

fn members_within(archive: &Vec<u8>, limits: Limits) -> Result<Vec<Member>> {
    let mut scanner = Scanner::new(Positioned::new(archive, 0), limits);
    let mut members = Vec::new();
    while let Some(member) = scanner.next_member()? {
        members.push(member);
    }
    Ok(members)
}

/// The logical content of a member.
fn bytes_of(archive: &Vec<u8>, member: &Member) -> Vec<u8> {
    let mut bytes = Vec::new();
    content(archive as &dyn ReadAt, member).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs a program with this on its standard input; it must succeed and say nothing on stderr.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A program may stop reading at the archive's end.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{command:?}: {}\n{stderr}", output.status);
    output.stdout
}

/// Runs a Python script with this on its standard input.
fn python(script: &str, input: &[u8]) -> Vec<u8> {
    run(Command::new("python3").args(["-c", script]).env("PYTHONUTF8", "1"), input)
}

/// An archive made by a script that finds `tarfile`, `io` imported and an `add(name, type=…, content=…, **fields)` for an
/// archive of this format.
fn python_archive(format: &str, script: &str) -> Vec<u8> {
    let prelude = format!(
        "import tarfile, io, sys, os\n\
         out = io.BytesIO()\n\
         archive = tarfile.open(fileobj=out, mode='w', format=tarfile.{format}_FORMAT, encoding='utf-8', errors='surrogateescape')\n\
         def add(name, content=None, pax=None, **fields):\n\
         \x20   if isinstance(name, bytes): name = os.fsdecode(name)\n\
         \x20   info = tarfile.TarInfo(name)\n\
         \x20   for key, value in fields.items(): setattr(info, key, value)\n\
         \x20   info.pax_headers = pax or {{}}\n\
         \x20   if content is not None: info.size = len(content)\n\
         \x20   archive.addfile(info, io.BytesIO(content or b''))\n"
    );
    let ending = "\narchive.close()\nsys.stdout.buffer.write(out.getvalue())\n";
    python(&[&prelude, script, ending].concat(), b"")
}

/// What Python's tarfile says of an archive: one line a member, fields as `key=value` with bytes as hexadecimal.
fn python_listing(archive: &[u8]) -> Vec<String> {
    let script = r"
import tarfile, sys, os, hashlib
raw = lambda text: text.encode('utf-8', 'surrogateescape').hex()
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8', errors='surrogateescape') as archive:
    for member in archive:
        records = member.pax_headers
        xattrs = {key[13:]: value for key, value in records.items() if key.startswith('SCHILY.xattr.')}
        content = archive.extractfile(member).read() if member.isreg() else b''
        seconds = records.get('mtime') or str(int(member.mtime))
        link = raw(member.linkname) if member.islnk() or member.issym() else ''
        device = f'{member.devmajor}:{member.devminor}' if member.isdev() and not member.isfifo() else ''
        kind = {b'\0': '0', b'S': '0', b'7': '0'}.get(member.type, member.type.decode())
        print(f'path={raw(member.name)} kind={kind} mode={member.mode & 0o7777:o} uid={member.uid} gid={member.gid}'
              f' mtime={seconds} link={link} device={device} size={len(content)} sha={hashlib.sha256(content).hexdigest()[:16]}'
              f' xattrs=' + ','.join(sorted(f'{raw(k)}:{raw(v)}' for k, v in xattrs.items())))
";
    String::from_utf8(python(script, archive)).unwrap().lines().map(str::to_owned).collect()
}

/// Extracts with GNU tar, as whoever runs the test.
fn gnu_extract(archive: &[u8], folder: &Path) {
    run(Command::new("tar").args(["-x", "--no-same-owner", "-f", "-", "-C"]).arg(folder), archive);
}

/// The names GNU tar and bsdtar list; both must take the archive without a word.
fn listed_by_both(archive: &[u8]) -> (Vec<String>, Vec<String>) {
    let lines = |bytes: Vec<u8>| {
        bytes
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| String::from_utf8_lossy(l).into_owned())
            .collect()
    };
    let gnu = run(Command::new("tar").args(["-t", "--quoting-style=literal", "-f", "-"]), archive);
    let bsd = run(Command::new("bsdtar").args(["-t", "-f", "-"]).env("LC_ALL", "C.UTF-8"), archive);
    (lines(gnu), lines(bsd))
}

/// A header block made by hand: independent of the code under test.
struct Header([u8; 512]);

impl Header {
    fn new(name: &[u8], typeflag: u8, size: u64) -> Self {
        let mut block = [0; 512];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = typeflag;
        block[257..265].copy_from_slice(b"ustar\x0000");
        Self(block)
    }

    fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    fn sealed(mut self) -> Vec<u8> {
        self.0[148..156].fill(b' ');
        let sum: u32 = self.0.iter().map(|byte| u32::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.to_vec()
    }
}

/// Pads to whole blocks.
fn padded(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// One PAX record, its length found by trying.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let length = (1..).find(|length: &usize| length.to_string().len() + rest.len() == *length).unwrap();
    [length.to_string().into_bytes(), rest].concat()
}

/// A PAX header of this type with this content.
fn extended(typeflag: u8, content: &[u8]) -> Vec<u8> {
    [Header::new(b"PaxHeaders/x", typeflag, content.len() as u64).sealed(), padded(content)].concat()
}

const END: [u8; 1024] = [0; 1024];
