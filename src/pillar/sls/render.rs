//! Jinja: a template and whatever it includes to one text, within bounds.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::Value as Jinja;
use minijinja::{AutoEscape, Environment, Error as JinjaError, ErrorKind, UndefinedBehavior};

use super::marks::{self, Lines};
use super::values::to_jinja;
use super::{DUMP, Variables, filters};
use crate::error::{Error, Kind, Result};
use crate::pillar::Files;
use crate::pillar::recorder::MOST_BYTES;

/// Steps of the template engine; a database of 5,000 machines in a loop takes some 200,000.
const MOST_STEPS: u64 = 50_000_000;

/// The most files one template may include.
const MOST_FILES: usize = 200;

/// The templates known so far by name; none where no file of that name is.
type Known = BTreeMap<String, Option<Arc<str>>>;

/// One run of a template, with what it asked for and nobody had read.
struct Run {
    result: std::result::Result<String, JinjaError>,
    unknown: Vec<String>,
}

/// The rendered text, and where its lines stood.
pub(super) fn render(
    path: &Path,
    root: &Path,
    variables: &Variables<'_>,
    files: &dyn Files,
) -> Result<(String, Lines)> {
    let main = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
    let mut known: Known = BTreeMap::from([(main.clone(), files.text(path)?)]);
    let context = context(&main, variables);
    loop {
        let run = run(&main, &known, &context, false);
        if run.unknown.is_empty() {
            let clean = run.result.map_err(|error| told(&error, root, &known, path))?;
            let lines = lines(&main, root, &known, &context, &clean);
            return Ok((clean, lines));
        }
        for name in run.unknown {
            if known.len() >= MOST_FILES {
                let told = format!("{}: more than {MOST_FILES} files are included", path.display());
                return Err(Error::new(Kind::Limit, told));
            }
            let text = files.text(&root.join(&name))?;
            known.insert(name, text);
        }
    }
}

/// Where the lines of the rendered text stood, told by a second run with marks.
fn lines(main: &str, root: &Path, known: &Known, context: &Jinja, clean: &str) -> Lines {
    let sources = || known.iter().filter_map(|(name, text)| text.as_ref().map(|text| (name, text)));
    let source = known.get(main).cloned().flatten().unwrap_or_default();
    let unknown = Lines::unknown(&root.join(main), &source);
    if sources().any(|(_, text)| marks::is_taken(text)) {
        return unknown;
    }
    // The file that everything begins with is the first.
    let mut ordered: Vec<(&String, &Arc<str>)> = sources().collect();
    ordered.sort_by_key(|(name, _)| name.as_str() != main);
    let marked: Known = ordered
        .iter()
        .enumerate()
        .map(|(number, (name, text))| ((*name).clone(), Some(Arc::from(marks::marked(text, number)))))
        .chain(known.iter().filter(|(_, text)| text.is_none()).map(|(name, _)| (name.clone(), None)))
        .collect();
    let files = ordered.iter().map(|(name, text)| (Arc::from(root.join(name)), Arc::clone(text))).collect();
    match run(main, &marked, context, true).result {
        Ok(text) => Lines::of(files, &text, clean).unwrap_or(unknown),
        Err(_) => unknown,
    }
}

fn context(main: &str, variables: &Variables<'_>) -> Jinja {
    let with_id = |value: &crate::vocab::Value| {
        let mut map = value.as_map().cloned().unwrap_or_default();
        map.insert("id".into(), variables.id.as_str().into());
        to_jinja(&crate::vocab::Value::Map(map))
    };
    let folder = Path::new(main).parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    Jinja::from_pairs([
        ("opts", with_id(variables.opts)),
        ("grains", with_id(variables.grains)),
        ("saltenv", Jinja::from("base")),
        ("env", Jinja::from("base")),
        ("tplfile", Jinja::from(main)),
        ("tpldir", Jinja::from(if folder.is_empty() { ".".to_owned() } else { folder })),
    ])
}

fn run(main: &str, known: &Known, context: &Jinja, marked: bool) -> Run {
    let unknown = Arc::new(Mutex::new(Vec::new()));
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_debug(true);
    environment.set_fuel(Some(MOST_STEPS));
    environment.set_path_join_callback(|name, parent| joined(name, parent).into());
    filters::install(&mut environment);
    let (templates, asked) = (known.clone(), Arc::clone(&unknown));
    environment.set_loader(move |name| match templates.get(name) {
        Some(text) => Ok(text.as_ref().map(ToString::to_string)),
        None if is_below(name) => {
            asked.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
            Ok(None)
        }
        None => Err(JinjaError::new(ErrorKind::BadInclude, format!("`{name}` is not below the pillar root"))),
    });
    // Marks may make a text several times as long.
    let limit = if marked { MOST_BYTES * 4 } else { MOST_BYTES };
    let mut output = Bounded { text: Vec::new(), limit };
    let result = environment
        .get_template(main)
        .and_then(|template| template.render_captured_to(context.clone(), &mut output).map(drop))
        .map(|()| String::from_utf8_lossy(&output.text).into_owned());
    drop(environment);
    let unknown = std::mem::take(&mut *unknown.lock().unwrap_or_else(PoisonError::into_inner));
    Run { result, unknown }
}

