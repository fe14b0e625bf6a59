//! `castoff call` as a person or a script sees it: the real binary, its stdout, stderr and exit code.

use std::io::Read as _;
use std::process::{Command, Stdio};

use castoff::document;
use castoff::outputter::{Outputter, Style, python};
use castoff::vocab::{Key, Map, Value};
use insta::assert_snapshot;
use proptest::prelude::*;

fn castoff(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
    command
        .args(arguments)
        .env_clear()
        .env("CASTOFF_STATE_DIR", "/nonexistent")
        .env("CASTOFF_CONFIG_DIR", "/nonexistent");
    command
}

/// Exit code, stdout, stderr.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = castoff(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn shown(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = run(arguments);
    let streams = [("stdout", stdout), ("stderr", stderr)].map(|(name, text)| match text.as_str() {
        "" => String::new(),
        text => format!("--- {name}\n{text}"),
    });
    format!("exit {code}\n{}{}", streams[0], streams[1])
}

fn json(arguments: &[&str]) -> serde_json::Value {
    let (code, stdout, stderr) = run(arguments);
    assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
    serde_json::from_str(&stdout).unwrap()
}

/// What `salt-call test.arg_repr` 3008.3 prints for each word.
#[test]
fn words_are_typed_as_salt_call_types_them() {
    let table = [
        ("1", "1"),
        ("1.5", "1.5"),
        ("true", "True"),
        ("True", "True"),
        ("yes", "True"),
        ("on", "True"),
        ("y", "'y'"),
        ("n", "'n'"),
        ("None", "None"),
        ("null", "None"),
        ("NULL", "None"),
        ("~", "None"),
        ("", "''"),
        ("010", "10"),
        ("0755", "755"),
        ("01", "1"),
        ("0x10", "16"),
        ("0o17", "'0o17'"),
        ("1e3", "'1e3'"),
        ("1.0", "1.0"),
        (".5", "0.5"),
        (".inf", "inf"),
        (".nan", "nan"),
        ("1_000", "'1_000'"),
        ("1,000", "'1,000'"),
        ("a,b", "'a,b'"),
        ("2026-01-01", "'2026-01-01'"),
        ("12:30:45", "45045"),
        ("1:2", "62"),
        ("[1,2]", "[1, 2]"),
        ("{a: 1}", "{'a': 1}"),
        ("{\"a\": null}", "{'a': None}"),
        ("a: b", "'a: b'"),
        ("- a", "'- a'"),
        ("key:", "'key:'"),
        ("{not json", "'{not json'"),
        ("[1,", "'[1,'"),
        ("!x", "'!x'"),
        ("@y", "'@y'"),
        ("%z", "'%z'"),
        ("*", "'*'"),
        ("|", "'|'"),
        ("#foo", "'#foo'"),
        ("foo #bar", "'foo #bar'"),
        ("\"5\"", "'5'"),
        ("'5'", "'5'"),
        ("  sp ", "'sp'"),
        ("a\tb", "'a\\tb'"),
        ("[1]\n", "'[1]\\n'"),
        ("12345678901234567890", "'12345678901234567890'"),
    ];
    let mut arguments = vec!["call", "test.arg_repr", "--out=json", "--"];
    arguments.extend(table.iter().map(|(word, _)| *word));
    let expected: Vec<&str> = table.iter().map(|(_, repr)| *repr).collect();
    assert_eq!(json(&arguments)["local"]["args"], format!("({})", expected.join(", ")));
}

#[test]
fn keyword_arguments_are_told_from_values_as_salt_call_tells_them() {
    let words = [
        "x-y=1",
        "x.y=1",
        "é=1",
        "_=1",
        "d=",
        "g=x=y",
        "c=None",
        "1a=2",
        "a b=1",
        "a==b",
        "http://h/?q=1",
        "=1",
        "m=1\n2",
    ];
    let mut arguments = vec!["call", "test.arg_repr", "--out=json", "--"];
    arguments.extend(words);
    let result = json(&arguments);
    assert_eq!(result["local"]["kwargs"], "{'x-y': 1, 'x.y': 1, 'é': 1, '_': 1, 'd': '', 'g': 'x=y', 'c': None}");
    assert_eq!(result["local"]["args"], "('1a=2', 'a b=1', 'a==b', 'http://h/?q=1', '=1', 'm=1\\n2')");
}

