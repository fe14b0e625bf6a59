//! Laws of merging and resolving, whatever the values are.

use castoff::error::Kind;
use castoff::pillar::traced::{Origin, Traced};
use castoff::settings::format_resolve;
use castoff::vocab::{Key, Map, Value};
use proptest::prelude::*;

fn traced(value: &Value) -> Traced {
    Traced::from_value(value.clone(), &Origin::Default)
}

fn merge(left: &Value, right: &Value) -> Value {
    traced(left).merge(traced(right)).into_value()
}

fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just("{a}"),
            Just("{b}"),
            Just("{c}"),
            Just("{d}"),
            Just("{nope}"),
            Just("{"),
            Just("}"),
            Just(":"),
            Just("x"),
        ],
        0..4,
    )
    .prop_map(|parts| parts.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        text().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        (0..9_i32).prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
            members(inner).prop_map(Value::Map),
        ]
    })
}

fn members(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map> {
    proptest::collection::vec((prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")], inner), 0..4)
        .prop_map(|members| members.into_iter().map(|(key, value)| (Key::from(key), value)).collect())
}

fn map() -> impl Strategy<Value = Value> {
    members(value()).prop_map(Value::Map)
}

proptest! {
    #[test]
    fn merging_is_idempotent_and_nothing_is_its_neutral(left in map(), right in map()) {
        let empty = Value::Map(Map::new());
        prop_assert_eq!(merge(&left, &left), left.clone());
        prop_assert_eq!(merge(&left, &empty), left.clone());
        prop_assert_eq!(merge(&empty, &left), left.clone());
        let merged = merge(&left, &right);
        prop_assert_eq!(merge(&merged, &right), merged);
    }

    #[test]
    fn the_right_side_wins_and_no_key_is_lost(left in map(), right in map()) {
        let merged = merge(&left, &right);
        let (left, right) = (left.as_map().unwrap(), right.as_map().unwrap());
        let keys: Vec<&Key> = left.keys().chain(right.keys().filter(|key| !left.contains_key(*key))).collect();
        prop_assert_eq!(merged.as_map().unwrap().keys().collect::<Vec<_>>(), keys);
        for (key, value) in merged.as_map().unwrap() {
            let expected = match (left.get(key), right.get(key)) {
                (Some(left @ Value::Map(_)), Some(right @ Value::Map(_))) => merge(left, right),
                (_, Some(right)) => right.clone(),
                (Some(left), None) => left.clone(),
                (None, None) => unreachable!(),
            };
            prop_assert_eq!(value, &expected);
        }
    }

    /// Maps that do not turn into anything else on the way are merged in any grouping.
    #[test]
    fn merging_layers_is_associative(one in map(), two in map(), three in map()) {
        let first = merge(&merge(&one, &two), &three);
        let last = merge(&one, &merge(&two, &three));
        prop_assume!(same_kinds(&one, &two) && same_kinds(&two, &three) && same_kinds(&one, &three));
        prop_assert_eq!(first, last);
    }

    /// Circles, nests and unfoldings end, in a value or in an error that says so.
    #[test]
    fn resolving_ends(value in map()) {
        for compat in [false, true] {
            if let Err(error) = format_resolve(&traced(&value), None, compat) {
                prop_assert!(matches!(error.kind(), Kind::Usage | Kind::Limit), "{}", error.render());
            }
        }
    }

    /// Where nothing goes in a circle, one pass is what the passes come to; a text inside of another holds no braces.
    #[test]
    fn one_pass_is_what_all_passes_come_to(
        a in text(), b in text(), c in text(), d in "[a-z]{0,3}", list in proptest::collection::vec("[a-z]{0,3}", 0..3),
    ) {
        let only = |text: String, names: &[&str]| {
            ["a", "b", "c", "d"].iter().filter(|name| !names.contains(name)).fold(text, |text, name| {
                text.replace(&format!("{{{name}}}"), "-")
            })
        };
        let whole = |text: String| text.replace("{d}", "\u{1}").replace("{c}", "\u{2}").replace("{b}", "\u{3}")
            .replace(['{', '}'], "").replace('\u{1}', "{d}").replace('\u{2}', "{c}").replace('\u{3}', "{b}");
        let value = Value::map([
            ("c", Value::from(whole(only(c, &["d"])))),
            ("a", Value::from(whole(only(a, &["b", "c", "d"])))),
            ("l", Value::list(list)),
            ("b", Value::from(whole(only(b, &["c", "d"])))),
            ("d", Value::from(d)),
        ]);
        let once = format_resolve(&traced(&value), None, false).unwrap().into_value();
        let passes = format_resolve(&traced(&value), None, true).unwrap().into_value();
        prop_assert_eq!(once, passes);
    }
}

/// Whether no key is a map on one side and something else on the other.
fn same_kinds(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Map(left), Value::Map(right)) => {
            left.iter().all(|(key, value)| right.get(key).is_none_or(|other| same_kinds(value, other)))
        }
        (Value::Map(_), _) | (_, Value::Map(_)) => false,
        _ => true,
    }
}

#[test]
fn what_unfolds_without_end_is_refused() {
    // Each level twice the one below: 2^40 texts, values, and letters.
    for pattern in ["{n}{n}", "[n]"] {
        let levels = (0..40).map(|level| {
            let below = format!("{{k{}}}", level + 1);
            let value = match pattern {
                "[n]" => Value::list([below.clone(), below]),
                _ => Value::from(format!("{below}{below}")),
            };
            (Key::from(format!("k{level}")), value)
        });
        let bomb = Value::Map(levels.chain([(Key::from("k40"), Value::from("x"))]).collect());
        for compat in [false, true] {
            let error = format_resolve(&traced(&bomb), None, compat).unwrap_err();
            assert_eq!(error.kind(), Kind::Limit, "{pattern} {compat}");
        }
    }
    let chain = (0..5000).map(|level| (Key::from(format!("k{level}")), Value::from(format!("{{k{}}}", level + 1))));
    let chain = Value::Map(chain.collect());
    assert_eq!(format_resolve(&traced(&chain), None, false).unwrap_err().kind(), Kind::Limit);
}
