//! What the pipeline may use: configuration, progress, the store and the Docker engine, each opened when first needed.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use crate::config::{Config, EngineChoice};
use crate::engine::docker::Docker;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::{Platform, SpoolLimits};
use crate::progress::Progress;
use crate::rootfs::Limits;
use crate::store::Store;
use crate::vocab::Reference;

/// The surroundings of one call.
pub struct Surroundings<'a> {
    /// castoff's configuration.
    pub config: &'a Config,
    /// Who hears of progress.
    pub progress: &'a Progress,
    /// Which image is meant where a name has several; none: this host's.
    pub platform: Option<Platform>,
    store: OnceCell<Store>,
    docker: OnceCell<Docker>,
}

impl<'a> Surroundings<'a> {
    /// Surroundings in which nothing is opened yet.
    pub fn new(config: &'a Config, progress: &'a Progress) -> Self {
        Self { config, progress, platform: None, store: OnceCell::new(), docker: OnceCell::new() }
    }

    /// The same, for images of this platform.
    #[must_use]
    pub fn for_platform(self, platform: Option<Platform>) -> Self {
        Self { platform, ..self }
    }

    /// The embedded store, opened (and its leftovers swept) at the first call.
    pub fn store(&self) -> Result<&Store> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let folder = self.config.state_dir.join("store");
        let store = Store::open(&folder).context(|| format!("cannot open the store `{}`", folder.display()))?;
        Ok(self.store.get_or_init(|| store))
    }

    /// The embedded store if there is one: looking for an image makes none.
    pub fn existing_store(&self) -> Result<Option<&Store>> {
        if self.store.get().is_none() && !host::fs::exists(&self.config.state_dir.join("store/index.json"))? {
            return Ok(None);
        }
        self.store().map(Some)
    }

    /// The Docker engine, connected at the first call.
    pub fn docker(&self) -> Result<&Docker> {
        if let Some(docker) = self.docker.get() {
            return Ok(docker);
        }
        let docker = Docker::connect(&self.config.docker_host)?;
        Ok(self.docker.get_or_init(|| docker))
    }

    /// The limits that unfolding compressed content meets.
    pub fn spool_limits(&self) -> SpoolLimits {
        SpoolLimits { unfolded: self.config.limit_layer_size, ..SpoolLimits::default() }
    }

    /// The limits that hostile input meets.
    pub fn limits(&self) -> Limits {
        Limits { entries: self.config.limit_entries, ..Limits::default() }
    }

    /// The reference with a bare name turned into one of the configured default engine.
    ///
    /// `auto` means the Docker engine when its socket answers, else the embedded store. An engine that is there but
    /// refuses (permissions, a broken daemon) is an error, never a silent fall-back.
    pub fn resolve(&self, reference: &Reference) -> Result<Reference> {
        let Reference::Default(image) = reference else { return Ok(reference.clone()) };
        let docker = match self.config.engine {
            EngineChoice::Store => false,
            EngineChoice::DockerDaemon => true,
            EngineChoice::Auto => match self.docker() {
                Ok(_) => true,
                Err(error) if matches!(error.kind(), Kind::Unavailable | Kind::Unsupported | Kind::NotFound) => false,
                Err(error) => {
                    return Err(error).context(|| format!("cannot tell where `{image}` is")).map_err(|error| {
                        error.hint(format!("say which engine you mean: `store:{image}` or `docker-daemon:{image}`"))
                    });
                }
            },
        };
        Ok(if docker { Reference::DockerDaemon(image.clone()) } else { Reference::Store(image.clone()) })
    }

    /// A folder for spooled layers: `tmpdir` where it is given, else one below the state folder.
    pub fn scratch(&self, tmpdir: Option<&Path>) -> Result<PathBuf> {
        let folder = match tmpdir {
            None => {
                let folder = self.config.state_dir.join("tmp");
                host::fs::create_dir_all(&folder, 0o700)?;
                folder
            }
            Some(folder) => {
                let is_folder = host::fs::metadata(folder)?.is_some_and(|metadata| metadata.is_dir());
                if !is_folder {
                    return Err(Error::new(Kind::NotFound, format!("tmpdir `{}` is not a folder", folder.display())));
                }
                folder.to_owned()
            }
        };
        host::fs::sweep(&folder)?;
        Ok(folder)
    }
}
