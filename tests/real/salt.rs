//! castoff beside the real Salt: the same words typed the same, the same values printed the same.
//!
//! `CASTOFF_TEST_VENV` names a Python environment with what `tests/real/requirements.txt` lists.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use castoff::document;
use castoff::outputter::python;

fn venv(program: &str) -> PathBuf {
    let venv = std::env::var_os("CASTOFF_TEST_VENV").expect("CASTOFF_TEST_VENV names a Python environment with Salt");
    PathBuf::from(venv).join("bin").join(program)
}

/// What a Python program in Salt's environment prints for this input.
fn python(program: &str, input: &str) -> String {
    let mut child = Command::new(venv("python"))
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
