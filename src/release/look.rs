//! What is served, what is under way, what was.

use super::page::{self, Page};
use super::{Record, Setup, Standing, Story, lock};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Moment, Paths};
use crate::publish::git::Version;
use crate::vocab::{Flavour, OsImage, ReleaseNumber, Value, timestamp};

/// What is served of an image and flavour now, and which releases of this host are under way; `summary` says it to a
/// person. Where the branch cannot be read, `problem` says why, and the rest is told all the same.
pub fn status(setup: &Setup, image: &OsImage, flavour: &Flavour) -> Result<Value> {
    let standing = Standing::read(setup, image, flavour);
    let mut under_way = Vec::new();
    let mut open = Vec::new();
    for number in setup.journals.open_numbers(image, flavour)? {
        let records = setup.journals.read(image, flavour, number)?;
        under_way.push(journal(&records, number)?);
        open.push((number, records));
    }
    let newest = setup.journals.numbers(image, flavour)?.pop();
    let last = match newest {
        Some(number) => Some(journal(&setup.journals.read(image, flavour, number)?, number)?),
        None => None,
    };
    let runs = lock::holder(setup.state(), image, flavour)?;
    let page = Page { setup, image, flavour, standing: standing.as_ref(), open: &open, runs: runs.as_deref() };
    let mut members = vec![("summary", page.text()?.into())];
    match &standing {
        Ok(standing) => members.extend([
            ("served", standing.manifest.as_ref().map(|manifest| served(setup, manifest)).into()),
            ("version", standing.version.map(ReleaseNumber::get).into()),
            ("withdrawn", standing.withdrawn.map(ReleaseNumber::get).into()),
            ("commit", standing.commit.clone().into()),
        ]),
        Err(error) => members.extend([("served", Value::Null), ("problem", error.render().into())]),
    }
    members.extend([
        ("under_way", Value::List(under_way)),
        ("runs", runs.clone().into()),
        ("next", Value::list(page.next())),
        ("last", last.into()),
    ]);
    Ok(Value::map(members))
}

fn moment(moment: Moment) -> String {
    timestamp(i64::try_from(moment.0).unwrap_or(i64::MAX), 0)
}

fn served(setup: &Setup, manifest: &Manifest) -> Value {
    let file = |artefact: &crate::manifest::Artefact| {
        Value::map([
            ("name", Value::from(artefact.name.to_string())),
            ("size", artefact.size.into()),
            ("sha256", artefact.sha256.hex().into()),
            ("urls", Value::list(page::urls(setup, manifest, artefact))),
        ])
    };
    Value::map([
        ("version", Value::from(manifest.version.get())),
        ("created", moment(manifest.created).into()),
        ("expires", moment(manifest.expires).into()),
        ("files", Value::list(manifest.artefacts.iter().map(file))),
    ])
}

/// How far a release of this host is, or how it ended: each target's own state, the offset that has arrived.
fn journal(records: &[Record], number: ReleaseNumber) -> Result<Value> {
    let freight = Story(records).freight()?;
    let mut targets = crate::vocab::Map::new();
    for record in records {
        let Some(subject) = &record.subject else { continue };
        let files =
            targets.entry(subject.target.as_str().into()).or_insert_with(|| Value::Map(crate::vocab::Map::new()));
        if let Value::Map(files) = files {
            let arrived = Story(records).safe(subject);
            let size = freight.as_ref().and_then(|freight| page::size_of(freight, subject));
            let shown = Value::map([
                ("state", Value::from(record.state.word())),
                ("arrived", arrived.into()),
                ("size", size.into()),
            ]);
            files.insert(subject.file.as_str().into(), shown);
        }
    }
    let last = records.last();
    let mut members = vec![
        ("version", Value::from(number.get())),
        ("state", last.map(|record| record.state.word()).into()),
        ("phase", last.map(|record| record.phase.word()).into()),
        ("since", last.map(|record| record.time.as_str()).into()),
        ("begun", records.first().map(|record| record.time.as_str()).into()),
        ("targets", Value::Map(targets)),
    ];
    if let Some(payload) = last.filter(|record| record.state.closes() && !record.payload.is_null()) {
        members.push(("ended", Value::from(payload.payload.clone())));
    }
    Ok(Value::map(members))
}

/// What the branch has announced, the newest first, and what the journals of this host tell, the newest first.
pub fn history(setup: &Setup, image: &OsImage, flavour: &Flavour, most: usize) -> Result<Value> {
    let versions = setup.git.history(&Paths::new(image, flavour).manifest, most)?;
    let mut released = Vec::new();
    for Version { commit, at, text } in versions {
        let mut shown = match Manifest::parse(text.as_bytes()) {
            Ok(manifest) => served(setup, &manifest),
            Err(error) => Value::map([("problem", Value::from(error.render()))]),
        };
        if let Value::Map(members) = &mut shown {
            members.insert("commit".into(), commit.into());
            members.insert("announced".into(), timestamp(at, 0).into());
        }
        released.push(shown);
    }
    let numbers = setup.journals.numbers(image, flavour)?.into_iter().rev().take(most);
    let journals: Vec<Value> =
        numbers.map(|number| journal(&setup.journals.read(image, flavour, number)?, number)).collect::<Result<_>>()?;
    Ok(Value::map([("released", Value::List(released)), ("journals", Value::List(journals))]))
}

/// The manifest by which the branch once announced this release.
pub fn manifest_of(setup: &Setup, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Manifest> {
    for version in setup.git.history(&Paths::new(image, flavour).manifest, usize::MAX)? {
        match Manifest::parse(version.text.as_bytes()) {
            Ok(manifest) if manifest.version == number => return Ok(manifest),
            Ok(_) => {}
            // Another release's, maybe: where none is found, it may have been this one.
            Err(error) => setup.progress.warn(format!("the manifest in {}: {error}", version.commit)),
        }
    }
    Err(Error::new(Kind::NotFound, format!("release {number} of `{image}/{flavour}` was never announced"))
        .hint("`castoff call release.history` shows every release"))
}
