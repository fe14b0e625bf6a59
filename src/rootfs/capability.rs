//! File capabilities as the kernel stores them (`struct vfs_cap_data`, include/uapi/linux/capability.h).

/// A `security.capability` value, split into what an id map changes and what it leaves alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    flags: u32,
    sets: [u8; 16],
    /// The host's id of the user who is root where the capability counts; none for every namespace (version 2).
    pub(crate) root: Option<u32>,
}

const REVISION: u32 = 0xff00_0000;
const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;

impl Capability {
    /// Reads version 2 and 3; version 1 was last written by Linux 2.6.24.
    pub(crate) fn from_xattr(value: &[u8]) -> Result<Self, String> {
        let word =
            |at: usize| value.get(at..at + 4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let unknown = || format!("{} bytes that are no capability of version 2 or 3", value.len());
        let magic = word(0).ok_or_else(unknown)?;
        let root = match (magic & REVISION, value.len()) {
            (VERSION_2, 20) => None,
            (VERSION_3, 24) => word(20),
            _ => return Err(unknown()),
        };
        let mut sets = [0; 16];
        sets.copy_from_slice(&value[4..20]);
        Ok(Self { flags: magic & !REVISION, sets, root })
    }

    /// The stored form: version 3 with a root, else version 2.
    pub(crate) fn to_xattr(&self) -> Vec<u8> {
        let version = if self.root.is_some() { VERSION_3 } else { VERSION_2 };
        let mut value = (version | self.flags).to_le_bytes().to_vec();
        value.extend_from_slice(&self.sets);
        value.extend(self.root.map(u32::to_le_bytes).into_iter().flatten());
        value
    }
}
