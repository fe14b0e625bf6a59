//! The order of an upload, the same for every place: send under a temporary name, verify there, give the final name.
//!
//! ```text
//! send    .part made or opened   room asked for   written from the last safe MiB on   made durable
//! verify  hash there, else read back, else size; never less than the minimum that was asked for
//! name    look first, rename, look again: only what is there counts, not what the reply said
//! ```
//!
//! Nothing is ever cut off or removed but our own temporary file. Two uploads of the same content may run at once: they
//! write the same bytes to the same places, and whoever comes second to the name finds its own content there.

use std::time::Duration;

use super::content::Content;
use super::name::{Entry, RemoteName, Temporary};
use super::remote::{RemoteStore, Tier};
use super::tally::{Sent, Tally};
use crate::error::{Error, Kind, Result};
use crate::host::fault;
use crate::progress::{Cancel, Progress, Unit};

/// Up to this size reading back is cheap enough to be preferred to trusting the far side's hash.
const SMALL: u64 = 64 << 20;

/// One file on its way to one place.
#[derive(Debug)]
pub struct Upload<'a> {
    /// What is sent.
    pub content: &'a Content,
    /// The name it gets.
    pub name: &'a RemoteName,
    /// How sure its bytes must be before it gets the name. With [`Tier::Size`] a large file is not read back where the
    /// far side does not hash; whatever costs little is done all the same.
    pub minimum: Tier,
    /// How often a lost connection is made anew with nothing gained in between.
    pub retries: u32,
    /// Who hears how it goes.
    pub progress: &'a Progress,
    /// Who may end it.
    pub cancel: &'a Cancel,
}

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Whether the place had it under its final name already.
    pub already_there: bool,
    /// What was sent.
    pub sent: Sent,
    /// How sure its bytes are.
    pub tier: Tier,
    /// Whether it was sent twice since what had arrived first was wrong.
    pub repeated: bool,
}

