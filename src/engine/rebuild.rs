//! Refresh, then pack: a script runs inside an image, and the tree it leaves becomes the new image with its ACLs.
//!
//! On the Docker engine the script runs in a container whose merged root is read from this host; on anything else the
//! tree is unpacked below the scratch folder and the script runs there in a sandbox.

use std::path::{Path, PathBuf};

use super::configuration::look_up;
use super::docker::{RefreshSpec, Refreshed};
use super::lxc::LxcContainer;
use super::merge::merge;
use super::open::Opened;
use super::pack::{self, PackRequest, Prepared};
use super::report::Report;
use super::surroundings::Surroundings;
use super::tree_sink;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::ImageConfig;
use crate::rootfs::idmap::IdMap;
use crate::sandbox::Sandbox;
use crate::vocab::{EngineImage, Key, Map, Reference, Value};

/// What to run inside, and when.
#[derive(Clone, Debug)]
pub struct RefreshRequest {
    /// True: it must run; false: it must not; none: where there is something to run.
    pub wanted: Option<bool>,
    /// A file of this host to run instead of the image's own procedure.
    pub script: Option<PathBuf>,
    /// Whether the image's snapshot script runs after it.
    pub snapshot: bool,
    /// The interpreter inside the image.
    pub shell: String,
}

/// A refresh and a pack.
#[derive(Clone, Debug)]
pub struct RebuildRequest {
    /// What to pack, where to, and how.
    pub pack: PackRequest,
    /// What to run before.
    pub refresh: RefreshRequest,
    /// Whether the result is merged into one layer when nothing was run.
    pub merge: bool,
    /// Whether a running container may be read.
    pub live: bool,
}

/// What an image carries when makina-states can refresh it.
const BOOT_SALT: &str = "srv/makina-states/_scripts/boot-salt.sh";
/// What an image carries when it can be made impersonal.
const SNAPSHOT: &str = "sbin/makinastates-snapshot.sh";

/// The refresh of an image that carries makina-states: its tree and modules, then every project's installation.
const MAKINA_STATES: &str = "\
set -e
/srv/makina-states/_scripts/boot-salt.sh -C --refresh-modules
/srv/makina-states/_scripts/boot-salt.sh -C
for project in /srv/projects/*; do
    if [ -d \"$project\" ]; then
        salt-call --local mc_project.deploy \"${project##*/}\" only=install,fixperms
    fi
done
";

/// Takes over what an LXC container's configuration says of its root filesystem; a running one is refused.
pub fn adopt_container(request: &mut RebuildRequest, container: &LxcContainer) -> Result<()> {
    container.existing_rootfs()?;
    if let Some(evidence) = container.running()? {
        if !request.live {
            return Err(Error::new(
                Kind::Conflict,
                format!("the container `{}` is running: {evidence}", container.name),
            )
            .hint(format!(
                "stop it (`lxc-stop -n {}`), or accept a tree that changes while it is read: live=True",
                container.name
            )));
        }
        request.pack.notes.insert("live".into(), format!("read while the container ran: {evidence}").into());
    }
    let mut notes = Map::new();
    notes.insert("name".into(), container.name.clone().into());
    if !container.includes.is_empty() {
        notes.insert("includes_not_read".into(), Value::list(container.includes.clone()));
    }
    request.pack.notes.insert("container".into(), Value::Map(notes));
    if request.pack.idmap.is_none() {
        request.pack.idmap = IdMap::parse_lxc_config(&container.config)?;
    }
    Ok(())
}

/// The refresh that will run: its words for a person, and its script.
struct Script {
    what: String,
    bytes: Vec<u8>,
}

/// Why nothing runs.
struct Skipped(String);

