//! `sync.*`: this host and the releases it follows.

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::error::{Error, Kind, Result};
use crate::sync::{self, Surroundings};
use crate::vocab::{ReleaseNumber, Value};

const RUN: &str = "Bring the images this host follows to what is released.

For each: read the signed manifest from sync.source, judge it, fetch what is cheapest (patches where an earlier release is
held, else the whole file), verify, unpack beside, move `current`. An interrupted run is finished by the next one. The
result has a report for each image: from, to, the way, bytes moved, seconds, why.

    castoff sync
    castoff call sync.run images=makina-states-bionic/lxc test=True";

const STATUS: &str =
    "Show what this host follows: what is current, kept, pinned, the highest release seen, how the last run ended.

Asks no far side.

    castoff call sync.status";

const PIN: &str = "Hold an image at a release, whatever is served, until sync.unpin.

A release that is kept here becomes current at once; another one is fetched by the next run that finds it served.

    castoff call sync.pin makina-states-bionic/lxc 24";

const UNPIN: &str = "Let an image follow what is served again.

    castoff call sync.unpin makina-states-bionic/lxc";

const ROLLBACK: &str = "Go back to a release that is kept here, and pin the image to it.

    castoff call sync.rollback makina-states-bionic/lxc";

const IMAGE: Argument = Argument::required(
    "image",
    Accepts::Text,
    "IMAGE/FLAVOUR of sync.images; IMAGE alone where it is followed in one flavour",
);
const IMAGES: Argument = Argument::optional(
    "images",
    Accepts::List,
    Default::Null,
    "IMAGE/FLAVOUR, or IMAGE in every flavour; null: all of sync.images",
);

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes("sync.run", RUN, &[IMAGES], run).long(),
    Function::reads("sync.status", STATUS, &[IMAGES], status),
    Function::changes(
        "sync.pin",
        PIN,
        &[IMAGE, Argument::required("number", Accepts::Int, "The number of the release")],
        pin,
    ),
    Function::changes("sync.unpin", UNPIN, &[IMAGE], unpin),
    Function::changes(
        "sync.rollback",
        ROLLBACK,
        &[
            IMAGE,
            Argument::optional(
                "number",
                Accepts::Int,
                Default::Null,
                "The number of a kept release; null: the one before the current one",
            ),
        ],
        rollback,
    ),
];

fn with<T>(context: &Context, work: impl FnOnce(&Surroundings<'_>) -> Result<T>) -> Result<T> {
    work(&Surroundings { config: &context.config, progress: &context.progress, cancel: context.cancel()? })
}

fn number(call: &Call) -> Result<Option<ReleaseNumber>> {
    let Some(number) = call.maybe_integer("number") else { return Ok(None) };
    let number = u32::try_from(number).map_err(|error| {
        Error::new(Kind::Usage, format!("{}: `number` is {number}", call.function)).caused_by(error)
    })?;
    ReleaseNumber::new(number).map(Some)
}

fn run(call: &Call, context: &Context) -> Result<Value> {
    let images = call.texts("images")?;
    with(context, |surroundings| sync::run(&images, call.test, surroundings))
}

fn status(call: &Call, context: &Context) -> Result<Value> {
    let images = call.texts("images")?;
    with(context, |surroundings| sync::status(&images, surroundings))
}

fn pin(call: &Call, context: &Context) -> Result<Value> {
    let (image, wanted) = (call.text("image")?, number(call)?);
    let wanted = wanted.ok_or_else(|| Error::new(Kind::Usage, "sync.pin: `number` is required"))?;
    with(context, |surroundings| sync::pin(image, wanted, call.test, surroundings))
}

fn unpin(call: &Call, context: &Context) -> Result<Value> {
    let image = call.text("image")?;
    with(context, |surroundings| sync::unpin(image, call.test, surroundings))
}

fn rollback(call: &Call, context: &Context) -> Result<Value> {
    let (image, wanted) = (call.text("image")?, number(call)?);
    with(context, |surroundings| sync::rollback(image, wanted, call.test, surroundings))
}