/// The name of an included file: below the root, or beside the including one where it begins with a dot.
fn joined(name: &str, parent: &str) -> String {
    if !name.starts_with("./") && !name.starts_with("../") {
        return name.to_owned();
    }
    let mut path = Path::new(parent).parent().map(Path::to_owned).unwrap_or_default();
    for part in Path::new(name).components() {
        match part {
            // What leads out of the root keeps its dots, and is refused.
            Component::ParentDir if !path.pop() => return name.to_owned(),
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    path.to_string_lossy().into_owned()
}

fn is_below(name: &str) -> bool {
    !name.is_empty()
        && !name.contains('\0')
        && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A text that ends with an error when it gets too long.
struct Bounded {
    text: Vec<u8>,
    limit: u64,
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if (self.text.len() + bytes.len()) as u64 > self.limit {
            return Err(Error::new(Kind::Limit, format!("renders to more than {} bytes", self.limit)).into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A template's failure as `FILE:LINE:COLUMN: what`, with what helps.
fn told(error: &JinjaError, root: &Path, known: &Known, main: &Path) -> Error {
    // The innermost one that knows its line: an include's failure has the included file's as its source.
    let mut innermost = error;
    let mut cause = std::error::Error::source(error);
    let mut limit = None;
    while let Some(next) = cause {
        match next.downcast_ref::<JinjaError>() {
            Some(inner) if inner.line().is_some() => innermost = inner,
            _ => limit = limit.or_else(|| find_own(next)),
        }
        cause = next.source();
    }
    let name = innermost.name().unwrap_or_default();
    let file: PathBuf = if name.is_empty() { main.to_owned() } else { root.join(name) };
    let source = known.get(name).cloned().flatten().unwrap_or_default();
    let line = innermost.line().unwrap_or(1);
    let shown = source.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let (column, blamed) = match innermost.range().and_then(|range| Some((range.start, source.get(range)?))) {
        Some((start, blamed)) => {
            let begin = source[..start].rfind('\n').map_or(0, |at| at + 1);
            (source[begin..start].chars().count() + 1, blamed)
        }
        None => (1, shown),
    };
    let place = format!("{}:{line}:{column}", file.display());
    if let Some((kind, message)) = limit {
        return Error::new(kind, format!("{place}: {message}"));
    }
    let line_shown = format!("the line is `{}`", shown.trim().chars().take(160).collect::<String>().escape_debug());
    let is_undefined =
        matches!(innermost.kind(), ErrorKind::UndefinedError | ErrorKind::UnknownMethod | ErrorKind::UnknownFunction);
    let error = match innermost.kind() {
        _ if is_undefined && (names(blamed, "salt") || names(shown, "salt") || names(shown, "__salt__")) => {
            return Error::new(Kind::Unsupported, format!("{place}: a call into Salt, which is not here"))
                .caused_by(line_shown)
                .hint(format!("write the value down, {DUMP}"));
        }
        _ if is_undefined && (names(blamed, "pillar") || names(shown, "pillar")) => {
            return Error::new(Kind::Usage, format!("{place}: `pillar` is what is being made, and not defined here"))
                .caused_by(line_shown);
        }
        ErrorKind::OutOfFuel => {
            Error::new(Kind::Limit, format!("{place}: the template takes more than {MOST_STEPS} steps"))
        }
        kind => {
            let detail = innermost.detail().map_or_else(String::new, |detail| format!(": {detail}"));
            Error::new(Kind::Usage, format!("{place}: {kind}{detail}"))
        }
    };
    let is_import = ["import_yaml", "import_json", "import_text", "load_yaml", "load_json", "load_text"];
    match is_import.into_iter().find(|tag| names(shown, tag)) {
        Some(tag) if innermost.kind() == ErrorKind::SyntaxError => error.caused_by(line_shown).hint(format!(
            "Salt's tag `{tag}` is not known here: use `{{% import %}}` of macros or the filter `load_yaml`"
        )),
        _ if innermost.kind() == ErrorKind::UndefinedError => {
            error.caused_by(line_shown).hint("give it a value where it may be missing: `{{ name | default('value') }}`")
        }
        _ => error.caused_by(line_shown),
    }
}

/// castoff's own error inside of what a writer or loader gave the template engine.
fn find_own(error: &(dyn std::error::Error + 'static)) -> Option<(Kind, String)> {
    let own = error.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Error>()?;
    Some((own.kind(), own.message().to_owned()))
}

/// Whether a text has this word.
fn names(text: &str, word: &str) -> bool {
    text.split(|character: char| !character.is_alphanumeric() && character != '_').any(|part| part == word)
}
