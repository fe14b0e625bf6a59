//! `image.boot`: whether a disk image boots.

use std::time::Duration;

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::disk::boot::{self, Accelerator, Check, Ssh, Wanted};
use crate::error::{Error, Kind, Result};
use crate::vocab::Value;

const BOOT: &str = "Boot a disk image in a machine of its own and say whether it came up.

The image is never written: what the guest writes goes with the machine. The serial console (ttyS0) is followed until
`pattern` comes; then `command` runs, as root over the console, which must ask for no password, or over ssh. `result` is
false when the command fails; an image that does not come up is an error with the last lines of its console. The machine
reaches no network. KVM is used where guests really run by it.

    castoff call image.boot base.qcow2 command='systemctl is-system-running --wait'
    castoff call image.boot base.img kernel=vmlinuz initrd=initrd.img timeout=600";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[Function::reads(
    "image.boot",
    BOOT,
    &[
        Argument::required("image", Accepts::Path, "The image file, raw or qcow2."),
        Argument::optional(
            "pattern",
            Accepts::Text,
            Default::Null,
            "What the console shows once it is up, a regular expression; null: a login prompt",
        ),
        Argument::optional("command", Accepts::Text, Default::Null, "A shell command to run then; null: none"),
        Argument::optional("timeout", Accepts::Int, Default::Int(600), "Seconds that all of it may take"),
        Argument::optional("memory", Accepts::Int, Default::Int(1024), "The machine's memory in MiB"),
        Argument::optional("cpus", Accepts::Int, Default::Int(2), "The machine's processors"),
        Argument::optional(
            "kernel",
            Accepts::Path,
            Default::Null,
            "A kernel to start directly; null: the disk's own boot loader is tried",
        ),
        Argument::optional("initrd", Accepts::Path, Default::Null, "The initial RAM disk of that kernel"),
        Argument::optional(
            "append",
            Accepts::Text,
            Default::Null,
            "What that kernel is told; null: `root=/dev/vda rw console=ttyS0`",
        ),
        Argument::optional("uefi", Accepts::Bool, Default::Bool(false), "Boot by UEFI, not by BIOS"),
        Argument::optional(
            "ssh",
            Accepts::Path,
            Default::Null,
            "A private key: the command goes over ssh with it; the host key of the throw-away machine is not looked at",
        ),
        Argument::optional("user", Accepts::Text, Default::Text("root"), "Who logs in over ssh"),
        Argument::optional(
            "accelerator",
            Accepts::Text,
            Default::Text("auto"),
            "`kvm`, `tcg` (emulated), or `auto`: KVM where it works",
        ),
    ],
    run,
)
.long()];

fn run(call: &Call, context: &Context) -> Result<Value> {
    let check = Check {
        image: call.path("image")?,
        pattern: call.maybe_text("pattern").map(str::to_owned),
        command: call.maybe_text("command").map(str::to_owned),
        timeout: Duration::from_secs(number(call, "timeout", 86_400)?),
        memory: number(call, "memory", 1 << 20)?,
        cpus: number(call, "cpus", 255)?,
        kernel: call.maybe_path("kernel"),
        initrd: call.maybe_path("initrd"),
        append: call.maybe_text("append").map(str::to_owned),
        uefi: call.boolean("uefi"),
        ssh: match call.maybe_path("ssh") {
            Some(identity) => Some(Ssh { identity, user: call.text("user")?.to_owned() }),
            None => None,
        },
        accelerator: match call.text("accelerator")? {
            "auto" => Wanted::Auto,
            "kvm" => Wanted::Only(Accelerator::Kvm),
            "tcg" => Wanted::Only(Accelerator::Tcg),
            other => {
                return Err(Error::new(Kind::Usage, format!("image.boot: `accelerator` is `{other}`"))
                    .hint("it is `auto`, `kvm` or `tcg`"));
            }
        },
        scratch: context.config.state_dir.join("boot"),
    };
    let booted = boot::boot(&check, &context.progress, context.cancel()?)?;
    let exit = booted.command.as_ref().map(|ran| ran.exit);
    let mut told = vec![
        ("result", Value::from(exit.is_none_or(|exit| exit == 0))),
        ("seconds", Value::Float((booted.seconds * 10.0).round() / 10.0)),
        ("accelerator", Value::from(booted.accelerator.name())),
        ("matched", Value::from(booted.matched)),
        ("console", Value::list(booted.console)),
    ];
    if let Some(ran) = booted.command {
        told.extend([("exit", Value::from(ran.exit)), ("output", Value::from(ran.output))]);
    }
    Ok(Value::map(told))
}

/// A whole number of at least 1.
fn number(call: &Call, name: &str, most: u64) -> Result<u64> {
    let number = call.integer(name)?;
    u64::try_from(number)
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| Error::new(Kind::Usage, format!("image.boot: `{name}` is 1 to {most}, not {number}")))
}
