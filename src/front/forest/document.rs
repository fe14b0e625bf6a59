//! The document of a forest as Go's decoder reads it, each value with its place.

use super::action::Action;
use crate::document::{Node, Place, Spanned};
use crate::plan::Problem;
use crate::vocab::{Key, Value, nearest};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    /// `FILE:LINE:COLUMN`.
    pub(super) place: String,
    /// Its path in the document: `[2].actions[0].op.File`.
    pub(super) field: String,
}

/// An image as it is written.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) whole: At<()>,
    /// None where it is no text.
    pub(super) name: Option<At<String>>,
    pub(super) parent: Option<At<String>>,
    pub(super) size: Option<At<String>>,
    pub(super) bootable: Option<At<bool>>,
    pub(super) packages: Vec<At<String>>,
    pub(super) actions: Vec<Action>,
}

const FOREST: &[&str] = &["Dir", "Images"];
const IMAGE: &[&str] = &["name", "parent", "image_size", "bootable", "packages", "actions"];

/// Reads parts of the document, and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    file: &'a str,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<String>,
}

/// A part of the document and its path.
#[derive(Clone)]
pub(super) struct Part<'s> {
    spanned: &'s Spanned,
    field: String,
}

impl<'s> Part<'s> {
    /// The keys of a map.
    pub(super) fn keys(&self) -> Vec<&'s str> {
        match &self.spanned.node {
            Node::Map(members) => members.iter().map(|(key, _, _)| key_text(key)).collect(),
            Node::Scalar(_) | Node::List(_) => Vec::new(),
        }
    }
}

/// The members of a map by the names that the reader knows.
pub(super) struct Members<'s> {
    found: Vec<(&'static str, Part<'s>)>,
}

