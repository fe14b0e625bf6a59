//! The machine: one qemu, killed when this is dropped.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::super::open::{ImageFormat, Inspected};
use super::super::program::{end, tail, tied_for_long};
use super::{Accelerator, Check};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// Firmware images for UEFI and the variables that go with each, as Debian and others place them.
const FIRMWARE: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];

pub(super) struct Machine {
    child: Child,
    input: Option<ChildStdin>,
    errors: PathBuf,
}

impl Machine {
    /// Starts it; its console is what is given besides.
    pub(super) fn start(
        check: &Check,
        image: &Inspected,
        (accelerator, port): (Accelerator, Option<u16>),
        scratch: &Path,
    ) -> Result<(Self, ChildStdout)> {
        let mut command = tied_for_long(&super::emulator()?)?;
        describe(&mut command, check, image, (accelerator, port))?;
        let errors = scratch.join("qemu-errors");
        let mut child = command
            .env("TMPDIR", scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::create_in_place(&errors, false)?)
            .spawn()
            .context(|| "cannot start qemu")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let machine = Self { child, input, errors };
        let output = output.ok_or_else(|| Error::new(Kind::Failed, "qemu has no standard output"))?;
        Ok((machine, output))
    }

    /// Types on its console.
    pub(super) fn send(&mut self, text: &str) -> Result<()> {
        let input = self.input.as_mut().ok_or_else(|| Error::new(Kind::Failed, "the console takes no input"))?;
        input.write_all(text.as_bytes()).and_then(|()| input.flush()).context(|| "cannot type on the console")
    }

    /// Ends it at once.
    pub(super) fn end(&mut self) -> Result<()> {
        self.input = None;
        end(&mut self.child)
    }

    /// The failure of a machine whose console was closed.
    pub(super) fn why_ended(&mut self) -> Error {
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let told = tail(&self.errors).unwrap_or_else(|error| error.render());
        let error = Error::new(Kind::Failed, format!("the machine ended by itself ({status})"));
        if told.is_empty() { error } else { error.caused_by(told) }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Where it ended before there is nothing to end.
        if let Err(error) = end(&mut self.child) {
            tracing::debug!("{error}");
        }
    }
}

fn describe(
    command: &mut Command,
    check: &Check,
    image: &Inspected,
    (accelerator, port): (Accelerator, Option<u16>),
) -> Result<()> {
    let cpu = if accelerator == Accelerator::Kvm { "host" } else { "max" };
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"]);
    command.args(["-accel", accelerator.name(), "-cpu", cpu, "-machine", if check.uefi { "q35" } else { "pc" }]);
    command.args(["-m", &check.memory.to_string(), "-smp", &check.cpus.to_string(), "-device", "virtio-rng-pci"]);
    if check.uefi {
        let (code, variables) = firmware()?;
        command.arg("-drive").arg(drive(code, "if=pflash,unit=0,format=raw,readonly=on"));
        command.arg("-drive").arg(drive(variables, "if=pflash,unit=1,format=raw,snapshot=on"));
    }
    let format = match image.format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    };
    command.arg("-drive").arg(drive(&image.path, &format!("format={format},if=virtio,snapshot=on,cache=unsafe")));
    if let Some(kernel) = &check.kernel {
        command.arg("-kernel").arg(readable(kernel)?);
        if let Some(initrd) = &check.initrd {
            command.arg("-initrd").arg(readable(initrd)?);
        }
        command.arg("-append").arg(check.append.as_deref().unwrap_or("root=/dev/vda rw console=ttyS0"));
    } else if check.initrd.is_some() || check.append.is_some() {
        return Err(Error::new(Kind::Usage, "an initial RAM disk or what a kernel is told needs a kernel")
            .hint("without a kernel the disk boots by its own boot loader"));
    }
    match port {
        None => command.args(["-nic", "none"]),
        Some(port) => {
            command.args(["-nic", &format!("user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22")])
        }
    };
    Ok(())
}

/// A drive of a file; a comma in its name is written twice.
pub(super) fn drive(file: &Path, options: &str) -> OsString {
    let mut text = b"file=".to_vec();
    for byte in file.as_os_str().as_bytes() {
        text.push(*byte);
        if *byte == b',' {
            text.push(b',');
        }
    }
    text.push(b',');
    text.extend_from_slice(options.as_bytes());
    OsString::from_vec(text)
}

fn readable(path: &Path) -> Result<PathBuf> {
    fs::open_regular(&fs::absolute(path)?, false).or_else(|_| fs::open(path))?;
    fs::absolute(path)
}

fn firmware() -> Result<(&'static Path, &'static Path)> {
    for (code, variables) in FIRMWARE {
        if fs::exists(Path::new(code))? && fs::exists(Path::new(variables))? {
            return Ok((Path::new(code), Path::new(variables)));
        }
    }
    Err(Error::new(Kind::Unsupported, "there is no UEFI firmware for machines on this host")
        .hint("as root: `apt-get install ovmf`"))
}
