//! Who may work: one release of an image and flavour at a time, a few uploads to one host. The kernel's locks die with
//! their owner; what stands in the files is for messages only.

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::Setup;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fs, session};
use crate::publish::Target;
use crate::vocab::{Flavour, OsImage};

/// How often it is tried again whether the lock is held by a run, or by somebody who looks whether there is one.
const GLANCES: u32 = 5;

/// How long somebody who looks may take.
const GLANCE: Duration = Duration::from_millis(20);

/// How often a free slot is looked for.
const LOOK: Duration = Duration::from_millis(200);

/// The lock of an image and flavour below the state folder; whoever else wants it hears so at once.
pub fn lock(state: &Path, image: &OsImage, flavour: &Flavour) -> Result<fs::Lock> {
    let folder = state.join("release/locks").join(image.as_str());
    fs::create_dir_all(&folder, 0o700)?;
    let path = folder.join(format!("{flavour}.lock"));
    let Some(lock) = taken(&path)? else {
        let owner = String::from_utf8_lossy(&fs::read_at_most(&path, 4096)?).trim().escape_debug().to_string();
        let error = Error::new(Kind::Conflict, format!("busy: `{image}/{flavour}` is being released already"));
        let error = if owner.is_empty() { error } else { error.caused_by(owner) };
        return Err(error.hint("wait for the other run to end; `castoff call release.status` shows how far it is"));
    };
    let owner = format!("process {} of boot {}\n", std::process::id(), session::boot()?);
    fs::create_in_place(&path, false)?
        .write_all(owner.as_bytes())
        .context(|| format!("cannot write `{}`", path.display()))?;
    Ok(lock)
}

/// The lock if nobody holds it for longer than a look at it takes.
fn taken(path: &Path) -> Result<Option<fs::Lock>> {
    for _ in 0..GLANCES {
        if let Some(lock) = fs::Lock::try_exclusive(path)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(GLANCE);
    }
    fs::Lock::try_exclusive(path)
}

/// Who releases the image and flavour at this moment, in words; none where nobody does.
pub(super) fn holder(state: &Path, image: &OsImage, flavour: &Flavour) -> Result<Option<String>> {
    let path = state.join("release/locks").join(image.as_str()).join(format!("{flavour}.lock"));
    if !fs::exists(&path)? || fs::Lock::try_exclusive(&path)?.is_some() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&fs::read_at_most(&path, 4096)?).trim().escape_debug().to_string()))
}

/// A slot for uploads to the target's host, once one is free; none for a folder of this machine.
pub(super) fn slot(setup: &Setup, target: &Target) -> Result<Option<fs::Lock>> {
    let host = match target {
        Target::Directory(_) => return Ok(None),
        Target::Sftp { host, .. } => host.host.as_str(),
        Target::Web(folder) => folder.host.as_str(),
    };
    // A host's name may be an address with colons; nothing in it leads out of the folder.
    let host = host.replace(['/', ':'], "_");
    let folder = setup.folder().join("slots");
    fs::create_dir_all(&folder, 0o700)?;
    let mut told = false;
    loop {
        for slot in 1..=setup.slots {
            if let Some(lock) = fs::Lock::try_exclusive(&folder.join(format!("{host}.{slot}.lock")))? {
                return Ok(Some(lock));
            }
        }
        if !told {
            setup.progress.line(format!("{} uploads to {host} are under way: waiting for one to end", setup.slots));
            told = true;
        }
        setup.cancel.sleep(LOOK)?;
    }
}
