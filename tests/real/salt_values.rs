//! castoff beside the real Salt, in its own Python: the same words typed the same, the same values printed the same.
//!
//! `CASTOFF_TEST_VENV` names a Python environment with what `tests/real/requirements.txt` lists.

use std::io::Write as _;
use std::process::Stdio;

use castoff::document;
use castoff::outputter::{Outputter, StateDetail, StateMode, Style, python};
use castoff::vocab::{Key, Value};

use crate::harness::python_program;

/// What a Python program in Salt's environment prints for this input.
fn python(program: &str, input: &str) -> String {
    let mut child = python_program("python")
        .args(["-W", "ignore", "-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// A small generator with a fixed seed: the same words in every run.
struct Words(u64);

impl Words {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn word(&mut self, pieces: &[&str], most: usize) -> String {
        let count = 1 + self.below(most);
        (0..count).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

const YAMLIFY: &str = "
import sys, json, salt.utils.args
for line in sys.stdin:
    print(json.dumps(repr(salt.utils.args.yamlify_arg(json.loads(line)))))
";

/// Words whose type differs, as `word: castoff's / Salt's`.
fn typed_otherwise(words: &[String]) -> Vec<String> {
    let input: String = words.iter().map(|word| serde_json::to_string(word).unwrap() + "\n").collect();
    let output = python(YAMLIFY, &input);
    let salt: Vec<String> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(salt.len(), words.len());
    words
        .iter()
        .zip(salt)
        .map(|(word, salt)| (word, python::repr(&document::argument(word)), salt))
        .filter(|(_, ours, salt)| ours != salt)
        .map(|(word, ours, salt)| format!("{word:?}: {ours} / {salt}"))
        .collect()
}

#[test]
fn scalars_are_typed_as_salt_types_them() {
    let pieces = [
        "0",
        "1",
        "7",
        "9",
        "12",
        "60",
        "_",
        "-",
        "+",
        ".",
        ":",
        "e",
        "E",
        "x",
        "b",
        "o",
        "0x",
        "0b",
        "inf",
        "nan",
        "NaN",
        "2026-01-01",
        "T",
        " ",
        "Z",
        "00:00:00",
    ];
    let mut source = Words(1);
    let mut words: Vec<String> = (0..20_000).map(|_| source.word(&pieces, 6)).collect();
    words.extend(
        [
            "true",
            "True",
            "TRUE",
            "tRue",
            "yes",
            "Yes",
            "on",
            "off",
            "n",
            "y",
            "null",
            "~",
            "None",
            "none",
            "",
            " ",
            "---",
            "...",
            "--- a",
            "<<",
            "=",
            "  sp ",
            "\ta",
            "a\n",
            "é",
            "😀",
            "\u{a0}1",
            "\u{7f}",
            "\u{feff}1",
            "!!int 5",
            "!!str 5",
            "!!float 5",
            "!!bool yes",
            "! 5",
            "!",
            "|",
            ">",
            "-",
            "?",
            ":",
            "%",
            "@",
            "`",
            "&a",
            "&a b",
            "*a",
            "!x",
            "!!x",
            "1e3",
            "089",
            "0o17",
            "'5'",
            "\"5\"",
            "\"\\n\"",
            "'it''s'",
            "a: b",
            "- a",
            "key:",
            "#foo",
            "foo #bar",
            "1 #bar",
            "[1] # x",
            "a: 1 # x",
            "- 1 # x",
        ]
        .map(str::to_owned),
    );
    let wrong = typed_otherwise(&words);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), words.len(), wrong[..wrong.len().min(150)].join("\n"));
}

#[test]
fn flow_collections_are_typed_as_salt_types_them() {
    let pieces = [
        "[", "]", "{", "}", ",", ", ", ": ", ":", "a", "b", "1", "'", "\"", " ", "#", "&x ", "*x", "!", "!!str ", "?",
        "? ", "- ", "|", "null", "<<", "yes", "é", "\\", "1.5", "{a: 1}", "[1, 2]", "%", "@", "=",
    ];
    let mut source = Words(2);
    let mut words: Vec<String> = (0..20_000).map(|_| source.word(&pieces, 8)).collect();
    for (open, close) in [("[", "]"), ("{", "}")] {
        words.extend((0..10_000).map(|_| format!("{open}{}{close}", source.word(&pieces, 7))));
    }
    // Left to libyaml: block collections with a comment in one line, and a `]` that it swallows behind `?`.
    words.retain(|word| !word.contains("? ]") && (!word.contains('#') || word.starts_with(['[', '{'])));
    assert!(words.len() > 30_000);
    let wrong = typed_otherwise(&words);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), words.len(), wrong[..wrong.len().min(150)].join("\n"));
}

const OUTPUT: &str = r#"
import sys, json, salt.config, salt.output
nan, inf = float('nan'), float('inf')
made = {}
for line in sys.stdin:
    out, indent, color, retcode, data = json.loads(line)
    if not made:
        mine = dict(salt.config.DEFAULT_MINION_OPTS, output=out, color=color)
        if indent is not None:
            mine['output_indent'] = indent
        made[out] = salt.output.get_printout(out, mine)
        salt.output.get_printout = lambda out, opts: made[out]
    print(json.dumps(salt.output.try_printout(eval(data), out, {}, _retcode=retcode)))
"#;

/// Values with all that outputters stumble over.
fn value(words: &mut Words, depth: usize) -> Value {
    let texts = [
        "",
        " ",
        "a",
        "yes",
        "no",
        "null",
        "~",
        "1",
        "010",
        "1.5",
        "1e3",
        "1.0e+3",
        "2026-01-01",
        "=",
        "<<",
        "a: b",
        "a:",
        ":a",
        "- a",
        "-",
        "?",
        "? a",
        "#a",
        "a #b",
        "a#b",
        "[a]",
        "{a}",
        "a, b",
        "'",
        "\"",
        "it's",
        "it's \"x\"",
        "%",
        "@a",
        "`a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "---",
        "--- a",
        "...",
        "a\nb",
        "a\n",
        "\na",
        "a\n\nb",
        "a\r\nb",
        "a \nb",
        "a\n b",
        " a",
        "a ",
        "\ta",
        "a\tb",
        "é",
        "日本語",
        "😀",
        "\u{a0}",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{0}",
        "\u{1b}[31m",
        "\u{7f}",
        "\\",
        "a\\b",
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty",
        "it's one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen: sixteen seventeen eighteen nineteen",
        "tab\tone two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen  sixteen seventeen eighteen nineteen",
        "lines\none two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen\nsixteen seventeen eighteen nineteen",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    let scalar = |words: &mut Words| match words.below(10) {
        0 => Value::Null,
        1 => Value::Bool(words.below(2) == 0),
        2 => Value::Int([0, -1, 7, 1 << 40, -(1 << 100)][words.below(5)]),
        3 => Value::Float(
            [0.0, -0.0, 1.5, 1e16, 1e-7, 123456.789, 1e300, f64::INFINITY, f64::NEG_INFINITY][words.below(9)],
        ),
        _ => Value::from(texts[words.below(texts.len())]),
    };
    match words.below(if depth > 4 { 3 } else { 6 }) {
        0..=2 => scalar(words),
        3 => Value::List((0..words.below(5)).map(|_| value(words, depth + 1)).collect()),
        _ => {
            let mixed = words.below(5) == 0;
            let members = (0..words.below(6)).map(|_| {
                let key = match scalar(words) {
                    key @ Value::String(_) => key,
                    // Equal keys of two types are one key in Python.
                    Value::Bool(_) | Value::Float(_) if mixed => Value::from("f"),
                    key if mixed => key,
                    key => Value::from(python::text(&key)),
                };
                (Key::try_from(key).unwrap(), value(words, depth + 1))
            });
            Value::Map(members.collect::<Vec<_>>().into_iter().collect())
        }
    }
}

/// Texts that differ, of this many values in this style.
fn written_otherwise(name: &str, values: &[Value], style: &Style) -> Vec<String> {
    let request = |value: &Value| {
        let data = python::repr(value);
        serde_json::json!([name, style.indent, style.color, style.retcode, data]).to_string() + "\n"
    };
    let salt = python(OUTPUT, &values.iter().map(request).collect::<String>());
    let salt: Vec<String> = salt.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(salt.len(), values.len());
    let outputter = Outputter::named(name).unwrap();
    values
        .iter()
        .zip(salt)
        .map(|(value, salt)| (value, outputter.write(value, style), salt))
        .filter(|(_, ours, salt)| ours != salt)
        .map(|(value, ours, salt)| format!("{}\n--- ours\n{ours}\n--- Salt\n{salt}\n", python::repr(value)))
        .collect()
}

#[test]
fn values_are_written_as_salt_writes_them() {
    let mut words = Words(3);
    let values: Vec<Value> = (0..3_000).map(|_| Value::map([("local", value(&mut words, 0))])).collect();
    // JSON with NaN and Infinity is castoff's own.
    let finite: Vec<Value> = values.iter().filter(|value| !python::repr(value).contains("inf")).cloned().collect();
    let plain = Style::default();
    for (name, values, style) in [
        ("nested", &values, plain.clone()),
        ("nested", &values, Style { color: true, retcode: 1, ..plain.clone() }),
        ("json", &finite, plain.clone()),
        ("json", &finite, Style { indent: Some(-1), ..plain.clone() }),
        ("json", &finite, Style { indent: Some(0), ..plain.clone() }),
        ("yaml", &values, plain.clone()),
        ("yaml", &values, Style { indent: Some(4), ..plain.clone() }),
        ("yaml", &values, Style { indent: Some(-1), ..plain.clone() }),
        ("raw", &values, plain.clone()),
        ("txt", &values, plain.clone()),
        ("pprint", &values, plain.clone()),
        ("pprint", &values, Style { indent: Some(3), ..plain.clone() }),
    ] {
        let wrong = written_otherwise(name, values, &style);
        assert!(
            wrong.is_empty(),
            "{name} {style:?}: {} of {}:\n{}",
            wrong.len(),
            values.len(),
            wrong.iter().min_by_key(|text| text.len()).unwrap()
        );
    }
}

const HIGHSTATE: &str = r#"
import sys, json, salt.config, salt.output, copy
for line in sys.stdin:
    mode, verbose, color, data = json.loads(line)
    opts = dict(salt.config.DEFAULT_MINION_OPTS, color=color, state_output=mode, state_verbose=verbose)
    print(json.dumps(salt.output.out_format(eval(data), 'highstate', opts)))
"#;

#[test]
fn state_runs_are_reported_as_salt_reports_them() {
    let run = document::parse(
        "local:
  file_|-motd_|-/etc/motd_|-managed:
    {result: true, comment: 'File /etc/motd is in the correct state', changes: {}, name: /etc/motd, __run_num__: 1,
     start_time: '10:00:00.1', duration: 12.5}
  cmd_|-hello_|-echo hello_|-run:
    {result: true, comment: \"Command run\\ntwice\", changes: {pid: 7, stdout: hello}, name: echo hello, __run_num__: 0,
     start_time: '10:00:00.0', duration: 1200.25}
  pkg_|-vim_|-vim_|-installed:
    {result: null, comment: would be installed, changes: {vim: {old: '', new: '9'}}, name: vim, __run_num__: 2,
     start_time: '10:00:00.2', duration: 3, warnings: [one, two words]}
  service_|-x_|-x_|-running: {result: false, comment: [no, such], changes: {}, name: x, __run_num__: 3}
",
        "x",
    )
    .unwrap();
    let modes = [
        ("full", StateMode::Full),
        ("terse", StateMode::Terse),
        ("mixed", StateMode::Mixed),
        ("changes", StateMode::Changes),
    ];
    let mut input = String::new();
    let mut ours = Vec::new();
    for (mode, parsed) in modes {
        for by_id in [false, true] {
            for changes_only in [false, true] {
                for color in [false, true] {
                    let name = if by_id { format!("{mode}_id") } else { mode.to_owned() };
                    input += &format!("{}\n", serde_json::json!([name, !changes_only, color, python::repr(&run)]));
                    let states = StateDetail { mode: parsed, by_id };
                    let style = Style { color, states, changes_only, ..Style::default() };
                    ours.push(Outputter::Highstate.write(&run, &style));
                }
            }
        }
    }
    let salt = python(HIGHSTATE, &input);
    let salt: Vec<String> = salt.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ours.len(), salt.len());
    for ((ours, salt), request) in ours.iter().zip(&salt).zip(input.lines()) {
        assert_eq!(ours, salt, "{request}");
    }
}

const YAML_LOAD: &str = "
import sys, json, salt.utils.yaml
for line in sys.stdin:
    print(json.dumps(repr(salt.utils.yaml.safe_load(json.loads(line)))))
";

#[test]
fn yaml_is_read_back_as_the_same_value_by_salt_and_by_castoff() {
    let mut words = Words(4);
    // YAML 1.2 took U+2028 off the line breaks, which libyaml still writes as it stands.
    // Behind the last value stands a word, since white space at the end of an output is stripped.
    let mut values: Vec<Value> =
        (0..1_000).map(|_| Value::List(vec![value(&mut words, 0), Value::from("end")])).collect();
    values.retain(|value| !python::repr(value).contains("\\u2028"));
    assert!(values.len() > 500);
    let texts: Vec<String> = values.iter().map(|value| Outputter::Yaml.write(value, &Style::default())).collect();
    let input: String = texts.iter().map(|text| serde_json::to_string(text).unwrap() + "\n").collect();
    let salt = python(YAML_LOAD, &input);
    let sorted = |value: &Value| Outputter::Pprint.write(value, &Style::default());
    for ((value, text), salt) in values.iter().zip(&texts).zip(salt.lines()) {
        let salt: String = serde_json::from_str(salt).unwrap();
        let own = document::parse(text, "x").unwrap_or_else(|error| panic!("{error}:\n{text}"));
        assert_eq!(sorted(&own), sorted(value), "{text}");
        assert_eq!(python::repr(&own), salt, "{text}");
    }
}