fn script(
    request: &RebuildRequest,
    has: &dyn Fn(&str) -> Result<bool>,
) -> Result<std::result::Result<Script, Skipped>> {
    let refresh = &request.refresh;
    if refresh.wanted == Some(false) {
        return Ok(Err(Skipped("refresh=False".to_owned())));
    }
    let (what, mut bytes) = match &refresh.script {
        Some(path) => (format!("`{}`", path.display()), host::fs::read_at_most(path, 16 << 20)?),
        None if has(BOOT_SALT)? => (format!("the image's own /{BOOT_SALT}"), MAKINA_STATES.as_bytes().to_vec()),
        None if refresh.wanted == Some(true) => {
            return Err(Error::new(
                Kind::NotFound,
                format!("there is nothing to refresh `{}` with: it has no /{BOOT_SALT}", request.pack.source),
            )
            .hint("name a script: script=FILE"));
        }
        None => return Ok(Err(Skipped(format!("the image has no /{BOOT_SALT} and no script= was given")))),
    };
    if refresh.script.is_none() && refresh.snapshot && has(SNAPSHOT)? {
        bytes.extend_from_slice(format!("/bin/sh /{SNAPSHOT}\n").as_bytes());
    }
    Ok(Ok(Script { what, bytes }))
}

/// Refreshes where there is something to run, then packs; the result has both reports under `rebuild`.
pub fn rebuild(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let (refresh, report) = run(request, surroundings)?;
    let mut members = match report.to_value() {
        Value::Map(members) => members,
        other => Map::from_iter([(Key::from("pack"), other)]),
    };
    let pack = Value::map([
        ("image_id", report.image_id.map(|id| id.to_string()).into()),
        ("layers", Value::list(report.layers.iter().map(ToString::to_string))),
    ]);
    members.insert("rebuild".into(), Value::map([("refresh", refresh), ("pack", pack)]));
    members.insert("tag".into(), report.names.first().cloned().into());
    Ok(Value::Map(members))
}

