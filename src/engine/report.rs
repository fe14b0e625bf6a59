//! What a pack did, in numbers and names: the report every image function returns.

use std::time::{Duration, Instant};

use crate::rootfs::flatten::FlattenReport;
use crate::rootfs::unpack::UnpackReport;
use crate::vocab::{DiffId, Digest, Map, Value};

/// Wall seconds per stage of one run, in the order the stages began.
#[derive(Debug, Default)]
pub struct Stopwatch {
    stages: Vec<(&'static str, Duration)>,
    current: Option<(&'static str, Instant)>,
}

impl Stopwatch {
    /// Ends the stage under way and begins the next.
    pub fn begin(&mut self, stage: &'static str) {
        self.end();
        self.current = Some((stage, Instant::now()));
    }

    /// Ends the stage under way.
    pub fn end(&mut self) {
        if let Some((stage, started)) = self.current.take() {
            self.stages.push((stage, started.elapsed()));
        }
    }

    fn to_value(&self) -> Value {
        Value::map(self.stages.iter().map(|(stage, taken)| (*stage, round_milliseconds(*taken))))
    }
}

fn round_milliseconds(taken: Duration) -> f64 {
    (taken.as_secs_f64() * 1000.0).round() / 1000.0
}

/// What became of the image that held the destination's name before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Previous {
    /// The name was new, or is not one that moves.
    None,
    /// The name already meant this very image.
    Same,
    /// It lost this name and is kept until `image.gc` (or for its other names).
    Kept(Digest),
    /// It was removed after the new image was confirmed.
    Removed(Digest),
}

impl Previous {
    fn to_value(&self, in_engine: bool) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Same => Value::map([("state", "same image")]),
            Self::Kept(id) => {
                // image.gc collects the store; an engine's images are its user's.
                let state =
                    if in_engine { "kept; image.remove with this ID removes it" } else { "kept until image.gc" };
                Value::map([("id", id.to_string()), ("state", state.to_owned())])
            }
            Self::Removed(id) => Value::map([("id", id.to_string()), ("state", "removed".to_owned())]),
        }
    }
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The digest of the configuration.
    pub id: Digest,
    /// The diff IDs of the layers.
    pub layers: Vec<DiffId>,
    /// The names the image now has there.
    pub names: Vec<String>,
    /// Bytes of bare layers that went out.
    pub bytes: u64,
    /// What became of the image that had the name.
    pub previous: Previous,
    /// Facts that belong to one kind of destination.
    pub notes: Map,
}

/// The result of packing or copying one image.
#[derive(Debug)]
pub struct Report {
    /// Where the image came from, with its transport.
    pub source: String,
    /// Where it went, with its transport.
    pub destination: String,
    /// The digest of the new image's configuration; none for destinations that are not images.
    pub image_id: Option<Digest>,
    /// Layer digests of the new image, bottom first.
    pub layers: Vec<Digest>,
    /// Names the new image now has at its destination.
    pub names: Vec<String>,
    /// Bytes of layers or files written.
    pub bytes_out: u64,
    /// What became of the image that had the name.
    pub previous: Previous,
    /// What the merge did; none for a plain copy.
    pub merge: Option<FlattenReport>,
    /// What was left out before the merge saw it, and why.
    pub left_out: Vec<(String, String)>,
    /// Skips, fallbacks and substitutions.
    pub warnings: Vec<String>,
    /// Facts that belong to one kind of source or destination.
    pub notes: Map,
    /// How a bare tree was written into a directory.
    pub unpacked: Option<UnpackReport>,
    /// Seconds per stage.
    pub seconds: Stopwatch,
}

impl Report {
    /// An empty report of a run from `source` to `destination`.
    pub fn new(source: String, destination: String) -> Self {
        Self {
            source,
            destination,
            image_id: None,
            layers: Vec::new(),
            names: Vec::new(),
            bytes_out: 0,
            previous: Previous::None,
            merge: None,
            left_out: Vec::new(),
            warnings: Vec::new(),
            notes: Map::new(),
            unpacked: None,
            seconds: Stopwatch::default(),
        }
    }

