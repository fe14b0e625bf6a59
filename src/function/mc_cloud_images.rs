//! `mc_cloud_images.*`, the Docker side: names and arguments of the module castoff succeeds, none of its faults.

use std::path::Path;

use super::image::{ACLS, CHANGES, COMPRESSION, IDMAP, KEEP_BASE, KEEP_OLD, LAYERS, LIVE, TMPDIR, own_place, request};
use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::PackRequest;
use crate::engine::lxc::LxcContainer;
use crate::engine::rebuild::{self, RebuildRequest, Rebuilt, RefreshRequest};
use crate::engine::report::Report;
use crate::engine::{self, Surroundings, acls, adopt, pack};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::vocab::{Key, Reference, Value};

const IMAGE: Argument = Argument::required("image", Accepts::Reference, "Image to work on");
const DESTINATION: Argument = Argument::optional(
    "destination_image",
    Accepts::Reference,
    Default::Null,
    "Where the result goes; null: the image's own name",
);
const REFRESH: Argument = Argument::optional(
    "refresh",
    Accepts::Bool,
    Default::Null,
    "Run the refresh script first; null: where the image carries it or script= is given, else skipped and reported",
);
const PACKED: Argument = Argument::optional(
    "pack",
    Accepts::Bool,
    Default::Bool(true),
    "Merge the result into one layer; a refreshed image always is",
);
const SCRIPT: Argument = Argument::optional(
    "script",
    Accepts::Path,
    Default::Null,
    "File of this host to run inside as the refresh script; null: the image's own makina-states procedure",
);
const SNAPSHOT: Argument = Argument::optional(
    "snapshot",
    Accepts::Bool,
    Default::Bool(true),
    "Run the image's /sbin/makinastates-snapshot.sh after its own refresh, where it has one; script= does as it likes",
);
const SHELL: Argument = Argument::optional(
    "shell",
    Accepts::Text,
    Default::Null,
    "Interpreter of the refresh script; null: bash where the image has it, else sh",
);
const NETWORK: Argument =
    Argument::optional("network", Accepts::Bool, Default::Bool(true), "Whether the refresh script reaches the network");
const COMMAND: Argument = Argument::optional(
    "command",
    Accepts::Text,
    Default::Text("/sbin/init"),
    "Accepted for the callers of the original; the container only waits while the script runs",
);
const FORCE: Argument = Argument::optional(
    "force",
    Accepts::Bool,
    Default::Bool(false),
    "Accepted for the callers of the original, which reused half-written tars; here nothing stale is ever reused",
);
const FROM_ROOTFS: &str = "Make a Docker image of a root filesystem, with every POSIX ACL intact.

`rootfs` is a directory, a tar, or any image reference. A directory of an LXC container is read with its idmap, and
refused while the container runs unless live=True. The image gets the tree's architecture, and /sbin/init as its
command if the tree has one; `changes` says otherwise.

    castoff call mc_cloud_images.build_docker_from_rootfs group/name:1 /var/lib/lxc/name/rootfs";

const PACK: &str = "Merge a Docker image into one layer (layers=2: content, then what has ACLs), POSIX ACLs intact.

    castoff call mc_cloud_images.pack_docker group/name:1
    castoff call mc_cloud_images.pack_docker docker-archive:in.tar destination_image=docker-archive:out.tar";

const REFRESH_DOC: &str = "Run the refresh script in an image and keep what it changed, ACLs included.

On the Docker engine it runs in a container and the container's own tree is read (docker commit would lose ACLs), so
the engine must be on this host. On the embedded store it runs in a sandbox. Skipped and reported where there is
nothing to run.

    castoff call mc_cloud_images.refresh_ms_docker group/name:1 script=/root/refresh.sh";

const BACKUP: &str = "Write down every ACL of an image as getfacl does, in a file of this host or in the result.

    castoff call mc_cloud_images.backup_acls_from_docker group/name:1 file=/root/acls.txt";

const APPLY: &str = "Put ACLs back that an image lost, from its own /acls.txt or from a file of this host.

