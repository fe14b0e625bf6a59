//! A tar from a stranger: reading it in order, by position and member by member tells the same, stays inside the
//! input, and what is rewritten reads back as what was asked for.
#![no_main]

use castoff::rootfs::tar::{Change, Content, Input, Positioned, Scanner, Sequential, content, member_at, rewrite};
use castoff::rootfs::{Limits, ReadAt};
use libfuzzer_sys::fuzz_target;
use std::io::Read;

struct Bytes(Vec<u8>);

impl ReadAt for Bytes {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        let count = buffer.len().min(self.0.len() - start);
        buffer[..count].copy_from_slice(&self.0[start..start + count]);
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }
}

const LIMITS: Limits = Limits { entries: 4096, header_bytes: 1 << 16, path_bytes: 4096 };

/// Makes every block's checksum right, since random changes would end at the first wrong one.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

/// What a scan tells: each member, and why it ended.
fn told<I: Input>(mut scanner: Scanner<I>) -> (Vec<castoff::rootfs::tar::Member>, Option<String>, Scanner<I>) {
    let mut members = Vec::new();
    loop {
        match scanner.next_member() {
            Ok(Some(member)) => members.push(member),
            Ok(None) => return (members, None, scanner),
            Err(error) => return (members, Some(error.render()), scanner),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = data.split_first() else { return };
    let bytes = if flags & 1 == 0 { with_checksums(rest.to_vec()) } else { rest.to_vec() };
    let source = Bytes(bytes);
    let (in_order, why, _) = told(Scanner::new(Sequential::new(source.0.as_slice()), LIMITS));
    let (members, why_positioned, scanner) = told(Scanner::new(Positioned::new(&source, 0), LIMITS));
    assert_eq!(why.is_some(), why_positioned.is_some(), "{why:?} {why_positioned:?}");
    assert_eq!(format!("{in_order:?}"), format!("{members:?}"));
    let mut end = 0;
    for member in &members {
        assert!(member.span.header >= end && member.span.header <= member.span.block);
        assert!(member.span.block < member.span.data);
        end = member.span.end();
        if let Ok(again) = member_at(&source, member.span.header, scanner.globals(), LIMITS) {
            assert_eq!(format!("{again:?}"), format!("{member:?}"));
        }
        let whole: Content<_> = content(&source, member);
        let size = whole.size();
        let mut some = Vec::new();
        let read = whole.take(1 << 16).read_to_end(&mut some);
        assert!(some.len() as u64 <= size);
        assert!(read.is_err() || some.len() as u64 == size.min(1 << 16) || end > source.size());
        let change = Change { uid: Some(70_000_000_000), ..Change::default() };
        if end <= source.size()
            && let Ok(mut header) = rewrite(&source, member, &change)
        {
            let stored = usize::try_from(member.span.data).unwrap()..usize::try_from(end).unwrap();
            header.extend_from_slice(&source.0[stored]);
            header.extend_from_slice(&castoff::rootfs::tar::END);
            let (again, why, _) = told(Scanner::new(Sequential::new(header.as_slice()), LIMITS));
            assert!(why.is_none() && again.len() == 1, "{why:?}: {member:?}");
            let mut wanted = member.entry.clone();
            wanted.uid = 70_000_000_000;
            assert_eq!(again[0].entry, wanted, "{member:?}");
        }
    }
});