impl<'s> Members<'s> {
    pub(super) fn get(&self, name: &str) -> Option<&Part<'s>> {
        self.found.iter().find(|(known, _)| *known == name).map(|(_, part)| part)
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, problems: Vec::new(), notes: Vec::new() }
    }

    /// The images of a bare list, or of the object that the Go package saves.
    pub(super) fn forest(&mut self, whole: &Spanned) -> Vec<Image> {
        let whole = Part { spanned: whole, field: String::new() };
        let list = if matches!(whole.spanned.node, Node::Map(_)) {
            let members = self.members(&whole, FOREST);
            members.get("Images").cloned()
        } else {
            Some(whole)
        };
        let items = list.map(|list| self.items(&list)).unwrap_or_default();
        items.iter().filter_map(|item| self.image(item)).collect()
    }

    fn image(&mut self, part: &Part<'_>) -> Option<Image> {
        if self.is_no_map(part) {
            return None;
        }
        let members = self.members(part, IMAGE);
        let whole = self.at(part, ());
        let absent = self.at_absent(part, "name");
        let name = members.get("name").map_or(Some(absent), |part| self.text(part));
        // As with Go's decoder: empty is as good as absent.
        let mut given = |name: &str| {
            let text = members.get(name).and_then(|part| self.text(part));
            text.filter(|text| !text.value.is_empty())
        };
        let (parent, size) = (given("parent"), given("image_size"));
        let bootable = members.get("bootable").and_then(|part| self.boolean(part));
        let packages = members.get("packages").map(|part| self.items(part)).unwrap_or_default();
        let packages = packages.iter().filter_map(|part| self.text(part)).collect();
        let actions = members.get("actions").map(|part| self.items(part)).unwrap_or_default();
        let actions = actions.iter().filter_map(|part| Action::read(self, part)).collect();
        Some(Image { whole, name, parent, size, bootable, packages, actions })
    }

    pub(super) fn at<T>(&self, part: &Part<'_>, value: T) -> At<T> {
        At { value, place: self.place(part.spanned.place), field: part.field.clone() }
    }

    /// An empty text in the place of a member that is not there.
    pub(super) fn at_absent(&self, part: &Part<'_>, name: &str) -> At<String> {
        let field = format!("{}.{name}", part.field);
        At { value: String::new(), field, ..self.at(part, String::new()) }
    }

    /// Whether it is `null`.
    pub(super) fn is_null(part: &Part<'_>) -> bool {
        part.spanned.node == Node::Scalar(Value::Null)
    }

    fn place(&self, place: Place) -> String {
        format!("{}:{}:{}", self.file, place.line, place.column)
    }

    /// Notes that something is wrong with this part.
    pub(super) fn problem(&mut self, part: &Part<'_>, what: &str) {
        let problem = self.at(part, ()).problem(what);
        self.problems.push(problem);
    }

    /// Whether this is no map, which then is a problem.
    pub(super) fn is_no_map(&mut self, part: &Part<'_>) -> bool {
        let wrong = !matches!(part.spanned.node, Node::Map(_));
        if wrong {
            self.problem(part, &format!("must be a map, not {}", described(part.spanned)));
        }
        wrong
    }

    /// The members of a map whose keys, in any case, are known; none of anything else.
    pub(super) fn members<'s>(&mut self, part: &Part<'s>, known: &[&'static str]) -> Members<'s> {
        let mut found: Vec<(&'static str, Part<'s>)> = Vec::new();
        let Node::Map(members) = &part.spanned.node else { return Members { found } };
        for (key, place, value) in members {
            let key = key_text(key);
            let name = known.iter().find(|name| folded(name) == folded(key));
            let dot = if part.field.is_empty() { "" } else { "." };
            let field = format!("{}{dot}{}", part.field, name.copied().unwrap_or(key).escape_debug());
            let Some(name) = name else {
                self.note_unknown(key, &field, *place, known);
                continue;
            };
            if found.iter().any(|(other, _)| other == name) {
                let what = format!("`{field}`: stands twice");
                self.problems.push(Problem { place: self.place(*place), what });
                continue;
            }
            found.push((name, Part { spanned: value, field }));
        }
        Members { found }
    }

    fn note_unknown(&mut self, key: &str, field: &str, place: Place, known: &[&'static str]) {
        /// Enough to see what is going on.
        const MOST_NOTES: usize = 100;
        if self.notes.len() < MOST_NOTES {
            let like = nearest(key, known.iter().copied());
            let like = like.first().map(|like| format!(", did you mean `{like}`?")).unwrap_or_default();
            self.notes.push(format!("{}: `{field}` is not known and means nothing{like}", self.place(place)));
        }
    }

    /// The items of a list; none of `null`.
    pub(super) fn items<'s>(&mut self, part: &Part<'s>) -> Vec<Part<'s>> {
        match &part.spanned.node {
            Node::List(items) => items
                .iter()
                .enumerate()
                .map(|(at, spanned)| Part { spanned, field: format!("{}[{at}]", part.field) })
                .collect(),
            Node::Scalar(Value::Null) => Vec::new(),
            Node::Scalar(_) | Node::Map(_) => {
                self.problem(part, &format!("must be a list, not {}", described(part.spanned)));
                Vec::new()
            }
        }
    }

    /// A text; an empty one for `null`, none for what is no text, which then is a problem.
    pub(super) fn text(&mut self, part: &Part<'_>) -> Option<At<String>> {
        let text = match &part.spanned.node {
            Node::Scalar(Value::String(text)) => text.clone(),
            Node::Scalar(Value::Null) => String::new(),
            Node::Scalar(_) | Node::List(_) | Node::Map(_) => {
                self.problem(part, &format!("must be a text, not {}", described(part.spanned)));
                return None;
            }
        };
        Some(self.at(part, text))
    }

    fn boolean(&mut self, part: &Part<'_>) -> Option<At<bool>> {
        match &part.spanned.node {
            Node::Scalar(Value::Bool(value)) => Some(self.at(part, *value)),
            Node::Scalar(Value::Null) => None,
            Node::Scalar(_) | Node::List(_) | Node::Map(_) => {
                self.problem(part, &format!("must be true or false, not {}", described(part.spanned)));
                None
            }
        }
    }
}

fn key_text(key: &Key) -> &str {
    key.as_str().unwrap_or_default()
}

/// A key as Go's decoder compares it: letters whose simple case folding is an ASCII letter count as that letter.
fn folded(key: &str) -> String {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    key.chars().map(fold).collect()
}

fn described(spanned: &Spanned) -> &'static str {
    match &spanned.node {
        Node::Scalar(Value::Null) => "null",
        Node::Scalar(Value::Bool(_)) => "a boolean",
        Node::Scalar(Value::Int(_) | Value::Float(_)) => "a number",
        Node::Scalar(_) => "a text",
        Node::List(_) => "a list",
        Node::Map(_) => "a map",
    }
}
