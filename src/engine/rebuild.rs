//! Refresh, then pack: a script runs inside an image, and the tree it leaves becomes the new image with its ACLs.
//!
//! On the Docker engine the script runs in a container whose merged root is read from this host; on anything else the
//! tree is unpacked below the scratch folder and the script runs there in a sandbox.

use std::path::PathBuf;

use super::configuration::look_up;
use super::docker::{Docker, RefreshSpec, Refreshed};
use super::merge::merge;
use super::pack::{self, Prepared};
use super::report::{Previous, Report};
use super::request::PackRequest;
use super::sink;
use super::surroundings::Surroundings;
use super::tree_sink;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::ImageConfig;
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
    /// The interpreter inside the image; none: bash where the image has it, else sh.
    pub shell: Option<String>,
    /// Whether what runs reaches the network.
    pub network: bool,
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
}

/// The most bytes of a script.
const SCRIPT_LIMIT: u64 = 16 << 20;
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

/// The refresh that will run: its words for a person, and its script.
struct Script {
    what: String,
    shell: String,
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
        Some(path) => (format!("`{}`", path.display()), host::fs::read_at_most(path, SCRIPT_LIMIT)?),
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
    let shell = match &refresh.shell {
        Some(shell) => shell.clone(),
        None if has("bin/bash")? => "bash".to_owned(),
        None => "sh".to_owned(),
    };
    Ok(Ok(Script { what, shell, bytes }))
}

/// What a rebuild did.
pub struct Rebuilt {
    /// What ran and what it said, or why nothing ran.
    pub refresh: Value,
    /// The pack of what came of it.
    pub report: Report,
}

impl Rebuilt {
    /// The new image in a few words, for callers who look for the original's `pack` member.
    pub fn pack(&self) -> Value {
        Value::map([
            ("image_id", self.report.image_id.map(|id| id.to_string()).into()),
            ("layers", Value::list(self.report.layers.iter().map(ToString::to_string))),
        ])
    }
}

