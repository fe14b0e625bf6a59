//! What stands for the Docker engine in a castoff built without the feature `docker`: every name, and a clear error.

use std::io::Write;
use std::path::PathBuf;

use super::address::Address;
use super::types::{
    CommandReport, ContainerSpec, EngineImageInfo, EngineImageSummary, EngineVersion, Loaded, RefreshSpec, Refreshed,
    Removed,
};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::vocab::{Digest, EngineImage, ImageName};

/// A Docker engine: there is no value of this type in this build.
#[derive(Debug)]
pub enum Docker {}

/// A container: there is no value of this type in this build.
#[derive(Debug)]
pub struct Container<'a>(&'a Docker);

#[expect(missing_docs, reason = "documented where they do something; none of these can be called")]
#[expect(clippy::unused_self, reason = "the same signatures as with the feature")]
impl Docker {
    pub fn connect(docker_host: &str) -> Result<Self> {
        let address: Address = docker_host.parse()?;
        Err(Error::new(
            Kind::Unsupported,
            format!("this castoff was built without Docker, so `{address}` is unreachable"),
        )
        .hint("use castoff's own store (`store:NAME`) or an archive, or build with the feature `docker`"))
    }

    pub fn version(&self) -> &EngineVersion {
        match *self {}
    }

    pub fn address(&self) -> &Address {
        match *self {}
    }

    pub fn is_local(&self) -> bool {
        match *self {}
    }

    pub fn ping(&self) -> Result<()> {
        match *self {}
    }

    pub fn inspect_image(&self, _: &EngineImage) -> Result<Option<EngineImageInfo>> {
        match *self {}
    }

    pub fn list(&self) -> Result<Vec<EngineImageSummary>> {
        match *self {}
    }

    pub fn tag(&self, _: &EngineImage, _: &ImageName) -> Result<()> {
        match *self {}
    }

    pub fn untag(&self, _: &ImageName) -> Result<Removed> {
        match *self {}
    }

    pub fn remove(&self, _: &EngineImage) -> Result<Removed> {
        match *self {}
    }

    pub fn remove_alone(&self, _: &EngineImage) -> Result<Removed> {
        match *self {}
    }

    pub fn save(&self, _: &EngineImage, _: &mut dyn Write, _: &Progress) -> Result<u64> {
        match *self {}
    }

    pub fn load<P>(&self, _: Option<u64>, _: &Progress, _: P) -> Result<Loaded>
    where
        P: FnOnce(&mut dyn Write) -> Result<()> + Send,
    {
        match *self {}
    }

    pub fn create(&self, _: &ContainerSpec) -> Result<Container<'_>> {
        match *self {}
    }

    pub fn sweep(&self) -> Result<Vec<String>> {
        match *self {}
    }

    pub fn refresh_commit(&self, _: &RefreshSpec, _: &Progress) -> Result<(Digest, CommandReport)> {
        match *self {}
    }

    pub fn refresh_tree<T>(&self, _: &RefreshSpec, _: &Progress, _: impl FnOnce(&Refreshed) -> Result<T>) -> Result<T> {
        match *self {}
    }
}

#[expect(missing_docs, reason = "documented where they do something; none of these can be called")]
impl Container<'_> {
    pub fn id(&self) -> &str {
        match *self.0 {}
    }

    pub fn name(&self) -> &str {
        match *self.0 {}
    }

    pub fn start(&mut self) -> Result<()> {
        match *self.0 {}
    }

    pub fn copy_in(&self, _: &str, _: Vec<u8>) -> Result<()> {
        match *self.0 {}
    }

    pub fn exec(&self, _: &[String], _: &Progress) -> Result<CommandReport> {
        match *self.0 {}
    }

    pub fn pause(&self) -> Result<()> {
        match *self.0 {}
    }

    pub fn stop(&self) -> Result<()> {
        match *self.0 {}
    }

    pub fn root(&self) -> Result<PathBuf> {
        match *self.0 {}
    }

    pub fn remove(self) -> Result<()> {
        match *self.0 {}
    }
}