fn run(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<(Value, Report)> {
    let source = surroundings.resolve(&request.pack.source)?;
    let prepared = pack::prepare(&request.pack, surroundings, merge)?;
    let has = |path: &str| Ok(look_up(&prepared.merged, path.as_bytes())?.is_some());
    let script = match script(request, &has)? {
        Err(Skipped(why)) => {
            let skipped = Value::map([("skipped", Value::from(why))]);
            let image = prepared.opened.image().is_some();
            let report = if request.merge || !image {
                prepared.write(&request.pack, surroundings)?
            } else {
                copy(request, surroundings)?
            };
            return Ok((skipped, report));
        }
        Ok(script) => script,
    };
    match &source {
        Reference::DockerDaemon(image) => in_container(request, image, &prepared.opened, &script, surroundings),
        _ => in_sandbox(request, &prepared, &script, surroundings),
    }
}

/// The image as it is, under the destination's name.
fn copy(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<Report> {
    super::copy::copy(
        &super::copy::CopyRequest {
            source: request.pack.source.clone(),
            destination: request.pack.destination.clone(),
            compression: request.pack.compression,
            tmpdir: request.pack.tmpdir.clone(),
            keep_old: request.pack.keep_old,
        },
        surroundings,
    )
}

/// A pack of the refreshed tree that gets the image's own configuration.
fn pack_tree(request: &RebuildRequest, root: PathBuf, config: Option<ImageConfig>) -> PackRequest {
    PackRequest { source: Reference::Dir(root), idmap: None, keep_base: None, config, ..request.pack.clone() }
}

fn in_container(
    request: &RebuildRequest,
    image: &EngineImage,
    opened: &Opened,
    script: &Script,
    surroundings: &Surroundings<'_>,
) -> Result<(Value, Report)> {
    let docker = surroundings.docker()?;
    if !docker.is_local() && request.pack.acls {
        return Err(Error::new(
            Kind::Unsupported,
            "the Docker engine is on another host: ACLs of its containers cannot be read",
        )
        .hint("run castoff on the engine's host, or accept the loss with acls=False"));
    }
    let spec = RefreshSpec {
        image: image.clone(),
        script: Some(script.bytes.clone()),
        command: vec![request.refresh.shell.clone()],
        network: true,
        capabilities: Vec::new(),
        environment: std::collections::BTreeMap::new(),
    };
    let config = opened.image().map(|image| image.config.clone());
    docker.refresh_tree(&spec, surroundings.progress, |refreshed: &Refreshed| {
        let report = pack::pack(&pack_tree(request, refreshed.root.clone(), config.clone()), surroundings)?;
        let value = Value::map([
            ("ran", Value::from(script.what.clone())),
            ("in", Value::from("a container of the Docker engine")),
            ("exit", Value::Int(refreshed.command.exit.into())),
            ("seconds", refreshed.command.seconds.into()),
            ("output", Value::list(refreshed.command.tail.clone())),
            ("engine_stubs_removed", Value::list(refreshed.stubs.clone())),
            ("volumes_not_kept", Value::list(refreshed.volumes.clone())),
        ]);
        Ok((value, report))
    })
}

/// A folder of ours that goes when it is dropped.
struct Workshop(PathBuf);

impl Drop for Workshop {
    fn drop(&mut self) {
        if let Err(error) = host::fs::remove_dir_all(&self.0) {
            tracing::warn!("{error}");
        }
    }
}

fn in_sandbox(
    request: &RebuildRequest,
    prepared: &Prepared,
    script: &Script,
    surroundings: &Surroundings<'_>,
) -> Result<(Value, Report)> {
    let opened = &prepared.opened;
    let scratch = &surroundings.scratch(request.pack.tmpdir.as_deref())?;
    sweep_workshops(scratch)?;
    let workshop = Workshop(scratch.join(format!("refresh-{}", std::process::id())));
    host::fs::create_dir_all(&workshop.0, 0o700)?;
    let _lock = host::fs::Lock::exclusive(&workshop.0.join("lock"))?;
    let root = workshop.0.join("root");
    tree_sink::to_directory(&root, &prepared.merged, surroundings)?;
    let outcome = Sandbox::new(&root).network(true).run_script(
        &script.bytes,
        std::slice::from_ref(&request.refresh.shell),
        surroundings.progress,
    );
    let ran = outcome.context(|| format!("the refresh of `{}` failed", request.pack.source))?;
    if ran.exit != 0 {
        return Err(Error::new(
            Kind::Failed,
            format!("the refresh of `{}` failed: {} exited with {}", request.pack.source, script.what, ran.exit),
        )
        .caused_by(ran.tail.join("\n")));
    }
    let config = opened.image().map(|image| image.config.clone());
    let mut report = pack::pack(&pack_tree(request, root, config), surroundings)?;
    report.source = opened.reference.to_string();
    let value = Value::map([
        ("ran", Value::from(script.what.clone())),
        ("in", Value::from("a sandbox")),
        ("exit", Value::Int(ran.exit.into())),
        ("seconds", ran.seconds.into()),
        ("output", Value::list(ran.tail)),
    ]);
    Ok((value, report))
}

/// Removes what killed runs left.
fn sweep_workshops(scratch: &Path) -> Result<()> {
    for name in host::fs::list(scratch)? {
        let path = scratch.join(&name);
        if !name.to_string_lossy().starts_with("refresh-")
            || host::fs::link_metadata(&path)?.is_none_or(|m| !m.is_dir())
        {
            continue;
        }
        if let Some(_dead) = host::fs::Lock::try_exclusive(&path.join("lock"))? {
            host::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// What a rebuild would do, without doing it.
pub fn preview(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let mut value = pack::preview(&request.pack, surroundings)?;
    let refresh = match (&request.refresh.wanted, &request.refresh.script) {
        (Some(false), _) => "none: refresh=False".to_owned(),
        (_, Some(script)) => format!("`{}` would run inside", script.display()),
        (_, None) => format!("/{BOOT_SALT} would run inside, if the image carries it"),
    };
    if let Value::Map(members) = &mut value
        && let Some(Value::Map(changes)) = members.get_mut(&Key::from("changes"))
    {
        changes.insert("refresh".into(), refresh.into());
        changes.extend(request.pack.notes.clone());
    }
    Ok(value)
}