#[test]
fn named_keyword_arguments_stay_text() {
    let result = json(&["call", "test.arg", "--no-parse=a,b", "a=[1,2]", "b=010", "c=010", "--out=json"]);
    assert_eq!(result["local"]["kwargs"], serde_json::json!({"a": "[1,2]", "b": "010", "c": 10}));
}

#[test]
fn every_outputter_writes_the_same_value_its_way() {
    let write = |outputter: &str| run(&["call", "test.echo", "{b: [1, {c: ~}], a: 'yes', d: 1.0}", outputter]).1;
    assert_snapshot!(write("--out=nested"), @r"
    local:
        ----------
        a:
            yes
        b:
            - 1
            |_
              ----------
              c:
                  None
        d:
            1.0
    ");
    assert_snapshot!(write("--out=json"), @r#"
    {
        "local": {
            "b": [
                1,
                {
                    "c": null
                }
            ],
            "a": "yes",
            "d": 1.0
        }
    }
    "#);
    assert_snapshot!(write("--out=yaml"), @r"
    local:
      a: 'yes'
      b:
      - 1
      - c: null
      d: 1.0
    ");
    assert_eq!(write("--out=raw"), "{'local': {'b': [1, {'c': None}], 'a': 'yes', 'd': 1.0}}\n");
    assert_eq!(write("--out=pprint"), "{'local': {'a': 'yes', 'b': [1, {'c': None}], 'd': 1.0}}\n");
    assert_eq!(write("--out=txt"), "local: {'b': [1, {'c': None}], 'a': 'yes', 'd': 1.0}\n");
}

#[test]
fn an_unknown_outputter_falls_back_to_nested_and_says_so() {
    for name in ["quiet", "newline_values_only", "table", "nope"] {
        let (code, stdout, stderr) = run(&["call", "test.ping", "--out", name]);
        assert_eq!((code, stdout.as_str()), (0, "local:\n    True\n"));
        assert_eq!(stderr, format!("[ERROR   ] Invalid outputter {name} specified, fall back to nested\n"));
    }
}

#[test]
fn json_with_infinities_is_still_json() {
    let result = json(&["call", "test.arg", ".inf", "-l", "quiet", "--out=json", "--", "-.inf", ".nan"]);
    assert_eq!(result["local"]["args"], serde_json::json!(["Infinity", "-Infinity", "NaN"]));
}

#[test]
fn colour_is_for_terminals_or_on_demand() {
    assert!(!run(&["call", "test.ping"]).1.contains('\x1b'));
    assert_eq!(
        run(&["call", "test.ping", "--force-color"]).1,
        "\x1b[0;36mlocal\x1b[0;0m:\n    \x1b[0;1;33mTrue\x1b[0;0m\n"
    );
    assert!(run(&["call", "test.echo", "\"\\e[31mred\""]).1.contains("?[31mred"));
}

#[test]
fn wrong_calls_are_told_in_the_places_and_with_the_codes_of_salt_call() {
    assert_snapshot!(shown(&["call", "test.pin"]), @r"
    exit 255
    --- stderr
    'test.pin' is not available.

    hint: did you mean `test.ping`?
    ");
    assert_snapshot!(shown(&["call", "test.echo"]), @r"
    exit 1
    --- stdout

        Return the argument.

            castoff call test.echo 'foo bar'

        Usage: test.echo text

        Arguments:
            text (anything)
                What to return.

    --- stderr

    Passed invalid arguments: echo() missing 1 required positional argument: 'text'.

    Usage:
    ");
    assert_snapshot!(shown(&["call", "test.echo", "x", "c=3", "tex=[1]"]), @r"
    exit 1
    --- stderr
    The following keyword arguments are not valid: c=3, tex=[1]

    hint: did you mean `text` for `tex`?
    ");
    assert_snapshot!(shown(&["call", "test.retcode", "300"]), @r"
    exit 1
    --- stderr
    Error running 'test.retcode': 300 is not a return code
    Caused by: out of range integral type conversion attempted
    ");
    assert_snapshot!(shown(&["call", "test.ping", "--return=redis"]), @r"
    exit 64
    --- stderr
    error: `--return` is an option of salt-call that castoff does not have

    hint: castoff has no returners; use `--out-file`
    ");
    assert_snapshot!(shown(&["call"]), @r"
    exit 64
    --- stderr
    error: no function is named

    hint: `castoff call sys.list_functions` lists them, `castoff call --help` shows how to call one
    ");
}

#[test]
fn exit_codes_are_those_of_salt_call_and_no_failure_is_zero() {
    for (arguments, code) in [
        (vec!["test.ping"], 0),
        (vec!["test.echo", "None"], 0),
        (vec!["test.echo", "{result: False}"], 1),
        (vec!["test.echo", "{success: False}"], 1),
        (vec!["test.echo", "{result: True}"], 0),
        // A `test=True` that found something to do.
        (vec!["test.echo", "{result: None}"], 0),
        (vec!["test.false"], 1),
        (vec!["test.retcode", "3"], 1),
        (vec!["test.retcode", "3", "--retcode-passthrough"], 3),
        (vec!["test.retcode", "300", "--retcode-passthrough"], 64),
        (vec!["test.echo", "--retcode-passthrough"], 64),
        (vec!["no.such"], 255),
        (vec!["no.such", "--out=json"], 255),
        (vec!["test.arg", "-3"], 64),
        (vec!["test.arg", "-x"], 64),
        (vec!["test.ping", "-l", "loud"], 64),
        (vec!["test.ping", "-l", "garbage"], 0),
        (vec!["-d", "test.ping"], 0),
        (vec!["-d", "test.pong"], 66),
        (vec!["test.ping", "--local", "--skip-grains", "-c", "/nonexistent", "--id=x"], 0),
    ] {
        let all: Vec<&str> = ["call"].into_iter().chain(arguments).collect();
        let (found, stdout, stderr) = run(&all);
        assert_eq!(found, code, "{all:?}\n{stdout}{stderr}");
        assert!(code != 255 || stdout.is_empty(), "{stdout}");
    }
}

#[test]
fn metadata_is_what_salt_call_shows() {
    let result = json(&["call", "--metadata", "--id=m1", "test.echo", "010", "--out=json", "--set-metadata={a: 1}"]);
    let local = result["local"].as_object().unwrap();
    let names: Vec<&str> = local.keys().map(String::as_str).collect();
    assert_eq!(names, ["jid", "return", "retcode", "id", "fun", "fun_args", "metadata"]);
    let jid = local["jid"].as_str().unwrap();
    assert!(jid.len() == 20 && jid.starts_with("20") && jid.bytes().all(|byte| byte.is_ascii_digit()), "{jid}");
    assert_eq!(
        (&local["return"], &local["id"], &local["fun_args"]),
        (&10.into(), &"m1".into(), &serde_json::json!(["010"]))
    );
}

#[test]
fn a_result_goes_to_a_file_that_holds_nothing_old() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let file = path.to_str().unwrap();
    let text = || std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        run(&["call", "test.echo", "first", "--out=txt", "--out-file", file]),
        (0, String::new(), String::new())
    );
    assert_eq!(text(), "local: first\n");
    run(&["call", "test.echo", "second", "--out=txt", "--out-file", file, "--out-file-append"]);
    assert_eq!(text(), "local: first\nlocal: second\n");
    run(&["call", "test.retcode", "300", "--out-file", file]);
    assert_eq!(text(), "");
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = castoff(&["call", "sys.doc"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""));
}

#[test]
fn what_is_not_known_of_castoff_itself_is_a_usage_error() {
    assert_snapshot!(shown(&["doctr"]), @r"
    exit 64
    --- stderr
    error: unrecognized subcommand 'doctr'

      tip: a similar subcommand exists: 'doctor'

    Usage: castoff [OPTIONS] <COMMAND>

    For more information, try '--help'.
    ");
    assert_eq!(run(&["--version"]), (0, format!("castoff {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn help_begins_with_examples_that_can_be_typed() {
    let (code, help, _) = run(&["--help"]);
    assert_eq!(code, 0);
    let (before, _) = help.split_once("Usage:").unwrap();
    assert!(before.contains("Examples:\n  castoff doctor\n"), "{help}");
    for word in ["call", "config", "doctor", "completion", "--state-dir", "--engine"] {
        assert!(help.contains(word), "{word}");
    }
    let (_, call_help, _) = run(&["call", "--help"]);
    for word in ["--out ", "--out-file", "--retcode-passthrough", "--no-parse", "test=True", "test.arg -- -3"] {
        assert!(call_help.contains(word), "{word}");
    }
    assert!(!call_help.contains("--return"), "what castoff cannot do is not offered");
}

#[test]
fn completion_scripts_know_options_and_functions() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, stderr) = run(&["completion", shell]);
        assert_eq!((code, stderr.as_str()), (0, ""));
        for word in ["out-file", "test.ping", "sys.list_functions"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn functions_are_listed_and_described_in_salts_shapes() {
    let list = json(&["call", "sys.list_functions", "sys", "test.ping", "--out=json"]);
    let names = list["local"].as_array().unwrap();
    assert!(names.contains(&"sys.doc".into()) && names.contains(&"test.ping".into()));
    assert!(!names.contains(&"test.echo".into()));
    assert_eq!(json(&["call", "sys.list_modules", "t*", "--out=json"])["local"], serde_json::json!(["test"]));
    assert_eq!(
        json(&["call", "sys.argspec", "test.retcode", "--out=json"])["local"],
        serde_json::json!({"test.retcode": {"args": ["code"], "defaults": [42], "varargs": null, "kwargs": null}})
    );
    let doc = json(&["call", "sys.doc", "test.ping", "--out=json"]);
    assert!(doc["local"]["test.ping"].as_str().unwrap().starts_with("Return True"));
    let version = json(&["call", "sys.version", "--out=json"]);
    assert_eq!(version["local"]["version"], env!("CARGO_PKG_VERSION"));
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        let key = prop_oneof![any::<String>().prop_map(Key::from), any::<i128>().prop_map(Key::Int), Just(Key::Null)];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|members| Value::Map(members.into_iter().collect::<Map>())),
        ]
    })
}

proptest! {
    #[test]
    fn typing_never_fails_and_text_with_line_breaks_stays_text(word in "\\PC{0,40}|[\\[\\]{}:,?&*!|>'\"%@`#a1 -]{0,30}", tail in "[\n\t\r]") {
        document::argument(&word);
        let broken = format!("{word}{tail}");
        prop_assert_eq!(document::argument(&broken), Value::from(broken.as_str()));
    }

    #[test]
    fn json_always_parses(value in any_value(), indent in prop::option::of(-2_i64..6)) {
        let text = Outputter::Json.write(&value, &Style { indent, ..Style::default() });
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn yaml_and_python_writers_never_fail(value in any_value(), indent in prop::option::of(-2_i64..12)) {
        let style = Style { indent, ..Style::default() };
        for outputter in [Outputter::Nested, Outputter::Yaml, Outputter::Highstate, Outputter::Text, Outputter::Raw, Outputter::Pprint] {
            outputter.write(&value, &style);
        }
        prop_assert!(!python::repr(&value).is_empty());
    }
}
