//! YAML and JSON texts: what they mean, where they are wrong, and what a hostile one may cost.

use castoff::document::{MAX_DEPTH, Place, parse, parse_json, parse_spanned};
use castoff::error::Kind;
use castoff::vocab::{Key, Value};

fn wrong(text: &str) -> (Kind, String) {
    let error = parse(text, "pillar.yaml").unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn scalars_have_salts_types() {
    let text = "a: yes\nb: 'yes'\nc: 010\nd: 2026-01-01\ne: 1.5\nf:\ng: !!str 5\nh: 1:30\n3: x\n";
    assert_eq!(
        parse(text, "x").unwrap(),
        Value::Map(
            [
                (Key::from("a"), Value::from(true)),
                (Key::from("b"), Value::from("yes")),
                (Key::from("c"), Value::from(10)),
                (Key::from("d"), Value::from("2026-01-01")),
                (Key::from("e"), Value::from(1.5)),
                (Key::from("f"), Value::Null),
                (Key::from("g"), Value::from("5")),
                (Key::from("h"), Value::from(90)),
                (Key::Int(3), Value::from("x")),
            ]
            .into_iter()
            .collect()
        )
    );
    assert_eq!(parse("", "x").unwrap(), Value::Null);
    assert_eq!(parse("# nothing\n", "x").unwrap(), Value::Null);
}

#[test]
fn a_merge_yields_to_what_the_map_says_itself() {
    let text = "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\nall:\n  <<: [*base, *other]\n  a: 9\n";
    let value = parse(text, "x").unwrap();
    assert_eq!(value.get("all").unwrap(), &Value::map([("b", 2), ("c", 4), ("a", 9)]));
}

#[test]
fn errors_name_file_line_and_column() {
    assert_eq!(
        wrong("a: 1\nb: 2\na: 3\n"),
        (Kind::Usage, "pillar.yaml:3:1: the key `a` stands twice, first in line 1".into())
    );
    let (_, message) = wrong("a: [1\nb: 2\n");
    assert!(message.starts_with("pillar.yaml:2:"), "{message}");
    assert_eq!(wrong("a: !secret x\n").1, "pillar.yaml:1:4: the tag `!secret` is not known here");
    assert_eq!(wrong("a: =\n").1, "pillar.yaml:1:4: `=` is not a value");
    assert_eq!(wrong("---\na: 1\n---\nb: 2\n").1, "pillar.yaml:3:1: a second document begins where one is expected");
    assert_eq!(wrong("? [a]\n: 1\n").1, "pillar.yaml:1:3: a list cannot be a key");
    assert_eq!(
        parse_json("{\"a\": 1,\n \"a\": 2}", "x.json").unwrap_err().to_string(),
        "x.json:2:8: the key `a` stands twice"
    );
    assert!(parse_json("{\"a\": 1,\n}", "x.json").unwrap_err().to_string().starts_with("x.json:2:1: "));
}

#[test]
fn parts_know_their_places() {
    let root = parse_spanned("a:\n  b:\n    - x\n    - c: 1\n", "x").unwrap();
    assert_eq!(root.at(&["a", "b", "1", "c"]).unwrap().place, Place { line: 4, column: 10 });
    assert!(root.at(&["a", "nope"]).is_none() && root.at(&["a", "b", "7"]).is_none());
}

#[test]
fn a_few_lines_cannot_fill_the_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = level - 1;
        let items = vec![format!("*a{before}"); 10].join(", ");
        text += &format!("a{level}: &a{level} [{items}]\n");
    }
    let (kind, message) = wrong(&text);
    assert_eq!(kind, Kind::Limit, "{message}");
    assert_eq!(wrong("&a [*a]").0, Kind::Usage);
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(parse(&nested(MAX_DEPTH), "x").is_ok());
    assert_eq!(wrong(&nested(MAX_DEPTH + 1)).0, Kind::Limit);
    assert_eq!(wrong(&nested(100_000)).0, Kind::Limit);
    let through_alias = format!("a: &a {}\nb: {}*a{}\n", nested(80), "[".repeat(40), "]".repeat(40));
    assert_eq!(wrong(&through_alias).0, Kind::Limit);
    assert!(parse_json(&nested(100_000), "x").is_err());
}

#[test]
fn json_keeps_its_own_types() {
    let value = parse_json("{\"a\": 1e3, \"b\": \"yes\", \"c\": 18446744073709551615, \"d\": null}", "x").unwrap();
    assert_eq!(
        value,
        Value::map([("a", Value::from(1000.0)), ("b", "yes".into()), ("c", u64::MAX.into()), ("d", Value::Null)])
    );
}
