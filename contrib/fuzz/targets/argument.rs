//! A word of a command line from a stranger: every word has a value, every value can be printed in every form, and the
//! JSON form is JSON.
#![no_main]

use castoff::document::{argument, parse, parse_json};
use castoff::outputter::{Outputter, Style};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(word) = std::str::from_utf8(data) else { return };
    let values = [Some(argument(word)), parse(word, "fuzz").ok(), parse_json(word, "fuzz").ok()];
    for value in values.iter().flatten() {
        for name in Outputter::NAMES {
            let text = Outputter::named(name).unwrap().write(value, &Style::default());
            if name == "json" {
                // `{1: a, "1": b}` has two keys of one name in JSON, as Python writes it.
                let json = serde_json::from_str::<serde_json::Value>(&text);
                assert!(json.is_ok(), "{json:?}: {text}");
            }
        }
    }
});
