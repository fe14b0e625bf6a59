//! Headers of an archive's own members, patched once name and size are known.
//!
//! The digest of a layer is known when its last byte is written, the header stands before its first: so a header must
//! be one block whatever it says. Sizes beyond the 33 bits of octal digits are base-256, which every reader of image
//! archives knows (Go, GNU tar, libarchive, Python).

/// The length of a header.
pub(super) const BLOCK: u64 = 512;

/// The end of an archive.
pub(super) const END: [u8; 1024] = [0; 1024];

/// The header of a file; names have at most 100 bytes.
pub(super) fn file(name: &str, size: u64, mtime: u64) -> [u8; 512] {
    let mut block = [0; 512];
    let name = &name.as_bytes()[..name.len().min(100)];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    number(&mut block[124..136], size);
    number(&mut block[136..148], mtime);
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// How many zero bytes follow content of this length.
pub(super) fn padding(size: u64) -> &'static [u8] {
    &[0; 512][..((BLOCK - size % BLOCK) % BLOCK) as usize]
}

/// Header, content and padding together.
pub(super) fn whole(size: u64) -> u64 {
    BLOCK + size + padding(size).len() as u64
}

fn number(field: &mut [u8], value: u64) {
    if value < 1 << 33 {
        field.copy_from_slice(format!("{value:011o}\0").as_bytes());
    } else {
        field.fill(0);
        field[0] = 0x80;
        field[4..].copy_from_slice(&value.to_be_bytes());
    }
}