    /// Puts before this run's own findings those of an earlier look at the same source.
    pub(super) fn after(mut self, earlier: Self) -> Self {
        self.source = earlier.source;
        self.left_out.splice(0..0, earlier.left_out);
        self.warnings.splice(0..0, earlier.warnings);
        if let Some(merge) = earlier.merge {
            let dropped = merge.dropped.into_iter().map(|dropped| (dropped.path, dropped.reason.to_owned()));
            self.left_out.extend(dropped);
            if merge.dropped_more > 0 {
                self.left_out.push((format!("and {} more", merge.dropped_more), "dropped by the merge".to_owned()));
            }
            self.warnings.extend(merge.warnings);
            if merge.warnings_more > 0 {
                self.warnings.push(format!("and {} more", merge.warnings_more));
            }
        }
        for (key, value) in earlier.notes {
            self.notes.entry(key).or_insert(value);
        }
        self
    }

    /// Takes over what a sink says.
    pub(super) fn wrote(&mut self, written: Written) {
        self.image_id = Some(written.id);
        self.layers = written.layers.iter().map(|layer| layer.0).collect();
        self.names = written.names;
        self.bytes_out = written.bytes;
        self.previous = written.previous;
        self.notes.extend(written.notes);
    }

    /// The report as functions return it.
    pub fn to_value(&self) -> Value {
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        set("result", true.into());
        set("source", self.source.clone().into());
        set("destination", self.destination.clone().into());
        if let Some(id) = self.image_id {
            set("image_id", id.to_string().into());
            set("layers", Value::list(self.layers.iter().map(ToString::to_string)));
        }
        if !self.names.is_empty() {
            set("names", Value::list(self.names.clone()));
        }
        if self.previous != Previous::None {
            set("previous", self.previous.to_value(self.destination.starts_with("docker-daemon:")));
        }
        if let Some(merge) = &self.merge {
            set("entries", Value::map([("in", merge.entries_in), ("kept", merge.entries_kept)]));
            set("bytes", Value::map([("in", merge.bytes_in), ("out", self.bytes_out)]));
            set("whiteouts", Value::map([("files", merge.whiteouts), ("opaque", merge.opaques)]));
            if merge.expanded > 0 {
                set("sparse_expanded", Value::map([("files", merge.expanded), ("bytes", merge.expanded_bytes)]));
            }
            set("links_promoted", merge.links_promoted.into());
            set(
                "acls",
                Value::map([
                    ("access", merge.access_acls),
                    ("default", merge.default_acls),
                    ("inheritance_guards_added", merge.guards),
                ]),
            );
            set(
                "parents",
                Value::map([("implied", merge.implied_parents), ("synthesised", merge.synthesised_parents)]),
            );
        } else {
            set("bytes", Value::map([("out", self.bytes_out)]));
        }
        for (key, found) in [("dropped", self.dropped()), ("warnings", self.all_warnings())] {
            if !found.is_empty() {
                set(key, Value::List(found));
            }
        }
        for (key, value) in &self.notes {
            map.insert(key.clone(), value.clone());
        }
        map.insert("seconds".into(), self.seconds.to_value());
        Value::Map(map)
    }

    fn dropped(&self) -> Vec<Value> {
        let merged = self
            .merge
            .iter()
            .flat_map(|merge| &merge.dropped)
            .map(|dropped| Value::map([("path", dropped.path.clone()), ("reason", dropped.reason.to_owned())]));
        let before =
            self.left_out.iter().map(|(path, reason)| Value::map([("path", path.clone()), ("reason", reason.clone())]));
        let more = self.merge.as_ref().map_or(0, |merge| merge.dropped_more);
        let more = (more > 0).then(|| Value::map([("path", format!("and {more} more"))]));
        before.chain(merged).chain(more).collect()
    }

    fn all_warnings(&self) -> Vec<Value> {
        let merged = self.merge.iter().flat_map(|merge| &merge.warnings);
        let more = self.merge.as_ref().map_or(0, |merge| merge.warnings_more);
        let more = (more > 0).then(|| format!("and {more} more"));
        self.warnings.iter().chain(merged).cloned().chain(more).map(Value::from).collect()
    }
}
