//! `image.*`: pack, verify, inspect, copy, list, remove, gc; every image argument takes any reference.

use super::forest_pull::{self, PLATFORM};
use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::{self, LayerCount, PackRequest, Surroundings, adopt};
use crate::error::{Error, Kind, Result};
use crate::oci::Compression;
use crate::rootfs::idmap::IdMap;
use crate::vocab::{Reference, Value};

pub(super) const ACLS: Argument = Argument::optional(
    "acls",
    Accepts::Bool,
    Default::Null,
    "Keep POSIX ACLs (null: yes); False drops them and sets the group bits to group::",
);
pub(super) const TMPDIR: Argument = Argument::optional(
    "tmpdir",
    Accepts::Path,
    Default::Null,
    "Existing folder for compressed layers and engine streams while they are read; default: below the state folder",
);
pub(super) const LAYERS: Argument = Argument::optional(
    "layers",
    Accepts::Int,
    Default::Int(1),
    "1, or 2: content first, then the entries that have ACLs with all their parents",
);
pub(super) const KEEP_BASE: Argument = Argument::optional(
    "keep_base",
    Accepts::Reference,
    Default::Null,
    "Image whose layers stay as they are: only what lies above them is packed",
);
pub(super) const KEEP_OLD: Argument = Argument::optional(
    "keep_old",
    Accepts::Bool,
    Default::Bool(true),
    "Keep the image that loses the name until image.gc; False removes it once the new one is confirmed",
);
pub(super) const CHANGES: Argument = Argument::optional(
    "changes",
    Accepts::Items,
    Default::Null,
    "Configuration changes as docker import takes them: ['CMD [\"/sbin/init\"]', 'ENV A=b']",
);
pub(super) const COMPRESSION: Argument = Argument::optional(
    "compression",
    Accepts::Text,
    Default::Null,
    "none, gzip or zstd for layers in files and the store; engines always get bare layers",
);
pub(super) const IDMAP: Argument = Argument::optional(
    "idmap",
    Accepts::Text,
    Default::Null,
    "How a dir: tree is shifted, as `u:0:100000:65536,g:0:100000:65536` (container id, host id, count)",
);

pub(super) const LIVE: Argument = Argument::optional(
    "live",
    Accepts::Bool,
    Default::Bool(false),
    "Read the root filesystem of a running container all the same; the report says so",
);

const PACK: &str = "Merge an image, or a root filesystem, into one layer with every ACL intact.

The tree a container would see is kept exactly: owners, modes, times, hard links, devices, xattrs, capabilities and
POSIX ACLs; the image configuration survives byte for byte except its layers and history. Nothing is unpacked, no
container is started, no root is needed. The destination's name moves only when the new image is whole.

    castoff call image.pack docker-archive:in.tar docker-archive:out.tar
    castoff call image.pack dir:/srv/rootfs store:group/name:1 changes='CMD [\"/sbin/init\"]'";

const VERIFY: &str = "Compare two images or trees entry by entry, ACLs included, and say each difference.

Types, contents, modes, owners, times (nanoseconds), link groups, device numbers, xattrs, capabilities, access and
default ACLs. The result is False when anything differs.

    castoff call image.verify dir:/srv/rootfs store:group/name:1";

const INSPECT: &str = "Show an image: configuration, layers, names, and what its merged tree holds.

    castoff call image.inspect store:group/name:1";

const COPY: &str = "Copy an image as it is: same layers, same configuration, same image ID.

A root filesystem (dir:, tar:) becomes an image of one layer; an image copied to dir: or tar: becomes its merged tree.

    castoff call image.copy docker-daemon:group/name:1 oci:layout:1";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "image.pack",
        PACK,
        &[
            Argument::required("source", Accepts::Reference, "Image or root filesystem to pack"),
            Argument::optional(
                "destination",
                Accepts::Reference,
                Default::Null,
                "Where the result goes; null: the source's own name",
            ),
            ACLS,
            LAYERS,
            KEEP_BASE,
            CHANGES,
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
            IDMAP,
            LIVE,
        ],
        pack,
    )
    .long(),
    Function::reads(
        "image.verify",
        VERIFY,
        &[
            Argument::required("left", Accepts::Reference, "One image or tree"),
            Argument::required("right", Accepts::Reference, "The other"),
            TMPDIR,
            IDMAP,
        ],
        verify,
    )
    .long(),
    Function::reads(
        "image.inspect",
        INSPECT,
        &[
            Argument::required("image", Accepts::Reference, "Image or tree to look at"),
            Argument::optional(
                "entries",
                Accepts::Bool,
                Default::Bool(false),
                "List every entry of the merged tree as well",
            ),
            TMPDIR,
            PLATFORM,
        ],
        inspect,
    )
    .long(),
    Function::changes(
        "image.copy",
        COPY,
        &[
            Argument::required("source", Accepts::Reference, "What to copy"),
            Argument::required("destination", Accepts::Reference, "Where to"),
            COMPRESSION,
            TMPDIR,
            KEEP_OLD,
            PLATFORM,
        ],
        copy,
    )
    .long(),
    Function::reads(
        "image.list",
        "List the images of the embedded store, untagged ones among them, and those of the Docker engine if it answers.",
        &[Argument::optional("engine", Accepts::Text, Default::Null, "store or docker-daemon; null: both")],
        list,
    ),
    Function::changes(
        "image.remove",
        "Take a name away from an image of the store or the engine; the store keeps the untagged image until image.gc.",
        &[Argument::required(
            "image",
            Accepts::Reference,
            "Image, by name or by ID (an ID removes the image with all its names)",
        )],
        remove,
    ),
    Function::changes(
        "image.gc",
        "Remove untagged images, blobs nobody names and leftovers of killed runs from the embedded store.\n\nHonours store.keep (untagged images kept, newest first) and store.max_size (bytes). Results of build steps that nobody used \
         for build.keep_days go too, and the oldest of them while they take more than build.max_size.",
        &[
            Argument::optional(
                "max_size",
                Accepts::Text,
                Default::Null,
                "Instead of store.max_size, for example 20GiB",
            ),
            Argument::optional("keep", Accepts::Int, Default::Null, "Instead of store.keep"),
        ],
        gc,
    )
    .long(),
];