/// Refreshes where there is something to run, then packs.
pub fn rebuild(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<Rebuilt> {
    let source = surroundings.resolve(&request.pack.source)?;
    let must_run =
        request.refresh.wanted != Some(false) && (request.refresh.wanted.is_some() || request.refresh.script.is_some());
    if must_run {
        refuse_remote(request, &source, surroundings)?;
    }
    let prepared = pack::prepare(&request.pack, surroundings, merge)?;
    let has = |path: &str| Ok(look_up(&prepared.merged, path.as_bytes())?.is_some());
    let script = match script(request, &has)? {
        Err(Skipped(why)) => {
            let refresh = Value::map([("skipped", Value::from(why))]);
            let is_image = prepared.opened.image().is_some();
            let report = if request.merge || !is_image || !request.pack.changes.is_empty() {
                prepared.write(&request.pack, surroundings)?
            } else {
                copy(request, surroundings)?
            };
            return Ok(Rebuilt { refresh, report });
        }
        Ok(script) => script,
    };
    refuse_remote(request, &source, surroundings)?;
    match &source {
        Reference::DockerDaemon(image) => in_container(request, image, prepared, &script, surroundings),
        _ => in_sandbox(request, prepared, &script, surroundings),
    }
}

/// Refuses to lose ACLs silently: those in a container of an engine on another host cannot be read.
fn refuse_remote(request: &RebuildRequest, source: &Reference, surroundings: &Surroundings<'_>) -> Result<()> {
    if !matches!(source, Reference::DockerDaemon(_)) || !request.pack.acls || surroundings.docker()?.is_local() {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "the Docker engine is on another host: ACLs of its containers cannot be read")
        .hint("run castoff on the engine's host, or accept the loss with acls=False"))
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

/// A pack of what became of an image, which gets the image's own configuration.
fn pack_again(request: &RebuildRequest, source: Reference, config: Option<ImageConfig>) -> PackRequest {
    PackRequest { source, idmap: None, keep_base: None, config, ..request.pack.clone() }
}

/// The same for a tree that a container still holds: the engine does not give the container's image away yet, so
/// [`take_old_away`] does that later.
fn pack_held(
    request: &RebuildRequest,
    source: Reference,
    config: Option<ImageConfig>,
    surroundings: &Surroundings<'_>,
) -> Result<PackRequest> {
    let in_engine = matches!(surroundings.resolve(&request.pack.destination)?, Reference::DockerDaemon(_));
    Ok(PackRequest { keep_old: request.pack.keep_old || in_engine, ..pack_again(request, source, config) })
}

/// Removes the image that lost its name to a refreshed one, now that nothing holds it, if that is wanted.
fn take_old_away(
    request: &RebuildRequest,
    docker: &Docker,
    report: &mut Report,
    surroundings: &Surroundings<'_>,
) -> Result<()> {
    if let (false, Previous::Kept(old)) = (request.pack.keep_old, &report.previous)
        && matches!(surroundings.resolve(&request.pack.destination)?, Reference::DockerDaemon(_))
    {
        report.previous = sink::remove_old(docker, *old, surroundings.progress)?;
    }
    Ok(())
}

fn in_container(
    request: &RebuildRequest,
    image: &EngineImage,
    prepared: Prepared,
    script: &Script,
    surroundings: &Surroundings<'_>,
) -> Result<Rebuilt> {
    let docker = surroundings.docker()?;
    let spec = RefreshSpec {
        image: image.clone(),
        script: Some(script.bytes.clone()),
        command: vec![script.shell.clone()],
        network: request.refresh.network,
        capabilities: Vec::new(),
        environment: std::collections::BTreeMap::new(),
    };
    let (config, before) = prepared.into_findings();
    if !docker.is_local() {
        return committed(request, docker, &spec, (config, before), script, surroundings);
    }
    let (refresh, mut report) = docker.refresh_tree(&spec, surroundings.progress, |refreshed: &Refreshed| {
        let again = pack_held(request, Reference::Dir(refreshed.root.clone()), config.clone(), surroundings)?;
        let report = pack::pack(&again, surroundings)?;
        let ran = &refreshed.command;
        let mut value = ran_in("a container of the Docker engine", script, ran.exit, ran.seconds, &ran.tail);
        for (key, paths) in [("engine_stubs_removed", &refreshed.stubs), ("volumes_not_kept", &refreshed.volumes)] {
            if !paths.is_empty() {
                value.insert(key.into(), Value::list(paths.clone()));
            }
        }
        Ok((value, report))
    })?;
    take_old_away(request, docker, &mut report, surroundings)?;
    Ok(Rebuilt { refresh: Value::Map(refresh), report: report.after(before) })
}

/// The way of an engine on another host, without ACLs: the container is committed, and what the engine made of it is
/// packed and taken away again.
fn committed(
    request: &RebuildRequest,
    docker: &Docker,
    spec: &RefreshSpec,
    (config, before): (Option<ImageConfig>, Report),
    script: &Script,
    surroundings: &Surroundings<'_>,
) -> Result<Rebuilt> {
    let (id, ran) = docker.refresh_commit(spec, surroundings.progress)?;
    let image = EngineImage::Id(id);
    let again = pack_held(request, Reference::DockerDaemon(image.clone()), config, surroundings)?;
    let packed = pack::pack(&again, surroundings);
    // Its parent is the image that may just have lost its name, and the engine would take that along.
    let removed = docker.remove_alone(&image);
    let mut report = packed?.after(before);
    if let Err(error) = removed {
        report.warnings.push(format!("the engine keeps the intermediate image {id}: {error}"));
    }
    take_old_away(request, docker, &mut report, surroundings)?;
    report.warnings.push(
        "the engine committed the container: files that the script changed have times in whole seconds, no xattrs but \
         capabilities, and, where they had an ACL, its mask as group bits"
            .to_owned(),
    );
    let refresh = ran_in("a container of the Docker engine on another host", script, ran.exit, ran.seconds, &ran.tail);
    Ok(Rebuilt { refresh: Value::Map(refresh), report })
}

fn in_sandbox(
    request: &RebuildRequest,
    prepared: Prepared,
    script: &Script,
    surroundings: &Surroundings<'_>,
) -> Result<Rebuilt> {
    let scratch = &surroundings.scratch(request.pack.tmpdir.as_deref())?;
    host::fs::require_space(scratch, prepared.merged.flat.report.bytes_out)?;
    let workshop = host::fs::TempDir::inside(scratch)?;
    let root = workshop.path().join("root");
    tree_sink::to_directory(&root, &prepared.merged, surroundings)?;
    let (config, before) = prepared.into_findings();
    let ran = Sandbox::new(&root)
        .network(request.refresh.network)
        .run_script(&script.bytes, std::slice::from_ref(&script.shell), surroundings.progress)
        .context(|| format!("the refresh of `{}` failed", request.pack.source))?;
    if ran.exit != 0 {
        let failed = Error::new(
            Kind::Failed,
            format!("the refresh of `{}` failed: {} exited with {}", request.pack.source, script.what, ran.exit),
        );
        return Err(if ran.tail.is_empty() { failed } else { failed.caused_by(ran.tail.join("\n")) });
    }
    let report = pack::pack(&pack_again(request, Reference::Dir(root), config), surroundings)?;
    let refresh = ran_in("a sandbox", script, ran.exit.into(), ran.seconds, &ran.tail);
    Ok(Rebuilt { refresh: Value::Map(refresh), report: report.after(before) })
}

fn ran_in(place: &str, script: &Script, exit: i64, seconds: f64, output: &[String]) -> Map {
    let mut map = Map::new();
    map.insert("ran".into(), script.what.clone().into());
    map.insert("shell".into(), script.shell.clone().into());
    map.insert("in".into(), place.into());
    map.insert("exit".into(), exit.into());
    map.insert("seconds".into(), seconds.into());
    if !output.is_empty() {
        map.insert("output".into(), Value::list(output.to_vec()));
    }
    map
}

/// What a rebuild would do, without doing it.
pub fn preview(request: &RebuildRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let mut value = pack::preview(&request.pack, surroundings)?;
    let refresh = match (&request.refresh.wanted, &request.refresh.script) {
        (Some(false), _) => "none: refresh=False".to_owned(),
        (_, Some(script)) => {
            host::fs::read_at_most(script, SCRIPT_LIMIT)?;
            format!("`{}` would run inside", script.display())
        }
        (_, None) => format!("/{BOOT_SALT} would run inside, if the image carries it"),
    };
    if let Value::Map(members) = &mut value
        && let Some(Value::Map(changes)) = members.get_mut(&Key::from("changes"))
    {
        changes.insert("refresh".into(), refresh.into());
    }
    Ok(value)
}
