//! From a parsed document to values that know which file, section and place they came from.

use std::path::Path;
use std::sync::Arc;

use super::traced::{Origin, Section, Traced, TracedMap, TracedNode};
use crate::document::{Node, Place, Spanned};
use crate::outputter::python;

/// A document whose parts know their file, top-level key and place; `file` and `place` tell where a place really is.
pub(super) fn in_sections(
    document: Spanned,
    file: impl Fn(Place) -> Arc<Path>,
    place: impl Fn(Place) -> Place,
) -> Traced {
    let section = |at: Place, name: String| Arc::new(Section { file: file(at), name });
    let whole = Origin::File(section(document.place, String::new()), place(document.place));
    let node = match document.node {
        Node::Map(members) => TracedNode::Map(
            members
                .into_iter()
                .map(|(key, at, value)| {
                    let section = section(at, python::key_text(&key));
                    (key, traced(value, &section, &place))
                })
                .collect::<TracedMap>(),
        ),
        Node::Scalar(value) => TracedNode::Scalar(value),
        Node::List(items) => {
            let section = section(document.place, String::new());
            TracedNode::List(items.into_iter().map(|item| traced(item, &section, &place)).collect())
        }
    };
    Traced { origin: whole, node }
}

fn traced(spanned: Spanned, section: &Arc<Section>, place: &impl Fn(Place) -> Place) -> Traced {
    let node = match spanned.node {
        Node::Scalar(value) => TracedNode::Scalar(value),
        Node::List(items) => TracedNode::List(items.into_iter().map(|item| traced(item, section, place)).collect()),
        Node::Map(members) => TracedNode::Map(
            members.into_iter().map(|(key, _, value)| (key, traced(value, section, place))).collect::<TracedMap>(),
        ),
    };
    Traced { origin: Origin::File(Arc::clone(section), place(spanned.place)), node }
}
