//! `sys.doctor` and `sys.config`: what this machine offers castoff, and what castoff was told.
//!
//! A thing that is missing is told with what needs it and how to get it. Only what stands in the way of castoff's own
//! work here makes the result a failure: the state folder, and the Docker engine where it is the configured one.

use std::path::{Path, PathBuf};

use super::{Call, Context, Function, check_schedules, salt};
use crate::config::EngineChoice;
use crate::engine::docker::Docker;
use crate::error::Result;
use crate::host::{self, abilities};
use crate::pillar::wire;
use crate::vocab::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads(
        "sys.config",
        "Return every configuration value and where it came from.\n\nPrecedence: flag, then environment, then drop-in, \
         then file, then default.\n\n    castoff config\n    castoff call sys.config",
        &[],
        |_, context| {
            check_schedules(&context.config)?;
            Ok(context.config.explain())
        },
    ),
    Function::reads(
        "sys.doctor",
        "Return what this machine offers castoff: host programs, kernel, Docker engine, space, image database, and whose \
         modules Salt loads.

`result` is false \
         only when something is missing that castoff needs for any work here; `problems` says what, and what to do.\
         \n\n    castoff doctor\n    castoff call sys.doctor",
        &[],
        doctor,
    ),
];

/// A program of the host that does better what castoff need not do itself.
struct Program {
    name: &'static str,
    /// What makes it tell its version; nothing where it cannot.
    version: &'static [&'static str],
    needed_for: &'static str,
    package: &'static str,
}

const PROGRAMS: &[Program] = &[
    Program {
        name: "mmdebstrap",
        version: &["--version"],
        needed_for: "building images that begin with a suite of Debian or Ubuntu, and `make demo`",
        package: "mmdebstrap",
    },
    Program {
        name: "newuidmap",
        version: &[],
        needed_for: "building images as an ordinary user, with the ids of /etc/subuid and /etc/subgid; root needs it not",
        package: "uidmap",
    },
    Program {
        name: "getfacl",
        version: &["--version"],
        needed_for: "looking at ACLs yourself; castoff reads and writes them without it",
        package: "acl",
    },
    Program {
        name: "skopeo",
        version: &["--version"],
        needed_for: "`skopeo login`, which stores a registry's password; castoff itself talks to registries",
        package: "skopeo",
    },
    Program {
        name: "ssh-keygen",
        version: &[],
        needed_for: "signing releases with a key file or an agent; verifying them needs nothing",
        package: "openssh-client",
    },
    Program {
        name: "mke2fs",
        version: &[],
        needed_for: "writing disk images (ext4; debugfs of the same package fills it)",
        package: "e2fsprogs",
    },
    Program {
        name: "qemu-img",
        version: &["--version"],
        needed_for: "writing and opening qcow2 images",
        package: "qemu-utils",
    },
    Program {
        name: "sfdisk",
        version: &["--version"],
        needed_for: "disk images with partitions, written and opened",
        package: "fdisk",
    },
    Program {
        name: "grub-mkimage",
        version: &["--version"],
        needed_for: "disk images that boot by themselves; grub-pc-bin and grub-efi-amd64-bin go with it",
        package: "grub-common grub-pc-bin grub-efi-amd64-bin",
    },
    Program { name: "mkfs.fat", version: &[], needed_for: "disk images that boot by UEFI", package: "dosfstools" },
    Program { name: "mcopy", version: &["--version"], needed_for: "disk images that boot by UEFI", package: "mtools" },
    Program { name: "mksquashfs", version: &[], needed_for: "writing squashfs images", package: "squashfs-tools" },
    Program {
        name: "qemu-system-x86_64",
        version: &["--version"],
        needed_for: "`image.boot`; package ovmf for UEFI",
        package: "qemu-system-x86",
    },
];

fn doctor(_: &Call, context: &Context) -> Result<Value> {
    let mut problems = Vec::new();
    let state = state_folder(&context.config.state_dir, &mut problems)?;
    let engine = docker_engine(context, &mut problems);
    let pillar = pillar(context, &mut problems);
    let programs = Value::map(PROGRAMS.iter().map(|program| (program.name, look_at(program))));
    let sandbox = if abilities::may_mount()? {
        "yes"
    } else {
        "no: needs root with CAP_SYS_ADMIN; only refresh scripts in images of the store and of archives need it"
    };
    let overlay = if abilities::file_system("overlay")? {
        "yes"
    } else {
        "no; castoff does not need it, a Docker engine does: `modprobe overlay`"
    };
    Ok(Value::map([
        ("result", Value::from(problems.is_empty())),
        ("problems", Value::list(problems)),
        ("version", Value::from(env!("CARGO_PKG_VERSION"))),
        ("state_dir", state),
        ("docker_engine", engine),
        ("pillar", pillar),
        ("programs", programs),
        ("salt", salt::modules(Path::new("/"))?),
        (
            "kernel",
            Value::map([
                ("release", Value::from(abilities::kernel_release()?)),
                ("sandbox", Value::from(sandbox)),
                ("overlayfs", Value::from(overlay)),
            ]),
        ),
    ]))
}

