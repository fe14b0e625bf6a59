//! The first bytes of an image file.
//!
//! ```text
//! qcow2, big-endian: 0 magic · 4 version · 8 offset of the backing file's name · 24 size · 32 encryption
//!                    72 incompatible features (version 3): bit 2 says that the data is in another file
//! ```

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// The format of an image file that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// The disk's bytes.
    Raw,
    /// QEMU's own.
    Qcow2,
}

impl ImageFormat {
    /// What qemu calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Formats known and not read: where in the file, what is there, what it is called.
const OTHERS: [(usize, &[u8], &str); 9] = [
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0, b"QED\0", "QED"),
    (0, b"QFI\xfb\0\0\0\x01", "qcow"),
    (0x40, b"\x7f\x10\xda\xbe", "VDI"),
    (0, b"LUKS\xba\xbe", "LUKS"),
];

/// The format and the size of the disk.
pub(super) fn look(path: &Path) -> Result<(ImageFormat, u64)> {
    let wrong = || format!("cannot read `{}`", path.display());
    let file = fs::open_regular(path, false)?;
    let length = file.metadata().context(wrong)?.len();
    let mut head = [0; 104];
    if length < 512 {
        return Err(Error::new(Kind::Corrupt, format!("`{}` has {length} bytes: no disk is as small", path.display())));
    }
    file.read_exact_at(&mut head, 0).context(wrong)?;
    for (at, magic, name) in OTHERS {
        if head[at..].starts_with(magic) {
            return Err(Error::new(Kind::Unsupported, format!("`{}` is a {name} image", path.display()))
                .hint("convert it with qemu-img: raw and qcow2 images can be opened"));
        }
    }
    if !head.starts_with(b"QFI\xfb") {
        return Ok((ImageFormat::Raw, length / 512 * 512));
    }
    let short = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(short(at)) << 32 | u64::from(short(at + 4));
    let refuse = |what: &str| Err(Error::new(Kind::Refused, format!("`{}` is refused: {what}", path.display())));
    let version = short(4);
    if !matches!(version, 2 | 3) {
        return refuse(&format!("it is qcow2 of version {version}"));
    }
    if long(8) != 0 {
        return refuse("it names a backing file, which castoff does not open");
    }
    if short(32) != 0 {
        return refuse("it is encrypted");
    }
    if version == 3 && long(72) & 4 != 0 {
        return refuse("its data is in another file, which castoff does not open");
    }
    Ok((ImageFormat::Qcow2, long(24)))
}

/// The bytes that a map of `qemu-img map --output=json` says are stored: an object a line.
pub(super) fn stored(map: &Path) -> Result<u64> {
    let wrong = || Error::new(Kind::Failed, "qemu-img does not map the image as it should");
    let mut bytes = 0_u64;
    for line in BufReader::new(fs::open(map)?).lines() {
        let line = line.context(|| "cannot read the image's map")?;
        let object = line.trim().trim_start_matches('[').trim_end_matches([',', ']']);
        if object.is_empty() {
            continue;
        }
        let object: serde_json::Value = serde_json::from_str(object).map_err(|error| wrong().caused_by(error))?;
        if object["data"] == true {
            bytes = bytes.saturating_add(object["length"].as_u64().ok_or_else(wrong)?);
        }
    }
    Ok(bytes)
}
