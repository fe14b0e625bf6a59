//! A command over ssh, while the console is followed.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::super::program::{end, needed, tied};
use super::{Ran, Run, Ssh};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// The most bytes of output that are told.
const MOST: u64 = 2 << 20;

/// What ssh itself exits with; a command that does so as well is run again until the check's time is over.
const NOT_THROUGH: i32 = 255;

/// A port of 127.0.0.1 that nobody has at this moment.
pub(super) fn free_port() -> Result<u16> {
    let wrong = || "cannot find a free port";
    Ok(TcpListener::bind(("127.0.0.1", 0)).context(wrong)?.local_addr().context(wrong)?.port())
}

pub(super) fn run(run: &mut Run<'_>, access: &Ssh, port: u16, (command, scratch): (&str, &Path)) -> Result<Ran> {
    let program = needed("ssh", "openssh-client")?;
    if access.user.is_empty() || access.user.starts_with('-') || access.user.contains(['@', '\0', '\n']) {
        return Err(Error::new(Kind::Usage, format!("`{}` is no user", access.user.escape_debug())));
    }
    let (output, errors) = (scratch.join("ssh-output"), scratch.join("ssh-errors"));
    loop {
        let file = fs::create_in_place(&output, false)?;
        let mut ssh = tied(&program)?;
        ssh.args(["-F", "none", "-p", &port.to_string(), "-l", &access.user]).arg("-i").arg(&access.identity);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "ConnectTimeout=10",
            "ServerAliveInterval=15",
            "LogLevel=ERROR",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.args(["127.0.0.1", "--"]).arg(format!("{{ {command}\n}} 2>&1")).stdin(Stdio::null());
        ssh.stdout(file).stderr(fs::create_in_place(&errors, false)?);
        let mut child = ssh.spawn().context(|| "cannot start `ssh`")?;
        let status = loop {
            if let Some(status) = child.try_wait().context(|| "cannot wait for `ssh`")? {
                break status;
            }
            let left = run.until.saturating_duration_since(Instant::now());
            let pumped = if left.is_zero() { Err(run.late("ssh did not end")) } else { run.pump(left) };
            if let Err(error) = pumped {
                end(&mut child)?;
                return Err(error);
            }
        };
        match status.code() {
            Some(NOT_THROUGH) | None => {
                let told = super::super::program::tail(&errors)?;
                let next = Instant::now() + Duration::from_secs(1);
                while Instant::now() < next {
                    run.pump(next.saturating_duration_since(Instant::now()))?;
                }
                if Instant::now() >= run.until {
                    return Err(run.late("ssh did not get through").caused_by(told));
                }
            }
            Some(exit) => {
                let text = fs::read_at_most(&output, MOST)?;
                return Ok(Ran { exit: exit.into(), output: String::from_utf8_lossy(&text).replace('\r', "") });
            }
        }
    }
}
