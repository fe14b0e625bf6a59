//! What this host's disk tells of images, counted for metrics: the store, releases made here, releases followed here.
//!
//! Asks no far side. What cannot be read has no samples, and the log says why.

use super::metrics::Text;
use crate::config::Config;
use crate::error::Result;
use crate::host::fs;
use crate::progress::{Cancel, Progress};
use crate::release::{Journals, State, Story};
use crate::sync::{self, Surroundings};
use crate::vocab::{Value, parse_timestamp};

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Images {
    store: Option<u64>,
    served: Vec<(String, u32)>,
    followed: Vec<Followed>,
}

#[derive(Debug)]
struct Followed {
    labels: String,
    current: Option<i64>,
    highest: Option<i64>,
    last: Option<(bool, i64)>,
}

impl Images {
    /// Counts. Touches files.
    pub(super) fn count(config: &Config) -> Self {
        Self {
            store: told("the size of the store", store_bytes(config)),
            served: told("the journals of releases", served(config)).unwrap_or_default(),
            followed: told("the records of followed releases", followed(config)).unwrap_or_default(),
        }
    }

    /// Adds the samples.
    pub(super) fn write(&self, text: &mut Text) {
        type Sample = fn(&Followed) -> Option<i64>;
        const FAMILIES: [(&str, &str, Sample); 5] = [
            ("castoff_sync_current_version", "The release that is current here.", |image| image.current),
            ("castoff_sync_highest_version", "The highest release that was seen served.", |image| image.highest),
            ("castoff_sync_lag_releases", "How many numbers current is behind the highest seen.", |image| {
                image.highest.map(|highest| highest - image.current.unwrap_or(0))
            }),
            ("castoff_sync_last_result", "Whether the last run was a success.", |image| {
                image.last.map(|(result, _)| i64::from(result))
            }),
            ("castoff_sync_last_run_timestamp_seconds", "When the last run ended.", |image| {
                image.last.map(|(_, at)| at)
            }),
        ];
        if let Some(bytes) = self.store {
            text.one("castoff_store_bytes", "gauge", "Size of the content store's blobs.", bytes);
        }
        text.family(
            "castoff_release_served_version",
            "gauge",
            "Newest release that this host published and not withdrew.",
        );
        for (labels, version) in &self.served {
            text.line("castoff_release_served_version", labels, version);
        }
        for (name, help, sample) in FAMILIES {
            text.family(name, "gauge", help);
            for image in &self.followed {
                if let Some(value) = sample(image) {
                    text.line(name, &image.labels, value);
                }
            }
        }
    }
}

fn told<T>(what: &str, found: Result<T>) -> Option<T> {
    found.map_err(|error| tracing::warn!(error = error.render(), "{what} cannot be counted")).ok()
}

fn store_bytes(config: &Config) -> Result<u64> {
    let folder = config.state_dir.join("store/blobs/sha256");
    if !fs::exists(&folder)? {
        return Ok(0);
    }
    let mut bytes = 0;
    for name in fs::list(&folder)? {
        // One may be removed meanwhile.
        bytes += fs::link_metadata(&folder.join(name))?.map_or(0, |found| found.len());
    }
    Ok(bytes)
}

/// The newest release of each image and flavour whose journal says that it is done, and none that it was withdrawn.
fn served(config: &Config) -> Result<Vec<(String, u32)>> {
    let journals = Journals::below(&config.state_dir);
    let mut served = Vec::new();
    for (image, flavour) in journals.all()? {
        for number in journals.numbers(&image, &flavour)?.into_iter().rev() {
            if Story(&journals.read(&image, &flavour, number)?).ended() == Some(State::Done) {
                served.push((labels(image.as_str(), flavour.as_str()), number.get()));
                break;
            }
        }
    }
    Ok(served)
}

fn followed(config: &Config) -> Result<Vec<Followed>> {
    let surroundings = Surroundings { config, progress: &Progress::silent(), cancel: &Cancel::new() };
    let Value::Map(images) = sync::status(&[], &surroundings)? else { return Ok(Vec::new()) };
    let number = |image: &Value, name: &str| match image.get(name) {
        Some(Value::Int(number)) => i64::try_from(*number).ok(),
        _ => None,
    };
    let followed = images.iter().filter_map(|(name, image)| {
        let (name, flavour) = name.as_str()?.split_once('/')?;
        let last = image.get("last");
        let result = last.and_then(|last| last.get("result")).map(|result| *result == Value::Bool(true));
        let at = last.and_then(|last| last.get("at")).and_then(Value::as_str).and_then(parse_timestamp);
        Some(Followed {
            labels: labels(name, flavour),
            current: number(image, "current"),
            highest: number(image, "highest"),
            last: result.zip(at),
        })
    });
    Ok(followed.collect())
}

/// Names of images and flavours hold no character that would have to be escaped.
fn labels(image: &str, flavour: &str) -> String {
    format!("image=\"{image}\",flavor=\"{flavour}\"")
}
