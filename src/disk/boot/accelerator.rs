//! How a machine runs: on the processor, or emulated.
//!
//! That `/dev/kvm` opens says little: in some clouds its guests run one instruction at a time. So a guest of one sector
//! is tried, which clears 64 MiB as kernels do and then ends the machine: 4 MiB took 3.3 s on such a host, while on a processor
//! that runs guests 64 MiB take a blink.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::super::program::{end, tied_for_long};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::Progress;

/// How a machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// On the processor, by the kernel.
    Kvm,
    /// Emulated.
    Tcg,
}

/// How a machine is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By KVM where that works, else emulated.
    Auto,
    /// Just so.
    Only(Accelerator),
}

impl Accelerator {
    /// What qemu calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// How long the trial may take: some 0.3 s where KVM works.
const TRIAL: Duration = Duration::from_secs(5);

/// What the trial's guest makes qemu exit with: `isa-debug-exit` gives twice the number written to it, and one.
const WORKS: i32 = 0x10 << 1 | 1;

/// 16-bit code: 1024 times 64 KiB cleared by `rep stosb`, then 0x10 written to port 0xf4.
const GUEST: [u8; 29] = [
    0xb9, 0x00, 0x04, // mov cx, 1024
    0x51, // push cx
    0xb8, 0x00, 0x20, // mov ax, 0x2000
    0x8e, 0xc0, // mov es, ax
    0x31, 0xff, // xor di, di
    0xb9, 0xff, 0xff, // mov cx, 0xffff
    0xfc, // cld
    0xf3, 0xaa, // rep stosb
    0x59, // pop cx
    0xe2, 0xef, // loop to `push`
    0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xb0, 0x10, // mov al, 0x10
    0xee, // out dx, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp to `hlt`
];

/// How the machine is to run here.
pub(super) fn choose(wanted: Wanted, scratch: &Path, progress: &Progress) -> Result<Accelerator> {
    match wanted {
        Wanted::Only(Accelerator::Tcg) => Ok(Accelerator::Tcg),
        Wanted::Only(Accelerator::Kvm) => {
            if works(Accelerator::Kvm, scratch)? {
                return Ok(Accelerator::Kvm);
            }
            Err(Error::new(Kind::Unsupported, "guests do not run by KVM here")
                .hint("accelerator `auto` or `tcg` emulates the machine"))
        }
        Wanted::Auto => {
            if works(Accelerator::Kvm, scratch)? {
                return Ok(Accelerator::Kvm);
            }
            progress.line("guests do not run by KVM here: the machine is emulated");
            Ok(Accelerator::Tcg)
        }
    }
}

/// Whether the trial's guest comes to its end in time.
pub(super) fn works(accelerator: Accelerator, scratch: &Path) -> Result<bool> {
    let usable = || rustix::fs::access("/dev/kvm", rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK).is_ok();
    if accelerator == Accelerator::Kvm && !usable() {
        return Ok(false);
    }
    let disk = scratch.join("trial");
    let mut sector = [0; 512];
    sector[..GUEST.len()].copy_from_slice(&GUEST);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    fs::write_atomic(&disk, 0o600, &sector)?;
    let mut command = tied_for_long(&super::emulator()?)?;
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-m", "64", "-accel", accelerator.name()]);
    command.args(["-machine", "pc", "-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"]);
    command.arg(super::machine::drive(&disk, "format=raw,if=ide,readonly=off,snapshot=on"));
    command.env("TMPDIR", scratch).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().context(|| "cannot start qemu")?;
    let until = Instant::now() + TRIAL;
    loop {
        if let Some(status) = child.try_wait().context(|| "cannot wait for qemu")? {
            return Ok(status.code() == Some(WORKS));
        }
        if Instant::now() > until {
            end(&mut child)?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::GUEST;

    #[test]
    fn the_jumps_of_the_trials_guest_meet_their_targets() {
        let target =
            |after: usize, distance: u8| after.checked_add_signed(isize::from(distance.cast_signed())).unwrap();
        assert_eq!(GUEST[target(20, GUEST[19])], 0x51);
        assert_eq!(GUEST[target(29, GUEST[28])], 0xf4);
    }
}
