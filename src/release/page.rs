//! What a person reads about an image and flavour: what is served, what is under way, what to do next.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::journal::{Record, Subject};
use super::state::{Phase, State};
use super::{Freight, Setup, Standing, Story};
use crate::error::{Error, Result};
use crate::host::clock;
use crate::manifest::{Artefact, Manifest};
use crate::vocab::{Flavour, OsImage, ReleaseNumber, timestamp};

const DAY: u64 = 24 * 60 * 60;

/// What the page is about.
pub(super) struct Page<'a> {
    pub(super) setup: &'a Setup,
    pub(super) image: &'a OsImage,
    pub(super) flavour: &'a Flavour,
    pub(super) standing: Result<&'a Standing, &'a Error>,
    /// The releases of this host that have not ended.
    pub(super) open: &'a [(ReleaseNumber, Vec<Record>)],
    /// Who releases at this moment.
    pub(super) runs: Option<&'a str>,
}

impl Page<'_> {
    /// The page, a few lines.
    pub(super) fn text(&self) -> Result<String> {
        let mut lines = match self.standing {
            Ok(standing) => self.served(standing),
            Err(error) => vec![format!("what is served cannot be told: {error}")],
        };
        for (number, records) in self.open {
            lines.extend(self.under_way(*number, records)?);
        }
        lines.extend(self.next().into_iter().map(|next| format!("next: {next}")));
        Ok(lines.join("\n"))
    }

    fn served(&self, standing: &Standing) -> Vec<String> {
        let Some(manifest) = &standing.manifest else {
            return vec![match (standing.version, standing.withdrawn) {
                (Some(version), _) => format!("release {version} is served, by a publisher that signs no manifest"),
                (None, Some(withdrawn)) => format!("nothing is served: release {withdrawn} was withdrawn"),
                (None, None) => "nothing is served yet".to_owned(),
            }];
        };
        let now = clock::now().as_secs();
        let (since, expires) = (manifest.created.0, manifest.expires.0);
        let mut lines =
            vec![format!("release {} is served since {} ({})", manifest.version, day(since), age(now, since))];
        for artefact in &manifest.artefacts {
            lines.push(format!("  {} ({})", artefact.name, bytes(artefact.size)));
            lines.extend(urls(self.setup, manifest, artefact).into_iter().map(|url| format!("    {url}")));
        }
        lines.push(match expires.checked_sub(now) {
            Some(left) if left > 0 => format!("  expires {} (in {})", day(expires), span(left)),
            _ => format!("  EXPIRED {}: hosts are warned", day(expires)),
        });
        lines
    }

    fn under_way(&self, number: ReleaseNumber, records: &[Record]) -> Result<Vec<String>> {
        let story = Story(records);
        let state = match records.last() {
            None => "not begun".to_owned(),
            Some(_) if story.waits() => "uploaded, waits to be announced".to_owned(),
            Some(last) => {
                let moment = match last.phase {
                    Phase::Intent => "begun",
                    Phase::Note => "under way",
                    Phase::Done => "done",
                };
                format!("`{}` {moment} at {}", last.state.word(), last.time)
            }
        };
        let who = match self.runs {
            Some(runs) => format!("at work: {runs}"),
            None => "nobody is at work".to_owned(),
        };
        let mut lines = vec![format!("release {number} is under way: {state}; {who}")];
        if let Some(freight) = story.freight()? {
            for (subject, size) in self.subjects(number, &freight)? {
                lines.push(format!("  {}: {} {}", subject.target, subject.file, progress(story, &subject, size)));
            }
        }
        Ok(lines)
    }

    /// Every file at every target, with its size.
    fn subjects(&self, number: ReleaseNumber, freight: &Freight) -> Result<BTreeMap<Subject, u64>> {
        let artefacts = freight.manifest(self.image, self.flavour, number)?.artefacts;
        let of = |target: &super::ReleaseTarget| {
            let target = target.name.clone();
            let subject = move |artefact: &Artefact| {
                (Subject { target: target.clone(), file: artefact.name.to_string() }, artefact.size)
            };
            artefacts.iter().map(subject).collect::<Vec<_>>()
        };
        Ok(self.setup.targets.iter().flat_map(of).collect())
    }

    /// What to do, as commands.
    pub(super) fn next(&self) -> Vec<String> {
        let call = |name: &str| format!("castoff call {name} {} {}", self.image, self.flavour);
        if self.runs.is_some() {
            return vec![format!("wait, then `{}`", call("release.status"))];
        }
        let mut next = Vec::new();
        for (number, records) in self.open {
            let story = Story(records);
            next.push(if story.is_being_withdrawn() {
                format!("`{} {number}` to finish taking it back", call("release.withdraw"))
            } else if story.waits() {
                format!(
                    "`castoff call mc_cloud_images.publish_release {} flavor={}` to announce it",
                    self.image, self.flavour
                )
            } else {
                format!("`{}` to finish it", call("release.resume"))
            });
        }
        let expired = |standing: &Standing| {
            standing.manifest.as_ref().is_some_and(|manifest| manifest.expires.0 <= clock::now().as_secs())
        };
        if self.open.is_empty() && self.standing.is_ok_and(expired) {
            next.push("release the image again: its manifest has expired".to_owned());
        }
        next
    }
}