fn state_folder(folder: &Path, problems: &mut Vec<String>) -> Result<Value> {
    let shown = folder.display();
    let found = abilities::of_folder(folder)?;
    if let Some(why) = &found.refused {
        problems.push(format!(
            "the state folder `{shown}` cannot be written by this user: run as root, or set CASTOFF_STATE_DIR to a \
             folder of yours ({why})"
        ));
    }
    let kept = |ability: bool| if ability { "kept" } else { "not kept; images carry them all the same" };
    Ok(Value::map([
        ("path", Value::from(shown.to_string())),
        ("exists", Value::from(found.folder == folder)),
        ("writable", Value::from(found.refused.is_none())),
        ("free_bytes", Value::from(host::fs::free_space(folder)?)),
        ("acls", Value::from(kept(found.acls))),
        ("xattrs", Value::from(kept(found.xattrs))),
    ]))
}

/// The image database: where it was found, what is not read, and what is wrong with it.
fn pillar(context: &Context, problems: &mut Vec<String>) -> Value {
    let paths = |paths: &[PathBuf]| Value::list(paths.iter().map(|path| path.display().to_string()));
    let base = match context.settings.base() {
        Ok(base) => base,
        Err(error) => {
            problems.push(format!("no pillar can be made: {}", wire::reason(&error)));
            let root = context.config.pillar_root.as_ref().map(|root| root.display().to_string());
            return Value::map([("root", Value::from(root)), ("error", Value::from(error.render()))]);
        }
    };
    let source = &base.source;
    let database = source.database.as_ref().map(|database| database.file().display().to_string());
    let mut told = vec![
        ("minion_id", Value::from(base.host.id.as_str())),
        ("root", Value::from(source.root.as_ref().map(|root| root.display().to_string()))),
        ("database", Value::from(database)),
        ("unread", paths(&source.unread)),
        ("members", Value::from(base.cloud.members().len())),
    ];
    if let Err(error) = source.database() {
        told.push(("pillars", Value::from(format!("none: {}", wire::reason(&error)))));
    }
    if !source.unread.is_empty() {
        told.push(("unread_because", Value::from("of several databases the first is read; remove the others")));
    }
    Value::map(told)
}

fn docker_engine(context: &Context, problems: &mut Vec<String>) -> Value {
    let address = &context.config.docker_host;
    let mut told = vec![("address", Value::from(address.as_str()))];
    match Docker::connect(address) {
        Ok(docker) => {
            let version = docker.version();
            told.extend([
                ("answers", Value::from(true)),
                ("version", Value::from(version.engine.as_str())),
                ("api", Value::from(version.api.as_str())),
            ]);
        }
        Err(error) => {
            told.extend([("answers", Value::from(false)), ("why", Value::from(error.render()))]);
            if context.config.engine == EngineChoice::DockerDaemon {
                problems.push(format!(
                    "the Docker engine is the configured engine and does not answer at {address}: install one \
                     (`apt-get install docker.io`), correct DOCKER_HOST, or configure `engine: store`"
                ));
            }
        }
    }
    let default = match context.config.engine {
        EngineChoice::Store => "the embedded store, as configured",
        EngineChoice::DockerDaemon => "the Docker engine, as configured",
        EngineChoice::Auto if told.iter().any(|(key, value)| *key == "answers" && *value == Value::from(true)) => {
            "the Docker engine, since it answers"
        }
        EngineChoice::Auto => "the embedded store, since no Docker engine answers",
    };
    told.push(("bare_names_mean", Value::from(default)));
    Value::map(told)
}

fn look_at(program: &Program) -> Value {
    let mut told = vec![("needed_for", Value::from(program.needed_for))];
    match host::process::find(program.name) {
        None => told.extend([
            ("found", Value::from(false)),
            ("install", Value::from(format!("apt-get install {}", program.package))),
        ]),
        Some(path) => {
            told.extend([("found", Value::from(true)), ("path", Value::from(path.display().to_string()))]);
            if !program.version.is_empty() {
                // A program that cannot tell its version is a finding, not a failure of the doctor.
                let version = host::process::run(host::process::command(&path).args(program.version));
                told.push((
                    "version",
                    Value::from(version.map_or_else(|error| error.render(), |out| first_line(&out.stdout))),
                ));
            }
        }
    }
    Value::map(told)
}

fn first_line(output: &[u8]) -> String {
    String::from_utf8_lossy(output).lines().next().unwrap_or_default().trim().to_owned()
}
