//! Values whose every part knows the layer it came from; how layers are merged; what an operator is told of it.
//!
//! All image settings are computed on [`Traced`], so that `settings.explain` and the pillar come from one code path.
//! Pure. Merging makes new values: no layer is ever changed or shared by a later merge.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::document::{Node, Place, Spanned};
use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::vocab::{Key, Value};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// castoff's own default.
    Default,
    /// A file of the pillar root.
    File(Arc<Section>, Place),
    /// A version or md5 file of a released image.
    VersionFile(Arc<Path>),
    /// Minion options, or castoff's own configuration; the text says which.
    Opts(Arc<str>),
    /// The pillar that was passed in.
    Pillar,
    /// The grains that were passed in.
    Grains,
    /// A grain that castoff detected.
    Detected,
    /// Computed; the text says from what.
    Derived(Arc<str>),
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The file.
    pub file: Arc<Path>,
    /// The top-level key below which the value stands; empty for the whole file.
    pub name: String,
}

impl Origin {
    /// A computed value; `from` says from what.
    pub fn derived(from: impl Into<Arc<str>>) -> Self {
        Self::Derived(from.into())
    }

    /// The layer's name: one word, or a few.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::File(..) => "database",
            Self::VersionFile(_) => "version file",
            Self::Opts(_) => "opts",
            Self::Pillar => "pillar",
            Self::Grains => "grains",
            Self::Detected => "detected grain",
            Self::Derived(_) => "derived",
        }
    }

    /// Layer, and where they are known, file, section, line, column or source, as a map.
    pub fn to_value(&self) -> Value {
        let mut members = vec![("layer", Value::from(self.layer()))];
        match self {
            Self::Default | Self::Pillar | Self::Grains | Self::Detected => {}
            Self::File(section, place) => {
                members.push(("file", Value::from(section.file.display().to_string())));
                if !section.name.is_empty() {
                    members.push(("section", Value::from(section.name.as_str())));
                }
                members.push(("line", Value::from(place.line)));
                members.push(("column", Value::from(place.column)));
            }
            Self::VersionFile(file) => members.push(("file", Value::from(file.display().to_string()))),
            Self::Opts(source) => members.push(("source", Value::from(&**source))),
            Self::Derived(from) => members.push(("from", Value::from(&**from))),
        }
        Value::map(members)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("castoff's default"),
            Self::File(section, place) => {
                write!(formatter, "{}:{}:{}", section.file.display(), place.line, place.column)
            }
            Self::VersionFile(file) => write!(formatter, "{}", file.display()),
            Self::Opts(source) => write!(formatter, "opts ({source})"),
            Self::Pillar => formatter.write_str("the pillar passed in"),
            Self::Grains => formatter.write_str("the grains passed in"),
            Self::Detected => formatter.write_str("a detected grain"),
            Self::Derived(from) => write!(formatter, "computed from {from}"),
        }
    }
}

/// A value whose every part knows where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// Where it came from; of a merged map, where its first layer came from.
    pub origin: Origin,
    /// What it is.
    pub node: TracedNode,
}

/// What a traced value is.
#[derive(Clone, Debug, PartialEq)]
pub enum TracedNode {
    /// A value without parts.
    Scalar(Value),
    /// A list.
    List(Vec<Traced>),
    /// A map in its order.
    Map(TracedMap),
}

/// The members of a traced map.
pub type TracedMap = IndexMap<Key, Traced>;

/// One scalar, empty list or empty map inside of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<'a> {
    /// The keys and indices that lead to it.
    pub path: Vec<String>,
    /// The leaf.
    pub value: &'a Traced,
}

impl Traced {
    /// A value all of whose parts came from one place.
    pub fn from_value(value: Value, origin: &Origin) -> Self {
        let node = match value {
            Value::List(items) => {
                TracedNode::List(items.into_iter().map(|item| Self::from_value(item, origin)).collect())
            }
            Value::Map(map) => {
                TracedNode::Map(map.into_iter().map(|(key, value)| (key, Self::from_value(value, origin))).collect())
            }
            scalar => TracedNode::Scalar(scalar),
        };
        Self { origin: origin.clone(), node }
    }

