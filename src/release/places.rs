//! Released files where they are: looked at, waited for, read as a host reads them.

use std::time::{Duration, Instant};

use super::Setup;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Address, Listed};
use crate::progress::Progress;
use crate::publish::{Access, RemoteName, RemoteStore, Target, Tier, open_for_reading};

/// The first wait for a file; each is longer, up to a limit.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// No wait is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Makes sure that the published file is what the manifest says; how sure.
pub(super) fn confirm(
    store: &mut dyn RemoteStore,
    file: Listed<'_>,
    minimum: Tier,
    progress: &Progress,
) -> Result<Tier> {
    let name: RemoteName = file.name.as_str().parse()?;
    let place = store.place().to_owned();
    let wrong = |kind, what: String| Error::new(kind, format!("`{name}` at {place}: {what}"));
    match store.size_of((&name).into())? {
        None => return Err(wrong(Kind::NotFound, "it is not there".to_owned())),
        Some(size) if size != file.size => {
            return Err(wrong(Kind::Corrupt, format!("it has {size} bytes, not {}", file.size)));
        }
        Some(_) => {}
    }
    let tiers: &[Tier] = match minimum {
        Tier::RemoteHash | Tier::Size => &[Tier::RemoteHash],
        Tier::ReadBack => &[Tier::RemoteHash, Tier::ReadBack],
    };
    for tier in tiers {
        match store.hash((&name).into(), file.size, *tier, progress)? {
            None => {}
            Some(found) if found == file.sha256 => return Ok(*tier),
            Some(found) => return Err(wrong(Kind::Corrupt, format!("it is {found}, not {}", file.sha256))),
        }
    }
    if minimum == Tier::Size {
        return Ok(Tier::Size);
    }
    Err(wrong(Kind::Unsupported, format!("it cannot be verified by `{minimum}`")))
}

/// The folder that an address leads to, for addresses that end with the file's name.
pub(super) fn folder_of(address: &Address) -> Result<Target> {
    let text = address.to_string();
    let folder = text.strip_suffix("/{name}").ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("files cannot be fetched from `{text}`"))
            .hint("an address that castoff fetches from ends with `/{name}`")
    })?;
    let folder = if folder.ends_with(':') || folder.ends_with("//") { format!("{folder}/") } else { folder.to_owned() };
    folder.parse()
}

/// Opens the folder of an address as a host would, with nothing but the operator's ssh configuration.
pub(super) fn open_address(setup: &Setup, address: &Address) -> Result<Box<dyn RemoteStore>> {
    open_for_reading(&folder_of(address)?, &Access::default(), &setup.operator, &setup.cancel)
}

/// Waits until the whole file can be fetched from the address.
pub(super) fn wait_for(setup: &Setup, address: &Address, file: Listed<'_>) -> Result<()> {
    let until = Instant::now() + setup.public_wait;
    let mut wait = FIRST_WAIT;
    loop {
        let found = open_address(setup, address)
            .and_then(|mut store| confirm(store.as_mut(), file, Tier::ReadBack, &setup.progress));
        let error = match found {
            Ok(_) => return Ok(()),
            // A mirror that lags shows nothing, the beginning, or the file before.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt | Kind::Unavailable) => error,
            Err(error) => return Err(error),
        };
        if Instant::now() + wait > until {
            return Err(Error::new(
                Kind::Unavailable,
                format!("`{}` cannot be fetched from `{address}` yet", file.name),
            )
            .caused_by(error)
            .hint("what is announced stays as it is; run the same again once the mirrors have the file"));
        }
        setup.progress.line(format!("waiting for `{}` at `{address}`: {error}", file.name));
        setup.cancel.sleep(wait)?;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}
