//! A seccomp filter under which commands believe that what they synced is on the disk, as systemd-nspawn's
//! `--suppress-sync=` does: a tree that is thrown away after a crash need not survive one.
//!
//! The crate sets `no_new_privs` first, as the kernel demands of everybody without rights: setuid programs and file
//! capabilities give nothing more to those who are not root already.

use seccompiler::sock_filter;

/// A kernel's calling convention and its numbers of sync, fsync, fdatasync, syncfs, `sync_file_range` and msync.
struct Convention {
    /// `AUDIT_ARCH_*` (linux/audit.h).
    kind: u32,
    calls: [u32; 6],
}

const X86_64: Convention = Convention { kind: 0xC000_003E, calls: [162, 74, 75, 306, 277, 26] };
const I386: Convention = Convention { kind: 0x4000_0003, calls: [36, 118, 148, 344, 314, 144] };
const AARCH64: Convention = Convention { kind: 0xC000_00B7, calls: [81, 82, 83, 267, 84, 227] };
const ARM: Convention = Convention { kind: 0x4000_0028, calls: [36, 118, 148, 373, 341, 144] };

/// What the running machine's programs may use.
fn conventions() -> &'static [Convention] {
    match std::env::consts::ARCH {
        "x86_64" => &[X86_64, I386],
        "aarch64" => &[AARCH64, ARM],
        _ => &[],
    }
}

/// Puts this process and all that it starts under the filter; why not, where that cannot be.
pub(super) fn apply() -> Result<(), String> {
    let conventions = conventions();
    if conventions.is_empty() {
        return Err(format!("there is no filter for {}", std::env::consts::ARCH));
    }
    seccompiler::apply_filter(&program(conventions)).map_err(|error| error.to_string())
}

/// The filter in the kernel's own instructions: seccompiler's compiler would kill what uses the other convention.
fn program(conventions: &[Convention]) -> Vec<sock_filter> {
    // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K (linux/bpf_common.h).
    let load = |k| sock_filter { code: 0x20, jt: 0, jf: 0, k };
    let unless = |k, jf| sock_filter { code: 0x15, jt: 0, jf, k };
    let answer = |k| sock_filter { code: 0x06, jt: 0, jf: 0, k };
    // SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with error 0, which is success (seccomp(2)).
    let (allow, succeed) = (0x7fff_0000, 0x0005_0000);
    // struct seccomp_data: the call's number at 0, the convention at 4.
    let mut program = vec![load(4)];
    for Convention { kind, calls } in conventions {
        program.push(unless(*kind, 2 + 2 * 6));
        program.push(load(0));
        for call in calls {
            program.extend([unless(*call, 1), answer(succeed)]);
        }
        program.push(answer(allow));
    }
    program.push(answer(allow));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would (three instructions are all it has).
    fn run(program: &[sock_filter], kind: u32, call: u32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step = &program[at];
            at += 1;
            match step.code {
                0x20 => loaded = if step.k == 4 { kind } else { call },
                0x15 => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                _ => return step.k,
            }
        }
    }

    #[test]
    fn only_what_syncs_is_answered() {
        let program = program(&[X86_64, I386]);
        assert_eq!(run(&program, X86_64.kind, 74), 0x0005_0000);
        assert_eq!(run(&program, I386.kind, 118), 0x0005_0000);
        for (kind, call) in [(X86_64.kind, 118), (I386.kind, 74), (X86_64.kind, 0x4000_0000 + 74), (1, 74)] {
            assert_eq!(run(&program, kind, call), 0x7fff_0000, "{kind:x} {call}");
        }
    }
}