/// Where a file is fetched from: what the manifest says, else the targets.
pub(super) fn urls(setup: &Setup, manifest: &Manifest, artefact: &Artefact) -> Vec<String> {
    if !manifest.urls.is_empty() {
        return manifest.urls.iter().map(|address| address.of(&artefact.name)).collect();
    }
    let of = |target: &super::ReleaseTarget| {
        format!("{}/{}", target.target.to_string().trim_end_matches('/'), artefact.name)
    };
    setup.targets.iter().map(of).collect()
}

/// The size of a file that is released, by the name it gets.
pub(super) fn size_of(freight: &Freight, subject: &Subject) -> Option<u64> {
    match freight {
        Freight::New(archived) => {
            let file = |file: &&super::ArchivedFile| subject.file.ends_with(file.compression.suffix());
            let patch = |patch: &&super::ArchivedPatch| subject.file.contains(&patch.from.0.hex()[..16]);
            let file = archived.files.iter().find(file).map(|file| file.size);
            file.or_else(|| archived.patches.iter().find(patch).map(|patch| patch.size))
        }
        Freight::Again(old) => old.files().find(|file| file.name.as_str() == subject.file).map(|file| file.size),
    }
}

fn progress(story: Story<'_>, subject: &Subject, size: u64) -> String {
    let reached = |state, phase| story.last_about(subject, state, phase).is_some();
    if reached(State::Named, Phase::Done) {
        return format!("is in place ({})", bytes(size));
    }
    if reached(State::Verified, Phase::Done) {
        return "has arrived and was verified".to_owned();
    }
    if reached(State::Uploaded, Phase::Done) {
        return "has arrived, not verified yet".to_owned();
    }
    if !reached(State::Uploading, Phase::Intent) {
        return "not begun".to_owned();
    }
    let arrived = story.safe(subject);
    let percent = arrived.saturating_mul(100).checked_div(size).unwrap_or(100);
    format!("{percent} % sent ({} of {})", bytes(arrived), bytes(size))
}

/// How long ago that was. Releases in quick succession are a second apart, whatever the clock says.
fn age(now: u64, since: u64) -> String {
    match now.checked_sub(since) {
        Some(age) if age > 0 => format!("{} ago", span(age)),
        None if since - now > 600 => "by a clock ahead of this one".to_owned(),
        _ => "just now".to_owned(),
    }
}

fn day(seconds: u64) -> String {
    timestamp(i64::try_from(seconds).unwrap_or(i64::MAX), 0)
}

/// A length of time in its largest unit.
fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..DAY => (seconds / 3600, "hour"),
        _ => (seconds / DAY, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Bytes with three digits or so.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    let mut text = String::new();
    let mut tenths = u128::from(count) * 10;
    for unit in UNITS {
        tenths /= 1024;
        text.clear();
        // Writing to a text cannot fail.
        let _written = write!(text, "{}.{} {unit}", tenths / 10, tenths % 10);
        if tenths < 10_240 {
            break;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (count, shown) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (36_381_064, "34.6 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
        for (seconds, shown) in
            [(1, "1 second"), (59, "59 seconds"), (3600, "1 hour"), (90_000, "1 day"), (DAY * 9, "9 days")]
        {
            assert_eq!(span(seconds), shown);
        }
    }
}