impl Upload<'_> {
    fn temporary(&self) -> Temporary {
        Temporary::of(self.name, self.content.digest())
    }

    /// All of it: `safe` is the offset that an earlier run was told last, `journal` hears the offsets of this one.
    pub fn run(
        &self,
        store: &mut dyn RemoteStore,
        safe: u64,
        journal: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Uploaded> {
        if let Some(tier) = self.served(store)? {
            return Ok(Uploaded { already_there: true, sent: Sent::default(), tier, repeated: false });
        }
        let mut sent = self.send(store, safe, journal)?;
        let (tier, again) = self.make_sure(store, journal)?;
        if let Some(again) = again {
            sent = Sent { sent: sent.sent + again.sent, reconnected: sent.reconnected + again.reconnected, ..again };
        }
        self.give_name(store)?;
        Ok(Uploaded { already_there: false, sent, tier, repeated: again.is_some() })
    }

    /// How sure it is that the place has the content under its final name already; none if nothing has the name, a
    /// conflict if something else has it.
    pub fn served(&self, store: &mut dyn RemoteStore) -> Result<Option<Tier>> {
        self.persist(store, |store| match store.size_of(self.name.into())? {
            Some(_) => self.named_already(store).map(Some),
            None => Ok(None),
        })
    }

    /// Verifies what was sent, and sends it once more where it is not what it should be; what was sent again, then.
    pub fn make_sure(
        &self,
        store: &mut dyn RemoteStore,
        journal: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<(Tier, Option<Sent>)> {
        match self.verify(store) {
            Err(error) if error.kind() == Kind::Corrupt => {
                // Not what was sent, or not what was meant to be sent?
                self.content.check(self.progress, self.cancel)?;
                self.progress.warn(format!("{}: sent again, since {error}", store.place()));
                journal(0)?;
                let again = self.send(store, 0, journal)?;
                Ok((self.verify(store)?, Some(again)))
            }
            other => Ok((other?, None)),
        }
    }

    /// Sends what is missing under the temporary name; a lost connection is made anew.
    pub fn send(
        &self,
        store: &mut dyn RemoteStore,
        safe: u64,
        journal: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Sent> {
        let stage = format!("uploading {} to {}", self.name, store.place());
        let stage = self.progress.stage(stage, Some(self.content.size()), Unit::Bytes);
        let mut tally = Tally::new(stage, journal, safe);
        let mut failures = 0;
        loop {
            let before = tally.safe;
            let error = match self.attempt(store, &mut tally) {
                Ok(()) => return Ok(tally.sent),
                Err(error) if error.kind() == Kind::Unavailable && !tally.refused => error,
                Err(error) => return Err(error),
            };
            if tally.safe > before {
                failures = 0;
            }
            self.recover(store, error, &mut failures)?;
            tally.sent.reconnected += 1;
        }
    }

    /// Does work that may be done again, over as many connections as it takes.
    fn persist<T>(
        &self,
        store: &mut dyn RemoteStore,
        mut work: impl FnMut(&mut dyn RemoteStore) -> Result<T>,
    ) -> Result<T> {
        let mut failures = 0;
        loop {
            match work(store) {
                Err(error) if error.kind() == Kind::Unavailable => self.recover(store, error, &mut failures)?,
                other => return other,
            }
        }
    }

    fn attempt(&self, store: &mut dyn RemoteStore, tally: &mut Tally<'_>) -> Result<()> {
        self.cancel.check()?;
        let (temporary, size) = (self.temporary(), self.content.size());
        let there = store.begin(&temporary)?;
        fault::point("publish.upload.begun");
        self.require_room(store, &temporary, there)?;
        let from = tally.begin(there.min(size));
        let written = store.resume_write(&temporary, self.content, from, &mut |written| {
            fault::point("publish.upload.writing");
            let heard = self.cancel.check().and_then(|()| tally.hear(written, size));
            tally.refused = heard.is_err();
            heard
        });
        if let Err(error) = written {
            // What failed on this side says nothing of the other.
            return Err(if tally.refused { error } else { self.labelled(store, &temporary, tally.safe, error) });
        }
        fault::point("publish.upload.before-sync");
        tally.sent.synced = store.sync(&temporary)?;
        fault::point("publish.upload.after-sync");
        Ok(())
    }

    /// Connects again after this failure, waiting longer each time; gives the failure back when that was tried often
    /// enough.
    fn recover(&self, store: &mut dyn RemoteStore, error: Error, failures: &mut u32) -> Result<()> {
        let mut lost = error;
        loop {
            *failures += 1;
            if *failures > self.retries {
                return Err(lost);
            }
            self.progress.warn(format!("{}: {lost}; connecting again", store.place()));
            self.cancel.sleep(Duration::from_millis(500 << (*failures).min(6)))?;
            match store.reconnect() {
                Err(error) if error.kind() == Kind::Unavailable => lost = error,
                other => return other,
            }
        }
    }

    fn require_room(&self, store: &mut dyn RemoteStore, temporary: &Temporary, there: u64) -> Result<()> {
        let Some(space) = store.space(temporary)? else { return Ok(()) };
        let missing = self.content.size().saturating_sub(there);
        // Two in a hundred more: what a file takes besides its bytes.
        let need = missing + missing / 50;
        if space.available >= need {
            return Ok(());
        }
        if there == 0 {
            self.take_back(store, temporary);
        }
        Err(no_space(store, need, space.available))
    }

    /// The failure of a write with its cause, if a full disk is the cause; servers say "failure" and no more. A part
    /// that stands on a full disk is removed, on any other it is kept for the next run.
    fn labelled(&self, store: &mut dyn RemoteStore, temporary: &Temporary, safe: u64, error: Error) -> Error {
        if !matches!(error.kind(), Kind::Failed | Kind::NoSpace) {
            return error;
        }
        let found = store.begin(temporary).and_then(|there| Ok((there, store.space(temporary)?)));
        let (there, space) = match found {
            Ok((there, Some(space))) => (there, space),
            Ok((_, None)) => return error,
            // The first failure is the one to be told; this one says why its cause is not known.
            Err(unknown) => {
                self.progress.warn(format!("{}: {unknown}", store.place()));
                return error;
            }
        };
        let need = self.content.size() - there.min(safe).min(self.content.size());
        if space.available >= need {
            return error.hint(format!("{} bytes are free there: is a quota used up?", space.available));
        }
        let labelled = no_space(store, need, space.available).caused_by(error);
        if space.total.is_some_and(|total| space.available < total / 20) {
            self.take_back(store, temporary);
        }
        labelled
    }

    /// Removes our own temporary file from a full disk; the full disk is the failure to be told, not one of this.
    fn take_back(&self, store: &mut dyn RemoteStore, temporary: &Temporary) {
        match store.remove_temporary(temporary) {
            Ok(_) => {
                self.progress.warn(format!("{}: removed `{temporary}`, since the disk there is full", store.place()));
            }
            Err(error) => self.progress.warn(format!("{}: {error}", store.place())),
        }
    }

    /// Compares what stands under the temporary name with the content; how sure it is then. What is wrong is
    /// [`Kind::Corrupt`].
    pub fn verify(&self, store: &mut dyn RemoteStore) -> Result<Tier> {
        let temporary = self.temporary();
        self.persist(store, |store| {
            let error = match store.size_of((&temporary).into())? {
                None => Error::new(Kind::NotFound, format!("`{temporary}` is not at {} any more", store.place())),
                Some(size) => match self.compare(store, (&temporary).into(), size) {
                    Err(error) if !matches!(error.kind(), Kind::Unavailable | Kind::Interrupted) => error,
                    other => return other,
                },
            };
            // Gone, maybe while it was read: somebody else uploaded the same and was faster.
            let gone = store.size_of((&temporary).into())?.is_none();
            if gone && store.size_of(self.name.into())?.is_some() {
                return self.named_already(store);
            }
            Err(error)
        })
    }

    fn compare(&self, store: &mut dyn RemoteStore, entry: Entry<'_>, size: u64) -> Result<Tier> {
        let wrong = |store: &dyn RemoteStore, what: String| {
            Error::new(Kind::Corrupt, format!("`{}` at {} is not what was sent: {what}", entry.text(), store.place()))
        };
        if size != self.content.size() {
            return Err(wrong(store, format!("it has {size} bytes, not {}", self.content.size())));
        }
        for &tier in self.tiers() {
            if tier == Tier::Size {
                return Ok(tier);
            }
            let Some(found) = store.hash(entry, size, tier, self.progress)? else { continue };
            if found == *self.content.digest() {
                return Ok(tier);
            }
            return Err(wrong(store, format!("it is {found}, not {}", self.content.digest())));
        }
        Err(Error::new(
            Kind::Unsupported,
            format!("{} cannot verify by `{}`, which is the least that is asked for", store.place(), self.minimum),
        )
        .hint("lower `verify` of the target to `read-back`"))
    }

    /// The ways to verify, in the order they are tried: never a weaker one where a stronger is cheap.
    fn tiers(&self) -> &'static [Tier] {
        match (self.minimum, self.content.size() < SMALL) {
            (Tier::RemoteHash, _) => &[Tier::RemoteHash],
            (Tier::ReadBack | Tier::Size, true) => &[Tier::ReadBack],
            (Tier::ReadBack, false) => &[Tier::RemoteHash, Tier::ReadBack],
            (Tier::Size, false) => &[Tier::RemoteHash, Tier::Size],
        }
    }

    /// Gives the verified file its final name. What is there decides, not the reply: it may be lost, and some servers
    /// overwrite without a word.
    pub fn give_name(&self, store: &mut dyn RemoteStore) -> Result<()> {
        let temporary = self.temporary();
        let mut lost = None;
        self.persist(store, |store| {
            self.cancel.check()?;
            self.name_once(store, &temporary, &mut lost)
        })
    }

    fn name_once(&self, store: &mut dyn RemoteStore, temporary: &Temporary, lost: &mut Option<String>) -> Result<()> {
        // In this order: whoever gives the name takes the temporary one away with it.
        let unnamed = store.size_of(temporary.into())?;
        if store.size_of(self.name.into())?.is_some() {
            return self.named_already(store).map(drop);
        }
        if unnamed.is_none() {
            let error = Error::new(Kind::NotFound, format!("`{temporary}` is not at {} any more", store.place()));
            return Err(match lost.take() {
                Some(lost) => error.caused_by(lost),
                None => error,
            });
        }
        fault::point("publish.upload.before-rename");
        let renamed = store.rename_noclobber(temporary, self.name);
        fault::point("publish.upload.after-rename");
        if let Err(error) = renamed {
            if error.kind() == Kind::Unavailable {
                *lost = Some(error.to_string());
                return Err(error);
            }
            // Somebody was faster, or the server did it and said otherwise.
            return match store.size_of(self.name.into())? {
                Some(_) => self.named_already(store).map(drop),
                None => Err(error),
            };
        }
        match store.size_of(self.name.into())? {
            Some(size) if size == self.content.size() => Ok(()),
            found => Err(Error::new(
                Kind::Corrupt,
                format!("{} renamed `{temporary}`, but `{}` is now {found:?} bytes", store.place(), self.name),
            )),
        }
    }

    /// Judges what stands under the final name: ours, then only our own temporary file is taken away; anything else is
    /// a conflict, and nothing is touched.
    fn named_already(&self, store: &mut dyn RemoteStore) -> Result<Tier> {
        let size = store.size_of(self.name.into())?.unwrap_or(0);
        let tier = self.compare(store, self.name.into(), size).map_err(|error| {
            if error.kind() != Kind::Corrupt {
                return error;
            }
            let message = format!("`{}` is at {} already, with other content", self.name, store.place());
            Error::new(Kind::Conflict, message)
                .caused_by(error)
                .hint("published names are for ever: publish under the next version; nothing was changed there")
        })?;
        if store.remove_temporary(&self.temporary())? {
            self.progress.line(format!("{}: `{}` was there already", store.place(), self.name));
        }
        Ok(tier)
    }
}

fn no_space(store: &dyn RemoteStore, need: u64, have: u64) -> Error {
    Error::new(Kind::NoSpace, format!("not enough space at {}: need {need} bytes, have {have}", store.place()))
        .hint("free some space there; what was sent already is not sent again")
}
