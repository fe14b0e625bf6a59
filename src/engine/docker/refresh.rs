//! A refresh: a script run as root in a container of an image, and the tree it leaves read with its ACLs.
//!
//! `docker commit` loses ACLs, so the tree is read from the container's merged root on the host while the container
//! still runs (an engine unmounts the root of one that has ended). The container's own command is a shell that waits
//! for the end of its input; the script runs beside it; then everything is frozen, the engine's stubs are taken away
//! again and the caller reads.

use std::collections::BTreeMap;

use super::client::Docker;
use super::container::Container;
use super::images::no_such_image;
use super::stubs::Stubs;
use super::types::{CommandReport, ContainerSpec, RefreshSpec, Refreshed};
use crate::error::{Error, Kind, Result};
use crate::host::{fault, fs};
use crate::progress::Progress;
use crate::rootfs::{Entry, EntryKind, Timestamp, tar};
use crate::vocab::Digest;

/// `read` is the shell's own, so that nothing else is asked of the image.
const WAIT: [&str; 3] = ["/bin/sh", "-c", "read _"];

impl Docker {
    /// Runs the refresh and lets `read` see the tree; whatever happens, the container is removed.
    ///
    /// The script's exit code must be 0. Without root, or with an engine whose containers are not on this host, it
    /// is refused before the script runs.
    pub fn refresh_tree<T>(
        &self,
        spec: &RefreshSpec,
        progress: &Progress,
        read: impl FnOnce(&Refreshed) -> Result<T>,
    ) -> Result<T> {
        let volumes = volumes_of(self, spec, progress)?;
        let container = self.waiting_container(spec)?;
        let root = container.root()?;
        let command = run_script(&container, spec, progress)?;
        container.pause()?;
        if let Some(script) = script_name(&container, spec) {
            fs::remove_file(&root.join(script))?;
        }
        let stubs = if let Some(stubs) = Stubs::find(&container.lower_dirs()?)? {
            stubs.clear(&root)?
        } else {
            progress.warn("the engine does not tell its own files from the image's: some may be in the tree");
            Vec::new()
        };
        fault::point("engine.docker.refresh-read");
        let outcome = read(&Refreshed { root, stubs, volumes, command });
        finish(container, outcome)
    }

    /// Runs the refresh and commits the container to an image without a name: for engines whose containers are not on
    /// this host, and callers who do without ACLs.
    ///
    /// Its last layer is what the script changed, without ACLs and other xattrs, times in whole seconds; where a
    /// changed file had an ACL, the mode's group bits are the ACL's mask. Only its layers are of use: its
    /// configuration is the container's.
    pub fn refresh_commit(&self, spec: &RefreshSpec, progress: &Progress) -> Result<(Digest, CommandReport)> {
        volumes_of(self, spec, progress)?;
        let container = self.waiting_container(spec)?;
        let command = run_script(&container, spec, progress)?;
        if let Some(script) = script_name(&container, spec) {
            let removal = ["rm".to_owned(), "-f".to_owned(), format!("/{script}")];
            let removed = container.exec(&removal, &Progress::silent())?;
            if removed.exit != 0 {
                return Err(Error::new(Kind::Failed, "cannot take the script out of the container again")
                    .caused_by(removed.tail.join("\n")));
            }
        }
        let outcome = container.commit().map(|image| (image, command));
        fault::point("engine.docker.refresh-committed");
        finish(container, outcome)
    }

    /// A started container that does nothing until this process ends.
    fn waiting_container(&self, spec: &RefreshSpec) -> Result<Container<'_>> {
        self.sweep()?;
        let mut container = self.create(&ContainerSpec {
            image: spec.image.clone(),
            command: WAIT.map(str::to_owned).to_vec(),
            network: spec.network,
            capabilities: spec.capabilities.clone(),
            environment: spec.environment.clone(),
        })?;
        container.start()?;
        Ok(container)
    }
}

fn finish<T>(container: Container<'_>, outcome: Result<T>) -> Result<T> {
    match (outcome, container.remove()) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
    }
}

/// The image's volumes, each told as a warning.
fn volumes_of(docker: &Docker, spec: &RefreshSpec, progress: &Progress) -> Result<Vec<String>> {
    let image = docker.inspect_image(&spec.image)?.ok_or_else(|| no_such_image(&spec.image))?;
    let mut volumes: Vec<String> = match image.config.get("Volumes") {
        Some(serde_json::Value::Object(volumes)) => volumes.keys().cloned().collect(),
        Some(serde_json::Value::Array(volumes)) => {
            volumes.iter().filter_map(|volume| volume.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    volumes.sort();
    for volume in &volumes {
        progress.warn(format!("`{volume}` is a volume of the image: what the script writes there is not kept"));
    }
    Ok(volumes)
}

/// The script's place in the container, without the leading `/`: the root folder is the only one every image has.
fn script_name(container: &Container<'_>, spec: &RefreshSpec) -> Option<String> {
    spec.script.is_some().then(|| format!(".{}", container.name()))
}

fn run_script(container: &Container<'_>, spec: &RefreshSpec, progress: &Progress) -> Result<CommandReport> {
    let mut command = spec.command.clone();
    if let (Some(name), Some(script)) = (script_name(container, spec), &spec.script) {
        container.copy_in("/", tar_of_script(&name, script))?;
        command.push(format!("/{name}"));
    }
    if command.is_empty() {
        return Err(Error::new(Kind::Usage, format!("there is nothing to run in `{}`", spec.image))
            .hint("give a script or a command"));
    }
    let report = container.exec(&command, progress)?;
    if report.exit == 0 {
        return Ok(report);
    }
    Err(Error::new(
        Kind::Failed,
        format!("the refresh of `{}` failed: `{}` exited with {}", spec.image, command.join(" "), report.exit),
    )
    .caused_by(report.tail.join("\n")))
}

/// One executable file of root's.
fn tar_of_script(name: &str, script: &[u8]) -> Vec<u8> {
    let header = tar::encode(
        &Entry {
            path: name.as_bytes().to_vec(),
            kind: EntryKind::File { size: script.len() as u64 },
            mode: 0o700,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: BTreeMap::new(),
        },
        None,
        false,
    );
    let padding = vec![0; script.len().next_multiple_of(512) - script.len()];
    [header.as_slice(), script, &padding, &tar::END].concat()
}
