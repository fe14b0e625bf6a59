//! What an operator says to a host: look, pin, unpin, go back. No far side is asked.

use super::Surroundings;
use super::cache::Cache;
use super::followed::Followed;
use super::home::Home;
use super::options::{followed, select};
use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::vocab::{ReleaseNumber, Value, timestamp};

/// What this host follows: what is current, what is kept, what was seen, how the last run ended.
pub fn status(words: &[String], surroundings: &Surroundings<'_>) -> Result<Value> {
    let images = select(&followed(surroundings)?, words)?;
    let mut found = Vec::new();
    for image in images {
        let home = Home::of(&image, surroundings);
        let record = Record::read(&home.record())?;
        let sync = &surroundings.config.sync;
        let held = Cache::new(&home.tars, sync.cache_size, sync.patch_limit).held()?;
        let bases = record.releases.iter().filter(|(_, kept)| held.contains(&kept.diff_id));
        let bases: Vec<Value> = bases.map(|(number, _)| number.get().into()).collect();
        let kept: Vec<Value> = home.kept(&record)?.into_iter().map(|number| number.get().into()).collect();
        let last = record.last.as_ref().map(|last| {
            Value::map([
                ("at", Value::from(timestamp(last.at.try_into().unwrap_or(i64::MAX), 0))),
                ("result", Value::from(last.result)),
                ("why", Value::from(last.why.as_str())),
            ])
        });
        let value = Value::map([
            ("current", Value::from(home.current()?.map(ReleaseNumber::get))),
            ("highest", record.highest.map(|seen| seen.version().get()).into()),
            ("pin", record.pin.map(ReleaseNumber::get).into()),
            ("kept", Value::List(kept)),
            ("bases", Value::List(bases)),
            ("path", home.trees.join("current").display().to_string().into()),
            ("last", last.into()),
        ]);
        found.push((image.to_string(), value));
    }
    Ok(Value::map(found))
}

/// Holds an image at a release, whatever is served; one that is here becomes current at once.
pub fn pin(word: &str, number: ReleaseNumber, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    change(word, test, surroundings, |image, home, record| {
        record.pin = Some(number);
        if home.kept(record)?.contains(&number) {
            return Ok((Some(number), format!("`{image}` is pinned to release {number}")));
        }
        Ok((None, format!("`{image}` is pinned to release {number}, which a run fetches when it is the one served")))
    })
}

/// Lets an image follow what is served again.
pub fn unpin(word: &str, test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    change(word, test, surroundings, |image, _, record| {
        let why = match record.pin.take() {
            Some(number) => format!("`{image}` was pinned to release {number}; the next run follows what is served"),
            None => format!("`{image}` was not pinned"),
        };
        Ok((None, why))
    })
}

/// Makes a kept release current, the one before by default, and pins the image to it: else the next run would go forward.
pub fn rollback(
    word: &str,
    number: Option<ReleaseNumber>,
    test: bool,
    surroundings: &Surroundings<'_>,
) -> Result<Value> {
    change(word, test, surroundings, |image, home, record| {
        let (current, kept) = (home.current()?, home.kept(record)?);
        let before = kept.iter().rev().find(|kept| current.is_some_and(|current| **kept < current));
        let chosen = match number {
            Some(number) => kept.contains(&number).then_some(number),
            None => before.copied(),
        };
        let Some(chosen) = chosen else {
            let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
            let wanted = number.map_or_else(|| "an earlier release".to_owned(), |number| format!("release {number}"));
            return Err(Error::new(Kind::NotFound, format!("{wanted} of `{image}` is not here"))
                .hint(format!("here are: {}", if kept.is_empty() { "none".to_owned() } else { kept.join(", ") })));
        };
        record.pin = Some(chosen);
        Ok((Some(chosen), format!("`{image}` is at release {chosen} and pinned to it; `sync.unpin` follows again")))
    })
}

/// Changes the record, and `current` if `decide` says where to, under the image's lock.
fn change(
    word: &str,
    test: bool,
    surroundings: &Surroundings<'_>,
    decide: impl FnOnce(&Followed, &Home, &mut Record) -> Result<(Option<ReleaseNumber>, String)>,
) -> Result<Value> {
    let images = select(&followed(surroundings)?, &[word.to_owned()])?;
    let [image] = images.as_slice() else {
        let names: Vec<String> = images.iter().map(ToString::to_string).collect();
        return Err(Error::new(Kind::Usage, format!("`{word}` is followed in more than one flavour"))
            .hint(format!("say which: {}", names.join(", "))));
    };
    let home = Home::of(image, surroundings);
    let _lock = if test { None } else { Some(home.enter(image)?) };
    let before = Record::read(&home.record())?;
    let mut record = before.clone();
    let current = home.current()?;
    let (to, why) = decide(image, &home, &mut record)?;
    let moves = to.is_some() && to != current;
    let changed = moves || record.pin != before.pin;
    if !test {
        record.write(&home.record(), &before)?;
        if let Some(number) = to.filter(|_| moves) {
            home.point(number)?;
        }
    }
    let result = if test && changed { Value::Null } else { Value::from(true) };
    Ok(Value::map([
        ("result", result),
        ("changed", Value::from(changed && !test)),
        ("from", current.map(ReleaseNumber::get).into()),
        ("to", to.or(current).map(ReleaseNumber::get).into()),
        ("pin", record.pin.map(ReleaseNumber::get).into()),
        ("why", why.into()),
    ]))
}
