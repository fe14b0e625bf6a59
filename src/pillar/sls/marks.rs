//! Which line of which template a rendered line came from.
//!
//! A template is rendered twice: as it is, and with a mark at the beginning of each of its lines. A mark is made of kinds of
//! blank that Jinja's `-%}` strips as any other, so marks do not change what is stripped. Where both results are the same
//! but for the marks, the marks tell the lines; where they are not, a template has looked at its own text, and the lines
//! are those of the result.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::error::Error;

/// Blanks that stand for the digits 0 to 7, and around them.
const DIGITS: [char; 8] =
    ['\u{2000}', '\u{2001}', '\u{2002}', '\u{2003}', '\u{2004}', '\u{2005}', '\u{2006}', '\u{2007}'];
const BEGIN: char = '\u{2008}';
const END: char = '\u{2009}';

/// A rendered text's lines, and where they stood.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    files: Vec<(Arc<Path>, Arc<str>)>,
    /// File and line of each rendered line; none where a rendered line is one of the first file.
    known: Option<Vec<(usize, usize)>>,
    rendered: bool,
}

impl Lines {
    /// Lines of a file that was not rendered.
    pub(super) fn identical(path: &Path) -> Self {
        Self { files: vec![(Arc::from(path), Arc::from(""))], known: None, rendered: false }
    }

    /// Lines that nothing is known about but what file was rendered.
    pub(super) fn unknown(path: &Path, source: &Arc<str>) -> Self {
        Self { files: vec![(Arc::from(path), Arc::clone(source))], known: None, rendered: true }
    }

    /// Lines told by the marks in `marked`, if it is `clean` but for them.
    pub(super) fn of(files: Vec<(Arc<Path>, Arc<str>)>, marked: &str, clean: &str) -> Option<Self> {
        let mut known = Vec::new();
        let mut bare = String::with_capacity(clean.len());
        // The first file's first line has no mark before it when blanks at its beginning were stripped.
        let mut at = (0, 1);
        let mut begun = false;
        let mut characters = marked.chars();
        while let Some(character) = characters.next() {
            if character == BEGIN {
                let mut numbers = [0_usize; 2];
                let mut which = 0;
                for digit in characters.by_ref() {
                    match DIGITS.iter().position(|known| *known == digit) {
                        Some(value) => numbers[which] = numbers[which] * 8 + value,
                        None if digit == BEGIN && which == 0 => which = 1,
                        None if digit == END => break,
                        None => return None,
                    }
                }
                at = (numbers[0], numbers[1]);
                continue;
            }
            if !begun {
                known.push(at);
                begun = true;
            }
            bare.push(character);
            if character == '\n' {
                begun = false;
            }
        }
        if !begun {
            known.push(at);
        }
        let is_known = bare == clean && known.iter().all(|(file, _)| *file < files.len());
        is_known.then_some(Self { files, known: Some(known), rendered: true })
    }

    /// File and line of a rendered line, both counted from 1.
    pub(super) fn origin(&self, line: usize) -> (&Arc<Path>, usize) {
        let last = self.known.as_ref().and_then(|known| known.get(line.saturating_sub(1)).or(known.last()));
        match last {
            Some((file, line)) => (&self.files[*file].0, *line),
            None => (&self.files[0].0, line),
        }
    }

    /// An error of the parser, which was told no name, at the place in the template; the rendered line is shown where it is
    /// another one.
    pub(super) fn blame(&self, error: &Error, text: &str) -> Error {
        let message = error.message();
        let mut parts = message.splitn(4, ':').skip(1);
        let (Some(Ok(line)), Some(Ok(column)), Some(what)) =
            (parts.next().map(str::parse::<usize>), parts.next().map(str::parse::<usize>), parts.next())
        else {
            return Error::new(error.kind(), format!("{}: {message}", self.files[0].0.display()));
        };
        let (file, own_line) = self.origin(line);
        let told = Error::new(error.kind(), format!("{}:{own_line}:{column}:{what}", file.display()));
        let rendered = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
        let source = self.files.iter().find(|(path, _)| path == file).map_or("", |(_, source)| source);
        if !self.rendered || source.lines().nth(own_line.saturating_sub(1)) == Some(rendered) {
            return told;
        }
        let whence = if self.known.is_some() { "" } else { "; the line given is that of the rendered text" };
        let shown: String = rendered.chars().take(160).collect();
        told.caused_by(format!("line {line} of the rendered text is `{}`{whence}", shown.escape_debug()))
    }
}

/// Whether marks would be mistaken in this text.
pub(super) fn is_taken(text: &str) -> bool {
    text.contains([BEGIN, END]) || text.contains(DIGITS)
}

/// The template with a mark at the beginning of each line that is not within a tag.
pub(super) fn marked(text: &str, file: usize) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut line = 1;
    mark(&mut out, file, line);
    let mut rest = text;
    while let Some(next) = rest.find(['\n', '{']) {
        let (before, tail) = rest.split_at(next);
        out.push_str(before);
        let tag = ["{{", "{%", "{#"].into_iter().find(|open| tail.starts_with(open));
        let taken = match tag {
            None if tail.starts_with('\n') => {
                out.push('\n');
                line += 1;
                // The last line end of a template is dropped, and must stay the last.
                if tail.len() > 1 {
                    mark(&mut out, file, line);
                }
                1
            }
            None => {
                out.push('{');
                1
            }
            Some(open) => {
                let length = tag_length(tail, open);
                let tag = &tail[..length];
                out.push_str(tag);
                let lines = tag.matches('\n').count();
                line += lines;
                if lines > 0 {
                    mark(&mut out, file, line);
                }
                length
            }
        };
        rest = &tail[taken..];
    }
    out.push_str(rest);
    out
}

/// The bytes of the tag that a text begins with; strings inside may hold what looks like its end.
fn tag_length(text: &str, open: &str) -> usize {
    let close = match open {
        "{{" => "}}",
        "{%" => "%}",
        _ => "#}",
    };
    if open == "{#" {
        return text.find(close).map_or(text.len(), |at| at + close.len());
    }
    let mut quote = None;
    let mut characters = text.char_indices().skip(2);
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), close) if open == close => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, _) if text[at..].starts_with(close) => return at + close.len(),
            (Some(_) | None, _) => {}
        }
    }
    text.len()
}

fn mark(out: &mut String, file: usize, line: usize) {
    let digits = |number: usize| {
        let mut text = String::new();
        let _infallible = write!(text, "{number:o}");
        text.bytes().map(|digit| DIGITS[usize::from(digit - b'0')]).collect::<String>()
    };
    out.push(BEGIN);
    out.push_str(&digits(file));
    out.push(BEGIN);
    out.push_str(&digits(line));
    out.push(END);
}
