//! PAX records from a stranger, in an extended header before one file: what is understood of them survives being
//! written anew.
#![no_main]

use castoff::rootfs::tar::{END, Scanner, Sequential, encode};
use castoff::rootfs::{EntryKind, Limits};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { entries: 16, header_bytes: 1 << 16, path_bytes: 4096 };

fn block(name: &[u8], kind: u8, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The records, with the right length before each line that has none, since random lengths end at the first wrong one.
fn records(data: &[u8], fix: bool) -> Vec<u8> {
    if !fix {
        return data.to_vec();
    }
    let mut records = Vec::new();
    for line in data.split(|byte| *byte == b'\n').filter(|line| line.contains(&b'=')) {
        let mut length = line.len() + 3;
        while length != line.len() + 2 + length.to_string().len() {
            length += 1;
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(line);
        records.push(b'\n');
    }
    records
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = data.split_first() else { return };
    let records = records(rest, flags & 1 == 0);
    let kind = [b'x', b'g'][usize::from(flags >> 1 & 1)];
    let entry_kind = [b'0', b'5', b'2', b'1'][usize::from(flags >> 2 & 3)];
    let content = if entry_kind == b'0' { 4096 } else { 0 };
    let mut tar = block(b"header", kind, records.len()).to_vec();
    tar.extend_from_slice(&records);
    tar.resize(tar.len().next_multiple_of(512), 0);
    tar.extend_from_slice(&block(b"member", entry_kind, content));
    tar.resize(tar.len() + content, b'0');
    tar.extend_from_slice(&END);
    let mut scanner = Scanner::new(Sequential::new(tar.as_slice()), LIMITS);
    while let Ok(Some(member)) = scanner.next_member() {
        let entry = member.entry;
        assert!(entry.path.len() <= LIMITS.path_bytes);
        assert!(entry.mtime.nanoseconds < 1_000_000_000);
        if member.sparse.is_some() {
            continue;
        }
        let mut written = encode(&entry, None, false);
        if let EntryKind::File { size } = &entry.kind {
            written.resize(written.len() + usize::try_from(*size).unwrap().next_multiple_of(512), 0);
        }
        written.extend_from_slice(&END);
        let again = Scanner::new(Sequential::new(written.as_slice()), LIMITS).next_member();
        assert_eq!(again.unwrap().unwrap().entry, entry);
    }
});