Repairs images that the original procedure damaged: names are resolved through the image's own passwd and group, the
group bits that had become the mask are corrected by the ACL, nothing is run.

    castoff call mc_cloud_images.apply_acls_to_docker group/name:1";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "mc_cloud_images.build_docker_from_rootfs",
        FROM_ROOTFS,
        &[
            Argument::required("image", Accepts::Reference, "Name, or reference, of the image to make"),
            Argument::required("rootfs", Accepts::Tree, "Root filesystem: directory, tar file or image reference"),
            FORCE,
            ACLS,
            REFRESH,
            PACKED,
            SCRIPT,
            SNAPSHOT,
            SHELL,
            NETWORK,
            LIVE,
            IDMAP,
            LAYERS,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        build_docker_from_rootfs,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.build_docker_from_container",
        "Make a Docker image of an LXC container's root filesystem; see build_docker_from_rootfs.\n\n    castoff call mc_cloud_images.build_docker_from_container group/name:1 mycontainer",
        &[
            Argument::required("image", Accepts::Reference, "Name, or reference, of the image to make"),
            Argument::required("container", Accepts::Text, "Name of the LXC container"),
            FORCE,
            ACLS,
            REFRESH,
            PACKED,
            SCRIPT,
            SNAPSHOT,
            SHELL,
            NETWORK,
            LIVE,
            IDMAP,
            LAYERS,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        build_docker_from_container,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.docker_from_tar",
        "Make a Docker image of a root filesystem tar, its ACLs (binary or text records) intact.\n\n    castoff call mc_cloud_images.docker_from_tar group/name:1 /root/rootfs.tar",
        &[
            Argument::required("image", Accepts::Reference, "Name, or reference, of the image to make"),
            Argument::required("tar", Accepts::Tree, "Root filesystem tar: bare, gzip or zstd"),
            Argument::optional(
                "pack",
                Accepts::Bool,
                Default::Null,
                "Accepted for the callers of the original; the result always has one layer",
            ),
            ACLS,
            LAYERS,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        docker_from_tar,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.pack_docker",
        PACK,
        &[IMAGE, DESTINATION, ACLS, TMPDIR, LAYERS, KEEP_BASE, CHANGES, COMPRESSION, KEEP_OLD],
        pack_docker,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.rebuild_ms_docker",
        "Refresh an image, then pack what came of it; see refresh_ms_docker and pack_docker.\n\n    castoff call mc_cloud_images.rebuild_ms_docker group/name:1",
        &[
            IMAGE,
            DESTINATION,
            ACLS,
            REFRESH,
            PACKED,
            SCRIPT,
            SNAPSHOT,
            SHELL,
            COMMAND,
            NETWORK,
            LAYERS,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        rebuild_ms_docker,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.refresh_ms_docker",
        REFRESH_DOC,
        &[
            IMAGE,
            DESTINATION,
            PACKED,
            ACLS,
            SNAPSHOT,
            SHELL,
            COMMAND,
            SCRIPT,
            REFRESH,
            NETWORK,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        refresh_ms_docker,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.backup_acls_from_docker",
        BACKUP,
        &[
            IMAGE,
            Argument::optional("file", Accepts::Path, Default::Null, "File to write; null: the text is in the result"),
            TMPDIR,
        ],
        backup_acls_from_docker,
    )
    .long(),
    Function::changes(
        "mc_cloud_images.apply_acls_to_docker",
        APPLY,
        &[
            IMAGE,
            DESTINATION,
            Argument::optional(
                "file",
                Accepts::Path,
                Default::Null,
                "getfacl -R output; null: the image's own /acls.txt",
            ),
            LAYERS,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
        ],
        apply_acls_to_docker,
    )
    .long(),
];

/// The original prefixes nothing: a path is a directory or a tar file, whatever else is a reference.
fn rootfs_reference(text: &str) -> Result<Reference> {
    let path = Path::new(text);
    if !path.is_absolute() && !text.starts_with("./") && !text.starts_with("../") {
        return match text.parse() {
            Ok(Reference::Default(_)) | Err(_) if host::fs::exists(path)? => of_path(path),
            other => other,
        };
    }
    of_path(path)
}

fn of_path(path: &Path) -> Result<Reference> {
    match host::fs::metadata(path)? {
        Some(metadata) if metadata.is_dir() => Ok(Reference::Dir(path.to_owned())),
        Some(_) => Ok(Reference::Tar(path.to_owned())),
        None => Err(Error::new(Kind::NotFound, format!("there is no root filesystem at `{}`", path.display()))
            .hint("name a directory or a tar file")),
    }
}

fn refresh_request(call: &Call) -> RefreshRequest {
    RefreshRequest {
        wanted: call.maybe_boolean("refresh"),
        script: call.maybe_path("script"),
        snapshot: call.maybe_boolean("snapshot").unwrap_or(true),
        shell: call.maybe_text("shell").map(str::to_owned),
        network: call.maybe_boolean("network").unwrap_or(true),
    }
}

fn rebuild(call: &Call, source: Reference, destination: Reference) -> Result<RebuildRequest> {
    Ok(RebuildRequest {
        pack: request(call, source, destination)?,
        refresh: refresh_request(call),
        merge: call.maybe_boolean("pack").unwrap_or(true),
    })
}

/// Runs it, or says what it would do; `shape` puts the original's members into the report.
fn run_rebuild(
    call: &Call,
    context: &Context,
    request: &RebuildRequest,
    shape: fn(&RebuildRequest, &Rebuilt) -> Vec<(&'static str, Value)>,
) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    if call.test {
        return rebuild::preview(request, &surroundings);
    }
    let rebuilt = rebuild::rebuild(request, &surroundings)?;
    let mut value = with_tag(&rebuilt.report);
    if let Value::Map(members) = &mut value {
        members.extend(shape(request, &rebuilt).into_iter().map(|(key, value)| (Key::from(key), value)));
    }
    Ok(value)
}

/// The report with the name the image now has, as every function of the original returned it.
fn with_tag(report: &Report) -> Value {
    let mut value = report.to_value();
    if let (Value::Map(members), Some(tag)) = (&mut value, report.names.first()) {
        members.insert("tag".into(), tag.clone().into());
    }
    value
}

/// `build_docker_*`: `tar` and `from_tar` where a tar was read, and `rebuild`.
fn as_built(request: &RebuildRequest, rebuilt: &Rebuilt) -> Vec<(&'static str, Value)> {
    let mut members = Vec::new();
    if let Reference::Tar(file) = &request.pack.source {
        members.push(("tar", file.display().to_string().into()));
        members.push(("from_tar", Value::map([("raw", rebuilt.report.image_id.map(|id| id.to_string()))])));
    }
    members.push(("rebuild", Value::map([("refresh", rebuilt.refresh.clone()), ("pack", rebuilt.pack())])));
    members
}

/// `rebuild_ms_docker` and `refresh_ms_docker`: `refresh` and `pack`.
fn as_rebuilt(_: &RebuildRequest, rebuilt: &Rebuilt) -> Vec<(&'static str, Value)> {
    vec![("refresh", rebuilt.refresh.clone()), ("pack", rebuilt.pack())]
}

fn build_docker_from_rootfs(call: &Call, context: &Context) -> Result<Value> {
    let source = rootfs_reference(call.text("rootfs")?)?;
    let mut request = rebuild(call, source, call.reference("image")?)?;
    adopt::adopt_rootfs(&mut request.pack, call.boolean("live"))?;
    run_rebuild(call, context, &request, as_built)
}

fn build_docker_from_container(call: &Call, context: &Context) -> Result<Value> {
    let container = LxcContainer::find(call.text("container")?, &context.config.lxc_path)?;
    let source = Reference::Dir(container.rootfs.clone());
    let mut request = rebuild(call, source, call.reference("image")?)?;
    adopt::adopt_container(&mut request.pack, &container, call.boolean("live"))?;
    run_rebuild(call, context, &request, as_built)
}

fn docker_from_tar(call: &Call, context: &Context) -> Result<Value> {
    let source = rootfs_reference(call.text("tar")?)?;
    let request = request(call, source, call.reference("image")?)?;
    run_pack(call, context, &request)
}

fn run_pack(call: &Call, context: &Context, request: &PackRequest) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    if call.test {
        return pack::preview(request, &surroundings);
    }
    Ok(with_tag(&engine::pack(request, &surroundings)?))
}

fn destination(call: &Call) -> Result<Reference> {
    match call.maybe_reference("destination_image")? {
        Some(destination) => Ok(destination),
        None => own_place(&call.reference("image")?, "destination_image"),
    }
}

fn pack_docker(call: &Call, context: &Context) -> Result<Value> {
    let request = request(call, call.reference("image")?, destination(call)?)?;
    run_pack(call, context, &request)
}

fn rebuild_ms_docker(call: &Call, context: &Context) -> Result<Value> {
    let request = rebuild(call, call.reference("image")?, destination(call)?)?;
    run_rebuild(call, context, &request, as_rebuilt)
}

fn refresh_ms_docker(call: &Call, context: &Context) -> Result<Value> {
    rebuild_ms_docker(call, context)
}

fn backup_acls_from_docker(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let tmpdir = call.maybe_path("tmpdir");
    acls::backup(
        &call.reference("image")?,
        call.maybe_path("file").as_deref(),
        tmpdir.as_deref(),
        call.test,
        &surroundings,
    )
}

fn apply_acls_to_docker(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let request = request(call, call.reference("image")?, destination(call)?)?;
    acls::apply(&request, call.maybe_path("file").as_deref(), call.test, &surroundings)
}
