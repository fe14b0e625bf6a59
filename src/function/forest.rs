//! `forest.*`: images of virtual machines that build on one another, from an `images.json`.

use super::forest_build::{Wish, build};
use super::forest_open::Opened;
use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::error::Result;
use crate::front::forest::{self, EXAMPLE};
use crate::plan::{Plan, PlanName, Plans};
use crate::vocab::Value;

pub(super) const DIR: Argument =
    Argument::required("dir", Accepts::Path, "Folder with `images.json`; images are made in `images` below it");
const IMAGE: Argument = Argument::required("image", Accepts::Text, "Name of an image of the forest");
pub(super) const IMAGES: Argument = Argument::optional(
    "images",
    Accepts::List,
    Default::Null,
    "Names of images: they, what builds on them, and what they build on; null: all",
);
const FORCE: Argument =
    Argument::optional("force", Accepts::Bool, Default::Bool(false), "Make everything anew, whatever is there already");
const DRY_RUN: Argument = Argument::optional(
    "dry_run",
    Accepts::Bool,
    Default::Bool(false),
    "Build nothing: make an empty file where no image is, and say what would become of those that are there",
);
const MERGE_STEPS: Argument = Argument::optional(
    "merge_steps",
    Accepts::Bool,
    Default::Bool(true),
    "Accepted for the callers of lvh: steps cost nothing here, and results are the same either way",
);
pub(super) const PKG_REPO: Argument = Argument::optional(
    "pkg_repo",
    Accepts::Text,
    Default::Text("sid"),
    "Suite of Debian or Ubuntu that images begin with; `SUITE MIRROR`, or `SUITE deb ..`, where this host's apt has none",
);
pub(super) const REFRESH: Argument = Argument::optional(
    "refresh",
    Accepts::Bool,
    Default::Bool(false),
    "Look at the archives of packages now, however young what is known of them is",
);

const BUILD: &str = "Build the images of a forest, each once and only where anything it is made of has changed.

Reads an unchanged `images.json` of little-vm-helper. What an image is made of is known by content: its parents,
packages and their archive, actions, and the bytes of every file that is copied in. A failed image is never taken for a
result, and what builds on it is left out; other trees go on. An image that is there and that castoff did not make, or
that was changed since, is moved aside: `cachedImageDeleted` says why.

    castoff call forest.build /srv/vm
    castoff call forest.build /srv/vm images=base.img dry_run=True
    castoff lvh images build --dir /srv/vm";

const BUILD_IMAGE: &str = "Build one image of a forest and what it builds on, nothing else; see forest.build.

    castoff call forest.build_image /srv/vm k8s.qcow2";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "forest.build",
        BUILD,
        &[DIR, IMAGES, FORCE, DRY_RUN, MERGE_STEPS, PKG_REPO, REFRESH],
        |call, context| {
            let images = call.value("images").as_list().map(|_| call.texts("images")).transpose()?;
            build(call, context, &Wish { images, descend: true })
        },
    )
    .long(),
    Function::changes(
        "forest.build_image",
        BUILD_IMAGE,
        &[DIR, IMAGE, FORCE, DRY_RUN, MERGE_STEPS, PKG_REPO, REFRESH],
        |call, context| {
            build(call, context, &Wish { images: Some(vec![call.text("image")?.to_owned()]), descend: false })
        },
    )
    .long(),
    Function::reads(
        "forest.dependencies",
        "Return the images that an image builds on, the oldest first, itself left out.\n\n    castoff call forest.dependencies /srv/vm k8s.qcow2",
        &[DIR, IMAGE],
        |call, _| {
            let plans = tree(call)?;
            Ok(names(plans.ancestors(plans.find(call.text("image")?)?)))
        },
    ),
    Function::reads(
        "forest.image_filename",
        "Return the file that an image of the forest is built in.\n\n    castoff call forest.image_filename /srv/vm k8s.qcow2",
        &[DIR, IMAGE],
        |call, _| {
            let opened = Opened::find(call.text("dir")?.as_ref())?;
            let name = opened.forest.tree()?.find(call.text("image")?)?.name.clone();
            Ok(opened.path_of(&name).display().to_string().into())
        },
    ),
    Function::reads(
        "forest.roots",
        "Return the images that build on no other image of the forest, in the order of the document.\n\n    castoff call forest.roots /srv/vm",
        &[DIR],
        |call, _| tree(call).map(|plans| names(forest::roots(&plans))),
    ),
    Function::reads(
        "forest.leaves",
        "Return the images that no other image builds on, in the order of the document.\n\n    castoff call forest.leaves /srv/vm",
        &[DIR],
        |call, _| tree(call).map(|plans| names(forest::leaves(&plans))),
    ),
    Function::reads(
        "forest.is_root",
        "Return whether an image builds on no other image of the forest.\n\n    castoff call forest.is_root /srv/vm base.img",
        &[DIR, IMAGE],
        |call, _| {
            let plans = tree(call)?;
            Ok(plans.parent(plans.find(call.text("image")?)?).is_none().into())
        },
    ),
    Function::reads(
        "forest.is_leaf",
        "Return whether no other image of the forest builds on an image.\n\n    castoff call forest.is_leaf /srv/vm base.img",
        &[DIR, IMAGE],
        |call, _| {
            let plans = tree(call)?;
            let name: &PlanName = &plans.find(call.text("image")?)?.name;
            Ok(plans.children(name).next().is_none().into())
        },
    ),
    Function::reads(
        "forest.example_config",
        "Return the text of an `images.json` with two images: a base, and one that builds on it.\n\n    castoff lvh images example-config",
        &[],
        |_: &Call, _: &Context| Ok(EXAMPLE.into()),
    ),
];

/// The images and what they build on.
fn tree(call: &Call) -> Result<Plans> {
    Opened::find(call.text("dir")?.as_ref())?.forest.tree()
}

fn names<'a>(plans: impl IntoIterator<Item = &'a Plan>) -> Value {
    Value::list(plans.into_iter().map(|plan| plan.name.as_str()))
}
