//! The report of a state run: what Salt prints for `{state: {result, changes, comment, __run_num__, …}}`.

use super::color::{Colors, defused};
use super::{StateMode, Style, nested, python};
use crate::vocab::{Map, Value};

/// The report; none when the value is not what state runs return.
pub(super) fn write(value: &Value, style: &Style) -> Option<String> {
    let hosts = value.as_map()?;
    if hosts.is_empty() || !hosts.values().all(is_run) {
        return None;
    }
    let reports: Option<Vec<String>> =
        hosts.iter().map(|(host, run)| Some(report(&python::key_text(host), run.as_map()?, style))).collect();
    Some(reports?.join("\n"))
}

/// Whether every member is a state's record under its four-part name.
fn is_run(run: &Value) -> bool {
    run.as_map().is_some_and(|states| {
        !states.is_empty()
            && states.iter().all(|(name, record)| {
                name.as_str().is_some_and(|name| name.split("_|-").count() == 4)
                    && ["result", "changes", "comment", "__run_num__"].iter().all(|key| record.get(key).is_some())
            })
    })
}

#[derive(Default)]
struct Counts {
    succeeded: usize,
    unchanged: usize,
    failed: usize,
    /// States with warnings that are shown whole: Salt counts no others.
    warnings: usize,
    changed: usize,
    milliseconds: f64,
    /// The longest of the states that ran side by side.
    parallel: f64,
}

fn report(host: &str, states: &Map, style: &Style) -> String {
    let colors = Colors::new(style.color);
    let mut counts = Counts::default();
    let mut lines = Vec::new();
    let mut host_color = colors.green;
    let order = |record: &Value| match record.get("__run_num__") {
        Some(Value::Int(number)) => *number,
        _ => 0,
    };
    let mut records: Vec<(&str, &Value)> =
        states.iter().filter_map(|(name, record)| Some((name.as_str()?, record))).collect();
    records.sort_by_key(|(_, record)| order(record));
    for (name, record) in records {
        let state = State::new(name, record, style, colors);
        count(&mut counts, &state);
        let quiet = style.changes_only && state.is_well() && !state.changed();
        if quiet {
            continue;
        }
        if state.failed() {
            host_color = colors.red;
        } else if state.would_change() {
            host_color = colors.light_yellow;
        }
        if state.is_terse(style) {
            lines.push(state.terse());
        } else {
            state.full(style, &mut lines);
            counts.warnings += usize::from(state.record.get("warnings").is_some());
        }
    }
    summary(host, &counts, colors, &mut lines);
    lines.insert(0, format!("{host_color}{}:{}", defused(host), colors.end));
    lines.join("\n")
}

fn count(counts: &mut Counts, state: &State<'_>) {
    if state.failed() {
        counts.failed += 1;
    } else if state.would_change() {
        counts.unchanged += 1;
    } else {
        counts.succeeded += 1;
    }
    counts.changed += usize::from(state.changed());
    let duration = match state.record.get("duration") {
        Some(Value::Float(number)) => *number,
        #[expect(clippy::cast_precision_loss, reason = "milliseconds")]
        Some(Value::Int(number)) => *number as f64,
        Some(Value::String(text)) => text.trim_end_matches(" ms").parse().unwrap_or(0.0),
        _ => 0.0,
    };
    if state.record.get("__parallel__").is_some() {
        counts.parallel = counts.parallel.max(duration);
    } else {
        counts.milliseconds += duration;
    }
}

struct State<'run> {
    /// Module, ID, name, function.
    parts: Vec<&'run str>,
    record: &'run Value,
    color: &'static str,
    colors: Colors,
}

impl<'run> State<'run> {
    fn new(name: &'run str, record: &'run Value, style: &Style, colors: Colors) -> Self {
        let mut parts: Vec<&str> = name.split("_|-").collect();
        if style.states.by_id {
            parts[2] = parts[1];
        }
        let mut state = Self { parts, record, color: colors.green, colors };
        state.color = if state.failed() {
            colors.red
        } else if state.would_change() {
            colors.light_yellow
        } else if state.changed() {
            colors.cyan
        } else {
            colors.green
        };
        state
    }

    fn result(&self) -> &Value {
        self.record.get("result").unwrap_or(&Value::Null)
    }

    fn failed(&self) -> bool {
        *self.result() == Value::Bool(false)
    }

    fn would_change(&self) -> bool {
        *self.result() == Value::Null
    }

    fn is_well(&self) -> bool {
        *self.result() == Value::Bool(true)
    }

    fn changes(&self) -> &Value {
        self.record.get("changes").unwrap_or(&Value::Null)
    }

    fn changed(&self) -> bool {
        match self.changes() {
            Value::Map(map) => !map.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::String(text) => !text.is_empty(),
            Value::Null | Value::Bool(false) => false,
            Value::Bool(true) | Value::Int(_) | Value::Float(_) => true,
        }
    }

    fn is_terse(&self, style: &Style) -> bool {
        match style.states.mode {
            StateMode::Full => false,
            StateMode::Terse => true,
            StateMode::Mixed => !self.failed(),
            StateMode::Changes => self.is_well() && !self.changed(),
        }
    }

