//! `{name}` in one text, filled as Python's `str.format` fills it.

/// The text with every `{name}` replaced, `{{` and `}}` made braces; or what is wrong with it.
pub(super) fn filled(pattern: &str, names: &[(&str, &str)]) -> Result<String, String> {
    let mut text = String::with_capacity(pattern.len() + 32);
    let mut rest = pattern;
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = behind;
        } else if brace == "}" {
            return Err("a `}` without a `{`".to_owned());
        } else {
            let (name, behind) = rest.split_once('}').ok_or_else(|| "a `{` without a `}`".to_owned())?;
            let value = names.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
            text.push_str(value.ok_or_else(|| format!("nothing is known as `{{{name}}}`"))?);
            rest = behind;
        }
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::filled;

    /// As Python 3.11's `str.format` has it.
    #[test]
    fn a_text_is_filled_as_python_fills_it() {
        let filled = |pattern| filled(pattern, &[("img", "i"), ("ver", "7")]);
        assert_eq!(filled("{img}-{ver}{ver}.x"), Ok("i-77.x".to_owned()));
        assert_eq!(filled("{{img}} {{{img}}} é"), Ok("{img} {i} é".to_owned()));
        for wrong in ["{", "}", "{img", "{}", "{root}", "{img!r}", "}{"] {
            assert!(filled(wrong).is_err(), "{wrong}");
        }
    }
}
