//! `castoff call` beside `salt-call`: the same words, the same output, the same exit code.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::python_program;

/// A run of `castoff call` and of `salt-call` with the same words.
struct Both {
    words: Vec<String>,
    castoff: Output,
    salt: Output,
}

fn both(config: &Path, words: &[&str]) -> Both {
    let castoff = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .arg("call")
        .args(words)
        .env("CASTOFF_STATE_DIR", config.join("state"))
        .output()
        .unwrap();
    let salt = python_program("salt-call")
        .env("PYTHONWARNINGS", "ignore")
        .args(["--local", "--skip-grains", "--id=m1", "-c"])
        .arg(config)
        .args(words)
        .output()
        .unwrap();
    Both { words: words.iter().map(|word| (*word).to_owned()).collect(), castoff, salt }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Both {
    /// Exit codes and whole outputs are the same.
    fn agree(&self) {
        assert_eq!(
            lossy(&self.castoff.stdout),
            lossy(&self.salt.stdout),
            "{:?}: {}",
            self.words,
            lossy(&self.castoff.stderr)
        );
        self.agree_on_code();
    }

    fn agree_on_code(&self) {
        assert_eq!(
            self.castoff.status.code(),
            self.salt.status.code(),
            "{:?}: {}",
            self.words,
            lossy(&self.salt.stderr)
        );
    }

    /// Both say this on stderr.
    fn say(&self, words: &str) {
        for (program, output) in [("castoff", &self.castoff), ("salt-call", &self.salt)] {
            assert!(lossy(&output.stderr).contains(words), "{program} {:?}: {}", self.words, lossy(&output.stderr));
        }
    }
}

/// A configuration folder for a minion without a master.
fn minion() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    std::fs::write(
        folder.path().join("minion"),
        format!("root_dir: {root}\nid: m1\nfile_client: local\nlog_file: {root}/log\n"),
    )
    .unwrap();
    folder
}

const DATA: &str = "{b: [1, [2, {c: ~}], 'it''s', \"x\\ny\"], a: 'yes', 1.5: é, d: 1e16, e: 2026-01-01, f: {}}";

#[test]
fn calls_answer_as_salt_call_answers() {
    let config = minion();
    let config = config.path();
    let words: Vec<&str> = "1 1.5 true yes on y None ~ 010 0x10 0o17 1e3 .5 1_000 1,000 2026-01-01 12:30:45 [1,2] {a: {not !x a=b= x-y=1 1a=2 a==b http://h/?q=1 d= g=x=y c=None"
        .split(' ')
        .collect();
    let with = |function: &'static str, options: &[&'static str]| {
        let mut all = vec![function];
        all.extend(&words);
        all.extend(["", "  sp ", "#foo", "foo #bar", "a\tb", "é=ü", "12345678901234567890"]);
        all.extend(options);
        both(config, &all).agree();
    };
    with("test.arg_clean", &["--out=json"]);
    with("test.arg_clean", &[]);
    with("test.arg_clean", &["--out=yaml", "--no-parse=d,x-y"]);
    for options in [
        &["--out=nested"][..],
        &["--out=json"],
        &["--out=json", "--out-indent=-1"],
        &["--out=yaml"],
        &["--out=yaml", "--out-indent=4"],
        &["--out=raw"],
        &["--out=txt"],
        &["--out=text"],
        &["--out=pprint"],
        &["--out=highstate"],
        &["--force-color"],
    ] {
        let mut all = vec!["test.echo", DATA];
        all.extend(options);
        both(config, &all).agree();
    }
    for words in [
        &["test.ping"][..],
        &["test.ping", "--out=json"],
        &["test.echo", ""],
        &["test.echo", "None"],
        &["test.echo", "{result: False}"],
        &["test.echo", "{success: False}", "--out=json"],
        &["test.retcode", "3"],
        &["test.retcode", "3", "--retcode-passthrough"],
        &["test.true"],
        &["test.ping", "-l", "quiet"],
        &["--", "test.echo", "-3"],
        &["sys.list_functions", "test.pi*", "--out=json"],
        &["sys.list_modules", "test", "--out=yaml"],
        &["sys.argspec", "test.echo", "--out=json"],
        &["sys.argspec", "test.ping"],
    ] {
        both(config, words).agree();
    }
}

#[test]
fn wrong_calls_are_told_as_salt_call_tells_them() {
    let config = minion();
    for (words, told) in [
        (
            &["test.echo"][..],
            "\nPassed invalid arguments: echo() missing 1 required positional argument: 'text'.\n\nUsage:\n",
        ),
        (
            &["test.echo", "a", "b"],
            "\nPassed invalid arguments: echo() takes 1 positional argument but 2 were given.\n\nUsage:\n",
        ),
        (
            &["test.ping", "x"],
            "\nPassed invalid arguments: ping() takes 0 positional arguments but 1 was given.\n\nUsage:\n",
        ),
        (
            &["test.echo", "a", "text=b"],
            "\nPassed invalid arguments: echo() got multiple values for argument 'text'.\n\nUsage:\n",
        ),
        (&["test.echo", "a", "c=3", "z=[1,'x']"], "The following keyword arguments are not valid: c=3, z=[1, 'x']\n"),
        (&["nothing.at_all"], "'nothing.at_all' is not available.\n"),
        (&["nothing.at_all", "--out=json"], "'nothing.at_all' is not available.\n"),
        (&["test.ping", "--out=nope"], "[ERROR   ] Invalid outputter nope specified, fall back to nested"),
        (
            &["test.ping", "--out=newline_values_only"],
            "[ERROR   ] Invalid outputter newline_values_only specified, fall back to nested",
        ),
    ] {
        let both = both(config.path(), words);
        both.agree_on_code();
        both.say(told);
        let stdout = |output: &Output| !output.stdout.is_empty();
        assert_eq!(stdout(&both.castoff), stdout(&both.salt), "{words:?}");
    }
    // Salt's exit code of a usage error is the shell's 64 too.
    for words in [&["test.arg", "-3"][..], &["test.ping", "-l", "loud"], &["--no-such-option", "test.ping"], &[]] {
        both(config.path(), words).agree_on_code();
    }
}

#[test]
fn metadata_has_salts_members_in_salts_order() {
    let config = minion();
    let both = both(config.path(), &["test.echo", "010", "--metadata", "--out=json", "--id=m1"]);
    both.agree_on_code();
    let without_jid = |output: &Output| {
        let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["local"]["jid"].as_str().unwrap().len(), 20);
        value["local"]["jid"] = serde_json::Value::Null;
        // Members keep their order here.
        value.to_string()
    };
    assert_eq!(without_jid(&both.castoff), without_jid(&both.salt));
}