    fn terse(&self) -> String {
        let result = if self.failed() {
            "Failed"
        } else if self.would_change() {
            "Differs"
        } else if self.changed() {
            "Changed"
        } else {
            "Clean"
        };
        let warnings = self.record.get("warnings").map_or_else(String::new, |warnings| {
            format!("{}Warnings:\n{}{}", self.colors.light_red, joined(warnings), self.colors.end)
        });
        let times = self.record.get("start_time").map_or_else(String::new, |start| {
            let duration = self.record.get("duration").map_or_else(String::new, python::text);
            format!(" - Started: {} - Duration: {duration} ms", python::text(start))
        });
        format!(
            "{warnings} {} Name: {} - Function: {}.{} - Result: {result}{times}{}",
            self.color, self.parts[2], self.parts[0], self.parts[3], self.colors.end
        )
    }

    fn full(&self, style: &Style, lines: &mut Vec<String>) {
        let (color, end) = (self.color, self.colors.end);
        let field = |name: &str| self.record.get(name).map_or_else(String::new, python::text);
        let mut fields = vec![("ID", self.parts[1].to_owned())];
        fields.push(("Function", format!("{}.{}", self.parts[0], self.parts[3])));
        if self.parts[1] != self.parts[2] {
            fields.push(("Name", self.parts[2].to_owned()));
        }
        fields.push(("Result", python::text(self.result())));
        fields.push(("Comment", self.comment()));
        if self.record.get("start_time").is_some() {
            let duration = field("duration");
            fields.push(("Started", field("start_time")));
            fields.push(("Duration", if duration.is_empty() { duration } else { format!("{duration} ms") }));
        }
        lines.push(format!("{color}----------{end}"));
        lines.extend(fields.into_iter().map(|(label, text)| format!("    {color}{label:>8}: {text}{end}")));
        lines.push(format!("{color}     Changes:   {}{end}", self.shown_changes(style)));
        if let Some(warnings) = self.record.get("warnings") {
            let light_red = self.colors.light_red;
            lines.push(format!("   {light_red} Warnings: {}{end}", wrapped(&joined(warnings))));
        }
    }

    fn comment(&self) -> String {
        let text = self.record.get("comment").map_or_else(String::new, python::text);
        let mut comment = text.trim().replace('\n', "\n              ");
        match self.record.get("data") {
            None => {}
            Some(Value::List(items)) => {
                for item in items {
                    comment = format!("{comment} {}", python::text(item));
                }
            }
            Some(Value::Map(map)) => {
                for (key, value) in map {
                    comment = format!("{comment}\n\t\t{}: {}", python::key_text(key), python::text(value));
                }
            }
            Some(other) => comment = format!("{comment} {}", python::text(other)),
        }
        comment
    }

    fn shown_changes(&self, style: &Style) -> String {
        match self.changes() {
            _ if !self.changed() => String::new(),
            changes @ Value::Map(_) => {
                let inner = Style { retcode: 0, ..style.clone() };
                format!("\n{}", nested::write(changes, &inner, 14).trim_end())
            }
            other => format!("Invalid Changes data: {}", python::text(other)),
        }
    }
}

fn joined(warnings: &Value) -> String {
    match warnings {
        Value::List(items) => items.iter().map(python::text).collect::<Vec<_>>().join("\n"),
        other => python::text(other),
    }
}

/// `textwrap.fill` at 80 columns with 14 before each line, the first 14 taken off again.
fn wrapped(text: &str) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let length = lines[last].chars().count();
        if length > 0 && 14 + length + 1 + word.chars().count() > 80 {
            lines.push(word.to_owned());
        } else if length > 0 {
            lines[last] = format!("{} {word}", lines[last]);
        } else {
            lines[last] = word.to_owned();
        }
    }
    lines.join("\n              ")
}

fn summary(host: &str, counts: &Counts, colors: Colors, lines: &mut Vec<String>) {
    let total = counts.succeeded + counts.unchanged + counts.failed;
    let widest = [counts.succeeded, counts.unchanged, counts.failed, counts.warnings]
        .iter()
        .filter(|count| **count > 0)
        .map(|count| count.to_string().len())
        .max()
        .unwrap_or(1);
    // The longest label is `Succeeded`.
    let width = "Succeeded".len() + widest + 2;
    let rule = "-".repeat(width);
    let Colors { red, light_red, green, light_yellow, cyan, end } = colors;
    let labelled = |label: &str, count: usize| format!("{label}: {count:>width$}", width = width - label.len() - 2);
    lines.push(format!("{cyan}\nSummary for {host}\n{rule}{end}"));
    let mut notes = Vec::new();
    if counts.unchanged > 0 {
        notes.push(format!("{light_yellow}unchanged={}{end}", counts.unchanged));
    }
    if counts.changed > 0 {
        notes.push(format!("{green}changed={}{end}", counts.changed));
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    lines.push(format!("{green}{}{end}{notes}", labelled("Succeeded", counts.succeeded + counts.unchanged)));
    let color = if counts.failed > 0 { red } else { cyan };
    lines.push(format!("{color}{}{end}", labelled("Failed", counts.failed)));
    if counts.warnings > 0 {
        lines.push(format!("{light_red}{}{end}", labelled("Warnings", counts.warnings)));
    }
    lines.push(format!("{cyan}{rule}\nTotal states run: {total:>width$}{end}", width = width - 7));
    let milliseconds = counts.milliseconds + counts.parallel;
    let (time, unit) = if milliseconds > 999.0 { (milliseconds / 1000.0, "s") } else { (milliseconds, "ms") };
    lines.push(format!("{cyan}Total run time: {time:>width$.3} {unit}{end}", width = width - 5));
}