    /// What was read from this part of a file, every part with its line and column.
    pub fn from_spanned(spanned: Spanned, section: &Arc<Section>) -> Self {
        let node = match spanned.node {
            Node::Scalar(value) => TracedNode::Scalar(value),
            Node::List(items) => {
                TracedNode::List(items.into_iter().map(|item| Self::from_spanned(item, section)).collect())
            }
            Node::Map(members) => TracedNode::Map(
                members.into_iter().map(|(key, _, value)| (key, Self::from_spanned(value, section))).collect(),
            ),
        };
        Self { origin: Origin::File(Arc::clone(section), spanned.place), node }
    }

    /// A scalar.
    pub fn scalar(value: impl Into<Value>, origin: &Origin) -> Self {
        Self { origin: origin.clone(), node: TracedNode::Scalar(value.into()) }
    }

    /// A map without members.
    pub fn empty_map(origin: &Origin) -> Self {
        Self { origin: origin.clone(), node: TracedNode::Map(TracedMap::new()) }
    }

    /// The value, origins forgotten.
    pub fn into_value(self) -> Value {
        match self.node {
            TracedNode::Scalar(value) => value,
            TracedNode::List(items) => Value::List(items.into_iter().map(Self::into_value).collect()),
            TracedNode::Map(members) => {
                Value::Map(members.into_iter().map(|(key, value)| (key, value.into_value())).collect())
            }
        }
    }

    /// A copy of the value without origins.
    pub fn to_value(&self) -> Value {
        match &self.node {
            TracedNode::Scalar(value) => value.clone(),
            TracedNode::List(items) => Value::List(items.iter().map(Self::to_value).collect()),
            TracedNode::Map(members) => {
                Value::Map(members.iter().map(|(key, value)| (key.clone(), value.to_value())).collect())
            }
        }
    }

