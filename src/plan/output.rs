//! What a plan leaves behind.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One thing made of a plan's tree, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What.
    pub form: Form,
    /// The file or folder it becomes; of [`Form::Image`] none, whose reference says it.
    pub path: Option<PathBuf>,
}

/// What is made of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum Form {
    /// A reproducible tar of the root filesystem.
    Tar {
        /// How it is compressed.
        compression: Compression,
    },
    /// A folder with the root filesystem.
    Directory,
    /// An OCI or Docker image of one layer.
    Image {
        /// The reference it is put under, with its transport.
        reference: String,
    },
    /// A squashfs of the root filesystem.
    Squashfs,
    /// A disk.
    Disk(Disk),
    /// The kernel and the initrd that the tree's `/boot` has, as `PATH/vmlinuz` and `PATH/initrd.img`.
    Kernel,
}

/// How a tar is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
}

/// A disk with the tree in an ext4 file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// How the disk is divided.
    pub layout: Layout,
    /// The file format.
    pub format: Format,
    /// How large it is, in bytes.
    pub size: Size,
}

/// How a disk is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// ext4 on the whole disk: nothing boots it but a kernel given to the virtual machine.
    Whole,
    /// ext4 on the whole disk, and a boot loader for BIOS.
    WholeBootable,
    /// GPT with boot loaders for BIOS and UEFI, and one root partition.
    Gpt,
}

/// The format of a disk's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The disk, byte by byte, with holes.
    Raw,
    /// qcow2, not compressed.
    Qcow2,
    /// qcow2, its clusters compressed with Zstandard.
    Qcow2Zstd,
    /// qcow2, its clusters compressed with zlib.
    Qcow2Zlib,
}

/// How large a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// This many bytes.
    Exactly(u64),
    /// As large as what the disk of the plan's base has, and this many bytes.
    BaseAnd(u64),
    /// What the tree needs, and a little air.
    Fitting,
}
