//! What a release would do, each step with whether it is done already; nothing is changed.

use crate::error::Result;
use crate::manifest::archive_name;
use crate::publish::{RemoteName, open};
use crate::release::freight::Freight;
use crate::release::state::{Phase, State};
use crate::release::{Setup, Standing, Story};
use crate::vocab::{Flavour, OsImage, ReleaseNumber, Value};

/// The plan for this, or for whatever an earlier run was to release.
pub fn preview(
    setup: &Setup,
    image: &OsImage,
    flavour: &Flavour,
    freight: Option<&Freight>,
    local: Option<ReleaseNumber>,
) -> Result<Value> {
    let standing = Standing::read(setup, image, flavour)?;
    let highest = standing.highest();
    let open_numbers = setup.journals.open_numbers(image, flavour)?;
    let going_on = open_numbers.into_iter().rfind(|number| highest.is_none_or(|highest| highest < *number));
    let number = if let Some(number) = going_on {
        number
    } else {
        let known = setup.journals.numbers(image, flavour)?.pop();
        highest.max(known).max(local).map_or(Ok(ReleaseNumber::FIRST), ReleaseNumber::next)?
    };
    let records = setup.journals.read(image, flavour, number)?;
    let story = Story(&records);
    let known = story.freight()?;
    let freight = freight.or(known.as_ref());
    let unchanged =
        freight.is_some_and(|freight| standing.manifest.as_ref().is_some_and(|current| current.tree == freight.tree()));
    let mut steps = Vec::new();
    let mut step = |state: State, place: Option<String>, done: bool| {
        steps.push(Value::map([("state", Value::from(state.word())), ("place", place.into()), ("done", done.into())]));
    };
    let done = |state| story.last(state, Phase::Done).is_some();
    step(State::Archived, None, done(State::Archived));
    step(State::Signed, None, done(State::Signed));
    if setup.reserve {
        step(State::Reserved, None, done(State::Reserved));
    }
    for target in &setup.targets {
        for (name, size) in files(image, flavour, number, freight)? {
            let mut place = open(&target.target, &target.access, &setup.operator, &setup.cancel)?;
            let found = place.size_of((&name).into())?;
            step(State::Named, Some(format!("{}/{name}", target.target)), found.is_some() && found == size);
        }
    }
    if let Some(address) = &setup.public_url {
        step(State::Fetchable, Some(address.to_string()), done(State::Fetchable));
    }
    step(State::Pushed, None, done(State::Pushed));
    step(State::Done, None, false);
    Ok(Value::map([
        ("result", Value::Null),
        ("image", image.to_string().into()),
        ("flavor", flavour.to_string().into()),
        ("announced", highest.map(ReleaseNumber::get).into()),
        ("version", number.get().into()),
        ("outcome", if unchanged { "unchanged" } else { "to be released" }.into()),
        ("goes_on", going_on.is_some().into()),
        ("steps", Value::List(steps)),
    ]))
}

/// The names that the files will have, with their sizes where those are known.
fn files(
    image: &OsImage,
    flavour: &Flavour,
    number: ReleaseNumber,
    freight: Option<&Freight>,
) -> Result<Vec<(RemoteName, Option<u64>)>> {
    let Some(freight) = freight else {
        let name = archive_name(image, flavour, number, crate::manifest::Compression::Xz)?;
        return Ok(vec![(name.as_str().parse()?, None)]);
    };
    let manifest = freight.manifest(image, flavour, number)?;
    manifest.files().map(|file| Ok((file.name.as_str().parse()?, Some(file.size)))).collect()
}
