//! What a merge of a million entries costs: memory, measured in a process of its own.

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;

use castoff::rootfs::flatten::{FlattenOptions, Flattener};
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::{Limits, ReadAt};

/// A layer of empty files that is nowhere in memory: every block is made when it is read.
struct Files {
    from: u64,
    count: u64,
    prefix: &'static str,
}

impl Files {
    fn block(&self, index: u64) -> [u8; 512] {
        let mut block = [0; 512];
        if index >= self.count {
            return block;
        }
        let number = self.from + index;
        // Every eighth is a hard link to the one before it.
        let link = number % 8 == 7;
        let name = |number: u64| format!("{}usr/share/folder-{:04}/a-file-of-{number:07}", self.prefix, number / 1000);
        let mut set = |at: usize, value: &[u8]| block[at..at + value.len()].copy_from_slice(value);
        set(0, name(number).as_bytes());
        set(100, b"0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00        ");
        set(156, if link { b"1" } else { b"0" });
        if link {
            set(157, name(number - 1).as_bytes());
        }
        set(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

impl ReadAt for Files {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        if offset >= self.size() {
            return Ok(0);
        }
        let block = self.block(offset / 512);
        let rest = &block[(offset % 512) as usize..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn size(&self) -> u64 {
        (self.count + 2) * 512
    }
}

fn merge(prefix: &'static str) {
    let files = |from, count| Arc::new(Files { from, count, prefix }) as Arc<dyn ReadAt>;
    let layers = [files(0, 800_000), files(400_000, 600_000)];
    let mut flattener = Flattener::new(FlattenOptions::default(), Limits::default());
    for layer in &layers {
        flattener.add_layer(&mut Scanner::new(Positioned::new(&**layer, 0), Limits::default())).unwrap();
    }
    let flat = flattener.finish(&layers).unwrap();
    assert_eq!(flat.report.entries_kept, 1_001_002);
    flat.outputs[0].write(&layers, &mut std::io::sink()).unwrap();
    assert_eq!(flat.entries(&layers).count(), 1_001_002);
}

#[test]
#[ignore = "a child of the tests below"]
fn child() {
    merge(if std::env::var_os("CASTOFF_TEST_REWRITE").is_some() { "./" } else { "" });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    writeln!(std::io::stdout(), "\n{peak}").unwrap();
}

#[test]
fn a_million_entries_in_1_4_million_headers_take_less_than_250_mib() {
    for rewrite in [false, true] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "merge_size::child", "--ignored", "--nocapture"]);
        if rewrite {
            command.env("CASTOFF_TEST_REWRITE", "1");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches("kB").trim().parse().unwrap();
        assert!(kib < 250 << 10, "{} MiB", kib >> 10);
        eprintln!("{} MiB", kib >> 10);
    }
}
