//! `forest.pull` and `forest.push`: disk images that travel in an OCI image, as little-vm-helper's users know them.

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::Surroundings;
use crate::engine::bundle::{self, BundleRequest};
use crate::engine::extract::{self, ExtractRequest};
use crate::error::{Error, Kind, Result};
use crate::oci::Platform;
use crate::vocab::{EngineImage, Reference, Value};

const PULL: &str = "Bring the disk images that an OCI image carries in /data/images into a folder, without any Docker daemon.

A bare name means a registry: quay.io/lvh-images/kind:6.1-main is docker://quay.io/lvh-images/kind:6.1-main; any other
reference works too. Files that end with .zst are unfolded, zeros become holes, and files get their names when all of them
are whole. Links, devices, absolute names and names that lead elsewhere are refused, and then nothing is written. The
image comes into the embedded store, where image.remove takes it away; what is there is neither fetched nor written
again.

    castoff call forest.pull quay.io/lvh-images/kind:6.1-main
    castoff call forest.pull docker://127.0.0.1:5000/vm:1 dir=/srv/vm platform=linux/arm64";

const PUSH: &str =
    "Make an image that carries disk images in /data/images, each compressed with zstd, and send it away.

Equal files make an equal image. A bare name means a registry, as for forest.pull. What the registry has is not sent.

    castoff call forest.push base.qcow2 docker://127.0.0.1:5000/vm:1
    castoff call forest.push base.qcow2,k8s.qcow2 oci:layout:1 dir=/srv/vm";

const DIR: Argument =
    Argument::optional("dir", Accepts::Path, Default::Text("_data"), "Folder in which the folder `images` is");

pub(super) const PLATFORM: Argument = Argument::optional(
    "platform",
    Accepts::Text,
    Default::Null,
    "Platform as `linux/arm64`, where a registry has several; null: this host's",
);

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "forest.pull",
        PULL,
        &[
            Argument::required("url", Accepts::Reference, "Image that carries disk images"),
            DIR,
            Argument::optional(
                "cache",
                Accepts::Bool,
                Default::Bool(false),
                "Keep the compressed files beside the unfolded ones",
            ),
            PLATFORM,
        ],
        pull,
    )
    .long(),
    Function::changes(
        "forest.push",
        PUSH,
        &[
            Argument::required("images", Accepts::List, "Files of the folder `images`"),
            Argument::required("reference", Accepts::Reference, "Where the image goes"),
            DIR,
            Argument::optional("base", Accepts::Reference, Default::Null, "Image to stand on; null: nothing"),
            PLATFORM,
        ],
        push,
    )
    .long(),
];

/// The reference, with a bare name meaning an image of a registry.
fn far(reference: Reference) -> Result<Reference> {
    match reference {
        Reference::Default(EngineImage::Name(name)) => Ok(Reference::Registry(name.to_string())),
        Reference::Default(EngineImage::Id(id)) => {
            Err(Error::new(Kind::Usage, format!("`{id}` does not say of which registry"))
                .hint(format!("an image of the store is `store:{id}`")))
        }
        other => Ok(other),
    }
}

/// Surroundings in which `platform` is the one that is wanted.
pub(super) fn surroundings<'a>(call: &Call, context: &'a Context) -> Result<Surroundings<'a>> {
    let platform: Option<Platform> = call.maybe_text("platform").map(str::parse).transpose()?;
    Ok(Surroundings::new(&context.config, &context.progress).for_platform(platform))
}

fn pull(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = surroundings(call, context)?;
    let request =
        ExtractRequest { source: far(call.reference("url")?)?, dir: call.path("dir")?, cache: call.boolean("cache") };
    if call.test {
        return extract::preview(&request, &surroundings);
    }
    extract::extract(&request, &surroundings)
}

fn push(call: &Call, context: &Context) -> Result<Value> {
    let surroundings = surroundings(call, context)?;
    let request = BundleRequest {
        images: call.texts("images")?,
        destination: far(call.reference("reference")?)?,
        dir: call.path("dir")?,
        base: call.maybe_reference("base")?.map(far).transpose()?,
    };
    if call.test {
        return bundle::preview(&request, &surroundings);
    }
    bundle::bundle(&request, &surroundings)
}