    /// The member of a map under a text key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.get(&Key::from(key))
    }

    /// The members of a map.
    pub fn as_map(&self) -> Option<&TracedMap> {
        match &self.node {
            TracedNode::Map(members) => Some(members),
            TracedNode::Scalar(_) | TracedNode::List(_) => None,
        }
    }

    /// The items of a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.node {
            TracedNode::List(items) => Some(items),
            TracedNode::Scalar(_) | TracedNode::Map(_) => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.node {
            TracedNode::Scalar(value) => value.as_str(),
            TracedNode::List(_) | TracedNode::Map(_) => None,
        }
    }

    /// Whether Python takes it for true.
    pub fn is_truthy(&self) -> bool {
        match &self.node {
            TracedNode::Scalar(Value::Null) => false,
            TracedNode::Scalar(Value::Bool(value)) => *value,
            TracedNode::Scalar(Value::Int(number)) => *number != 0,
            TracedNode::Scalar(Value::Float(number)) => *number != 0.0,
            TracedNode::Scalar(Value::String(text)) => !text.is_empty(),
            TracedNode::Scalar(Value::List(_) | Value::Map(_)) => true,
            TracedNode::List(items) => !items.is_empty(),
            TracedNode::Map(members) => !members.is_empty(),
        }
    }

    /// The word for this value's type in messages.
    pub fn type_name(&self) -> &'static str {
        match &self.node {
            TracedNode::Scalar(value) => value.type_name(),
            TracedNode::List(_) => "list",
            TracedNode::Map(_) => "map",
        }
    }

    /// The error that this value, found under `field`, is not what is expected; it names the file and line.
    pub fn wrong(&self, field: &str, expected: &str) -> Error {
        Error::new(Kind::Usage, format!("{}: `{field}` must be {expected}, not a {}", self.origin, self.type_name()))
    }

    /// This value under another, which wins: maps are merged member by member, everything else is replaced.
    ///
    /// Members of this map keep their places, new ones follow in the order of the other.
    #[must_use]
    pub fn merge(self, over: Self) -> Self {
        match (self.node, over.node) {
            (TracedNode::Map(mut members), TracedNode::Map(overs)) => {
                for (key, value) in overs {
                    match members.entry(key) {
                        indexmap::map::Entry::Vacant(place) => {
                            place.insert(value);
                        }
                        indexmap::map::Entry::Occupied(mut place) => {
                            let known = std::mem::replace(place.get_mut(), Self::scalar(Value::Null, &Origin::Default));
                            place.insert(known.merge(value));
                        }
                    }
                }
                Self { origin: self.origin, node: TracedNode::Map(members) }
            }
            (_, node) => Self { origin: over.origin, node },
        }
    }

    /// The part under a dotted path; a key that itself holds dots is found too, the shortest first.
    pub fn find(&self, path: &str) -> Option<&Self> {
        match &self.node {
            TracedNode::Scalar(_) => None,
            TracedNode::List(items) => {
                let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
                let item = items.get(first.parse::<usize>().ok()?)?;
                rest.map_or(Some(item), |rest| item.find(rest))
            }
            TracedNode::Map(members) => {
                let ends = path.match_indices('.').map(|(at, _)| at);
                let inner = ends.into_iter().find_map(|end| {
                    members.get(&Key::from(&path[..end])).and_then(|member| member.find(&path[end + 1..]))
                });
                inner.or_else(|| members.get(&Key::from(path)))
            }
        }
    }

    /// Every scalar, empty list and empty map inside, with its path.
    pub fn leaves(&self) -> Vec<Leaf<'_>> {
        fn walk<'a>(value: &'a Traced, path: &mut Vec<String>, leaves: &mut Vec<Leaf<'a>>) {
            match &value.node {
                TracedNode::List(items) if !items.is_empty() => {
                    for (index, item) in items.iter().enumerate() {
                        path.push(index.to_string());
                        walk(item, path, leaves);
                        path.pop();
                    }
                }
                TracedNode::Map(members) if !members.is_empty() => {
                    for (key, member) in members {
                        path.push(python::key_text(key));
                        walk(member, path, leaves);
                        path.pop();
                    }
                }
                TracedNode::Scalar(_) | TracedNode::List(_) | TracedNode::Map(_) => {
                    leaves.push(Leaf { path: path.clone(), value });
                }
            }
        }
        let mut leaves = Vec::new();
        walk(self, &mut Vec::new(), &mut leaves);
        leaves
    }

    /// For every leaf, by its dotted path below `path`: the value, and the layer, file and line it came from.
    pub fn explain(&self, path: &str) -> Value {
        Value::map(self.leaves().into_iter().map(|leaf| {
            let mut steps = if path.is_empty() { Vec::new() } else { vec![path.to_owned()] };
            steps.extend(leaf.path);
            let mut told = vec![(Key::from("value"), leaf.value.to_value())];
            if let Value::Map(origin) = leaf.value.origin.to_value() {
                told.extend(origin);
            }
            (steps.join("."), Value::map(told))
        }))
    }
}

/// The merge of layers, weakest first; anything but a map among them is an error that names it.
pub fn merge_maps(layers: impl IntoIterator<Item = Traced>) -> Result<Traced> {
    let mut merged: Option<Traced> = None;
    for layer in layers {
        if layer.as_map().is_none() {
            return Err(Error::new(
                Kind::Usage,
                format!("{}: a map is expected here, not a {}", layer.origin, layer.type_name()),
            ));
        }
        merged = Some(match merged {
            None => layer,
            Some(below) => below.merge(layer),
        });
    }
    Ok(merged.unwrap_or_else(|| Traced::empty_map(&Origin::Default)))
}
