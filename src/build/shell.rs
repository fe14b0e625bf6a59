//! A shell in the tree of a failed step, as the step saw it.

use std::path::{Path, PathBuf};

use super::bounds_of;
use super::order::{Order, Shell};
use super::tree::{Ground, Snapshots};
use crate::engine::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::Cancel;
use crate::rootfs::Limits;
use crate::sandbox::worker::{Ids, Port, Worker};
use crate::sandbox::{Sandbox, Terminal, overlay::Overlay};
use crate::store::trees::Trees;
use crate::vocab::Digest;

/// What is run in a failed tree.
#[derive(Clone, Debug, Default)]
pub struct ShellRequest {
    /// The kept tree, by its name below `failed`; none: the newest.
    pub failed: Option<String>,
    /// The command; empty: an interactive shell on the caller's terminal.
    pub command: Vec<String>,
    /// Whether it reaches the network.
    pub network: bool,
}

/// The trees of failed steps, oldest first.
pub fn failed(surroundings: &Surroundings<'_>) -> Result<Vec<PathBuf>> {
    Trees::existing(&surroundings.config.state_dir.join("trees"))?
        .map_or_else(|| Ok(Vec::new()), |trees| trees.failed())
}

/// Runs a command, or a shell, in the tree of a failed step; its exit code and, of a command, the last lines it printed.
/// What it changes is gone afterwards.
pub fn shell(request: &ShellRequest, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<(i32, Vec<String>)> {
    let found = failed(surroundings)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let chosen = match &request.failed {
        None => found.last(),
        Some(wanted) => found.iter().find(|path| name(path) == *wanted),
    };
    let Some(chosen) = chosen else {
        let known: Vec<String> = found.iter().map(|path| name(path)).collect();
        return Err(Error::new(Kind::NotFound, "there is no such tree of a failed step").hint(if known.is_empty() {
            "a build that fails keeps one".to_owned()
        } else {
            format!("there are: {}", known.join(", "))
        }));
    };
    let terminal = if request.command.is_empty() { Some(Terminal::open()?) } else { None };
    let order = Shell {
        trees: surroundings.config.state_dir.join("trees"),
        failed: chosen.clone(),
        command: request.command.clone(),
        terminal: terminal.as_ref().map(|terminal| terminal.name().to_owned()),
        network: request.network,
        bounds: bounds_of(surroundings.config, None),
    };
    let worker = Worker::start("build", &Order::Shell(order), &Ids::of_this_process()?)?;
    let relay = terminal.map(Terminal::relay).transpose()?;
    let exit = worker.finish(surroundings.progress, cancel, |_| Ok(()))?;
    drop(relay);
    Ok(exit)
}

/// What a failed tree lies upon.
#[derive(serde::Deserialize)]
struct Story {
    layers: Vec<Digest>,
}

pub(super) fn inside(order: &Shell, port: &Port) -> Result<(i32, Vec<String>)> {
    let trees = Trees::open(&order.trees)?;
    let cancel = port.cancel();
    let (snapshots, _) = Snapshots::of(&trees)?;
    let limits = Limits { entries: order.bounds.entries, ..Limits::default() };
    let ground = Ground { trees: &trees, snapshots, limits, cancel: &cancel };
    let story = fs::read_at_most(&order.failed.join("failed.json"), 1 << 20)?;
    let story: Story = serde_json::from_slice(&story).map_err(|error| {
        Error::new(Kind::Corrupt, format!("`{}` is no kept tree", order.failed.display())).caused_by(error)
    })?;
    for layer in &story.layers {
        if !fs::exists(&trees.layer(*layer))? {
            return Err(Error::new(Kind::NotFound, "what the failed step was run upon is not in the store any more")
                .hint("build again: it fails with a fresh tree"));
        }
    }
    let place = trees.workplace()?;
    for folder in ["upper", "work", "merged"] {
        fs::create_dir_all(&place.path().join(folder), 0o755)?;
    }
    let merged = place.path().join("merged");
    let own = order.failed.join("tree");
    let overlay;
    if snapshots == Snapshots::Overlay {
        let lowers: Vec<PathBuf> =
            std::iter::once(own).chain(story.layers.iter().rev().map(|layer| trees.layer(*layer))).collect();
        let (upper, work) = (place.path().join("upper"), place.path().join("work"));
        overlay = Some(Overlay::mount(&lowers, Some((&upper, &work)), &merged)?);
    } else if !story.layers.is_empty() {
        return Err(Error::new(
            Kind::Unsupported,
            "the tree lies upon others, and there are no overlays here any more",
        )
        .hint("build again: it fails with a tree of its own"));
    } else {
        overlay = None;
        fs::remove_dir_all(&merged)?;
        super::tree::copy(&own, &merged, ground)?;
    }
    let sandbox = Sandbox::new(&merged)
        .cancel(&cancel)
        .network(order.network)
        .processes(order.bounds.processes)
        .floor(place.path(), order.bounds.disk_floor);
    let exit = match &order.terminal {
        Some(terminal) => sandbox
            .shell(&["/bin/sh".to_owned()], terminal)
            .map(|exit| (exit, Vec::new()))
            .context(|| "cannot open a shell"),
        None => sandbox.run(&order.command, &port.progress()).map(|report| (report.exit, report.tail)),
    };
    drop(overlay);
    exit
}
