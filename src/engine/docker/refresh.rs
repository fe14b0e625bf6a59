//! A refresh: a script run as root in a container of an image, and the tree it leaves read with its ACLs.
//!
//! `docker commit` loses ACLs, so the tree is read from the container's merged root on the host while the container
//! still runs (an engine unmounts the root of one that has ended). The container's own command is a shell that waits
//! for the end of its input; the script runs beside it; then everything is frozen, the engine's stubs are taken away
//! again and the caller reads.

use std::io::Write as _;
use std::path::Path;

use rustix::fs::{AtFlags, Timespec, Timestamps};

use super::client::Docker;
use super::container::Container;
use super::overlay::{self, Moment, Stubs};
use super::types::{ContainerSpec, RefreshSpec, Refreshed};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs};
use crate::progress::Progress;

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
        self.sweep()?;
        let volumes = volumes_of(self, spec)?;
        for volume in &volumes {
            progress.warn(format!("`{volume}` is a volume of the image: what the script writes there is not kept"));
        }
        let mut container = self.create(&ContainerSpec {
            image: spec.image.clone(),
            command: WAIT.map(str::to_owned).to_vec(),
            network: spec.network,
            capabilities: spec.capabilities.clone(),
            environment: spec.environment.clone(),
        })?;
        container.start()?;
        let root = container.root()?;
        let command = run_script(&container, spec, &root, progress)?;
        container.pause()?;
        let stubs = overlay::stubs(&container.lower_dirs()?)?;
        if stubs == Stubs::default() {
            progress.warn("the engine does not tell its stubs from the image's files: some may be in the tree");
        }
        let stubs = clear(&root, &stubs)?;
        fault::point("engine.docker.refresh-read");
        let outcome = read(&Refreshed { root, stubs, volumes, command });
        match (outcome, container.remove()) {
            (Ok(value), Ok(())) => Ok(value),
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        }
    }
}

fn volumes_of(docker: &Docker, spec: &RefreshSpec) -> Result<Vec<String>> {
    let image = docker.inspect_image(&spec.image)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the Docker engine has no image `{}`", spec.image))
            .hint("`docker image ls` lists what it has")
    })?;
    let mut volumes: Vec<String> = match image.config.get("Volumes") {
        Some(serde_json::Value::Object(volumes)) => volumes.keys().cloned().collect(),
        Some(serde_json::Value::Array(volumes)) => {
            volumes.iter().filter_map(|volume| volume.as_str().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    volumes.sort();
    Ok(volumes)
}

/// Puts the script into the root folder, the only one every image has, runs it and takes it away.
fn run_script(
    container: &Container<'_>,
    spec: &RefreshSpec,
    root: &Path,
    progress: &Progress,
) -> Result<super::CommandReport> {
    let mut command = spec.command.clone();
    let name = format!(".{}", container.name());
    if let Some(script) = &spec.script {
        container.copy_in("/", tar_of_script(&name, script)?)?;
        command.push(format!("/{name}"));
    }
    if command.is_empty() {
        return Err(Error::new(Kind::Usage, format!("there is nothing to run in `{}`", spec.image))
            .hint("give a script or a command"));
    }
    let report = container.exec(&command, progress)?;
    if report.exit != 0 {
        return Err(Error::new(
            Kind::Failed,
            format!("the refresh of `{}` failed: `{}` exited with {}", spec.image, command.join(" "), report.exit),
        )
        .caused_by(report.tail.join("\n")));
    }
    if spec.script.is_some() {
        fs::remove_file(&root.join(name))?;
    }
    Ok(report)
}

/// Takes the engine's stubs out of the merged tree, where they are still as it made them, and gives the folders
/// they were in their mtime back. The names that were taken away.
fn clear(root: &Path, stubs: &Stubs) -> Result<Vec<String>> {
    let before: Vec<(&Path, Moment)> = stubs
        .touched
        .iter()
        .filter_map(|(path, made, original)| {
            let now = fs::link_metadata(&root.join(path)).transpose()?;
            Some(now.map(|now| {
                let now = overlay::moment(&now);
                // The script has not touched the folder either: it is as the image had it.
                (path.as_path(), if now == *made { *original } else { now })
            }))
        })
        .collect::<Result<_>>()?;
    let mut removed = Vec::new();
    for path in &stubs.made {
        let place = root.join(path);
        let Some(metadata) = fs::link_metadata(&place)? else { continue };
        let is_gone = if metadata.is_dir() {
            fs::list(&place)?.is_empty() && fs::remove_dir(&place)?
        } else if metadata.is_symlink() || metadata.len() == 0 {
            fs::remove_file(&place)?
        } else {
            // The script wrote through a mount that it had taken away, or replaced the stub: it is the image's now.
            false
        };
        if is_gone {
            removed.push(path.to_string_lossy().into_owned());
        }
    }
    for (path, (seconds, nanoseconds)) in before {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        };
        let place = root.join(path);
        rustix::fs::utimensat(rustix::fs::CWD, &place, &times, AtFlags::SYMLINK_NOFOLLOW)
            .context(|| format!("cannot set the time of `{}`", place.display()))?;
    }
    removed.sort();
    Ok(removed)
}

/// One executable file of root's in the oldest tar form (POSIX ustar), which every engine reads.
fn tar_of_script(name: &str, script: &[u8]) -> Result<Vec<u8>> {
    let mut header = [0u8; 512];
    let mut put = |offset: usize, text: &str| header[offset..offset + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000700\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", script.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = Vec::with_capacity(script.len() + 2048);
    let padding = script.len().next_multiple_of(512) - script.len();
    for part in [&header[..], script, &[0; 511][..padding], &[0; 1024][..]] {
        tar.write_all(part).context(|| "cannot build the script's archive")?;
    }
    Ok(tar)
}
