//! A store that tells of each step before it is done, so that a test may do something in between.

use castoff::error::Result;
use castoff::progress::Progress;
use castoff::publish::{Content, Entry, RemoteName, RemoteStore, Space, Temporary, Tier, Written};
use castoff::vocab::Digest;

/// A store, and who is called before each of its steps.
pub(super) struct Watched<F> {
    inner: Box<dyn RemoteStore>,
    before: F,
}

impl<F: FnMut(&'static str) + Send> Watched<F> {
    pub(super) fn new(inner: Box<dyn RemoteStore>, before: F) -> Self {
        Self { inner, before }
    }
}

impl<F: FnMut(&'static str) + Send> RemoteStore for Watched<F> {
    fn place(&self) -> &str {
        self.inner.place()
    }

    fn size_of(&mut self, entry: Entry<'_>) -> Result<Option<u64>> {
        (self.before)("size");
        self.inner.size_of(entry)
    }

    fn begin(&mut self, temporary: &Temporary) -> Result<u64> {
        (self.before)("begin");
        self.inner.begin(temporary)
    }

    fn space(&mut self, temporary: &Temporary) -> Result<Option<Space>> {
        (self.before)("space");
        self.inner.space(temporary)
    }

    fn resume_write(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<()> {
        (self.before)("write");
        self.inner.resume_write(temporary, content, from, told)
    }

    fn sync(&mut self, temporary: &Temporary) -> Result<bool> {
        (self.before)("sync");
        self.inner.sync(temporary)
    }

    fn hash(&mut self, entry: Entry<'_>, size: u64, tier: Tier, progress: &Progress) -> Result<Option<Digest>> {
        (self.before)("hash");
        self.inner.hash(entry, size, tier, progress)
    }

    fn rename_noclobber(&mut self, temporary: &Temporary, name: &RemoteName) -> Result<()> {
        (self.before)("rename");
        self.inner.rename_noclobber(temporary, name)
    }

    fn remove_temporary(&mut self, temporary: &Temporary) -> Result<bool> {
        (self.before)("remove");
        self.inner.remove_temporary(temporary)
    }

    fn remove(&mut self, name: &RemoteName) -> Result<bool> {
        (self.before)("remove");
        self.inner.remove(name)
    }

    fn read(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        (self.before)("read");
        self.inner.read(entry, size, progress, taker)
    }

    fn reconnect(&mut self) -> Result<()> {
        (self.before)("reconnect");
        self.inner.reconnect()
    }
}