/// Where the result of a source goes when nobody says: to the source's own name.
pub(super) fn own_place(source: &Reference, argument: &str) -> Result<Reference> {
    match source {
        Reference::Dir(_) | Reference::Tar(_) => Err(Error::new(
            Kind::Usage,
            format!("`{source}` is a root filesystem and has no image name: `{argument}` is required"),
        )),
        image => Ok(image.clone()),
    }
}

/// `compression` as a word; null means bare layers.
pub(super) fn compression(call: &Call) -> Result<Compression> {
    match call.maybe_text("compression") {
        None | Some("none") => Ok(Compression::None),
        Some("gzip") => Ok(Compression::Gzip),
        Some("zstd") => Ok(Compression::Zstd),
        Some(other) => Err(Error::new(Kind::Usage, format!("{}: `compression` is `{other}`", call.function))
            .hint("it may be none, gzip or zstd")),
    }
}

/// `layers` as a number that makes sense.
pub(super) fn layers(call: &Call) -> Result<LayerCount> {
    match call.maybe_integer("layers") {
        None | Some(1) => Ok(LayerCount::One),
        Some(2) => Ok(LayerCount::Two),
        Some(other) => {
            Err(Error::new(Kind::Usage, format!("{}: `layers` is {other}", call.function)).hint("it may be 1 or 2"))
        }
    }
}

/// The request that the shared arguments make of a source and a destination.
pub(super) fn request(call: &Call, source: Reference, destination: Reference) -> Result<PackRequest> {
    Ok(PackRequest {
        source,
        destination,
        acls: call.maybe_boolean("acls").unwrap_or(true),
        layers: layers(call)?,
        keep_base: call.maybe_reference("keep_base")?,
        changes: call.texts("changes")?,
        compression: compression(call)?,
        tmpdir: call.maybe_path("tmpdir"),
        keep_old: call.maybe_boolean("keep_old").unwrap_or(true),
        idmap: call.maybe_text("idmap").map(IdMap::parse).transpose()?,
        ..PackRequest::default()
    })
}

fn pack(call: &Call, context: &Context) -> Result<Value> {
    let source = call.reference("source")?;
    let destination = match call.maybe_reference("destination")? {
        Some(destination) => destination,
        None => own_place(&source, "destination")?,
    };
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let mut request = request(call, source, destination)?;
    adopt::adopt_rootfs(&mut request, call.boolean("live"))?;
    if call.test {
        return engine::pack::preview(&request, &surroundings);
    }
    Ok(engine::pack(&request, &surroundings)?.to_value())
}

fn verify(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let idmap = call.maybe_text("idmap").map(IdMap::parse).transpose()?;
    let tmpdir = call.maybe_path("tmpdir");
    engine::verify::verify(
        &call.reference("left")?,
        &call.reference("right")?,
        idmap.as_ref(),
        tmpdir.as_deref(),
        &surroundings,
    )
}

fn inspect(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = forest_pull::surroundings(call, context)?;
    let tmpdir = call.maybe_path("tmpdir");
    engine::inspect::inspect(&call.reference("image")?, call.boolean("entries"), tmpdir.as_deref(), &surroundings)
}

fn copy(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = forest_pull::surroundings(call, context)?;
    let request = engine::copy::CopyRequest {
        source: call.reference("source")?,
        destination: call.reference("destination")?,
        compression: compression(call)?,
        tmpdir: call.maybe_path("tmpdir"),
        keep_old: call.boolean("keep_old"),
    };
    if call.test {
        return engine::copy::preview(&request, &surroundings);
    }
    Ok(engine::copy::copy(&request, &surroundings)?.to_value())
}

fn list(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    engine::inventory::list(call.maybe_text("engine"), &surroundings)
}

fn remove(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    engine::inventory::remove(&call.reference("image")?, call.test, &surroundings)
}

fn size(text: &str) -> Result<u64> {
    crate::config::parse_size(text).map_err(|why| Error::new(Kind::Usage, format!("image.gc: `max_size`: {why}")))
}

fn gc(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let max_size = match call.maybe_text("max_size") {
        Some(text) => Some(size(text)?),
        None => context.config.store_max_size,
    };
    let keep = match call.maybe_integer("keep") {
        None => context.config.store_keep,
        Some(keep) => u32::try_from(keep)
            .map_err(|error| Error::new(Kind::Usage, format!("image.gc: `keep` is {keep}")).caused_by(error))?,
    };
    let mut report = engine::inventory::gc(max_size, keep, call.test, &surroundings)?;
    if let (Some(trees), Value::Map(members)) = (crate::build::collect(&surroundings, call.test)?, &mut report) {
        members.insert("trees".into(), trees.to_value());
    }
    Ok(report)
}
