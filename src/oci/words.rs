//! Words of Dockerfile instructions: quotes, backslashes and `$variables` as Docker's builder reads them.

/// Splits at white space outside quotes; quotes and backslashes stay in the words.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                word.push(character);
                word.extend(characters.next());
            }
            ('"' | '\'', None) => {
                quote = Some(character);
                word.push(character);
            }
            (character, Some(open)) => {
                if character == open {
                    quote = None;
                }
                word.push(character);
            }
            (character, None) if character.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            (character, None) => word.push(character),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// A word without its quotes and with its variables replaced; the error says what is wrong with it.
pub(super) fn expand(word: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::with_capacity(word.len());
    let mut rest = Rest { text: word, variable };
    let mut in_quotes = false;
    while let Some(character) = rest.next() {
        match character {
            '\'' if !in_quotes => {
                let (inside, after) = rest.text.split_once('\'').ok_or("a quote `'` is not closed")?;
                out.push_str(inside);
                rest.text = after;
            }
            '"' => in_quotes = !in_quotes,
            '\\' => match rest.next() {
                // Between double quotes a backslash only hides what would have a meaning there.
                Some(hidden) if !in_quotes || matches!(hidden, '"' | '$' | '\\') => out.push(hidden),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '$' => out.push_str(&rest.variable()?),
            other => out.push(other),
        }
    }
    if in_quotes { Err("a quote `\"` is not closed".to_owned()) } else { Ok(out) }
}

/// What is left of a word.
struct Rest<'word> {
    text: &'word str,
    variable: &'word dyn Fn(&str) -> Option<String>,
}

impl Rest<'_> {
    fn next(&mut self) -> Option<char> {
        let character = self.text.chars().next()?;
        self.text = &self.text[character.len_utf8()..];
        Some(character)
    }

    /// What follows a `$`: `NAME`, `{NAME}`, `{NAME:-default}`, `{NAME:+instead}`, or nothing special.
    fn variable(&mut self) -> Result<String, String> {
        if let Some(inside) = self.text.strip_prefix('{') {
            let end = closing(inside).ok_or("a `${` is not closed")?;
            self.text = &inside[end + 1..];
            return self.braced(&inside[..end]);
        }
        let length = name_length(self.text);
        if length == 0 {
            return Ok("$".to_owned());
        }
        let (name, rest) = self.text.split_at(length);
        self.text = rest;
        Ok((self.variable)(name).unwrap_or_default())
    }

    fn braced(&self, inside: &str) -> Result<String, String> {
        let (name, modifier) = inside.split_at(name_length(inside));
        let value = (self.variable)(name).filter(|value| !value.is_empty());
        match modifier.get(..2) {
            _ if name.is_empty() => Err(format!("`${{{inside}}}` names no variable")),
            None if modifier.is_empty() => Ok(value.unwrap_or_default()),
            Some(":-") => value.map_or_else(|| expand(&modifier[2..], self.variable), Ok),
            Some(":+") => value.map_or(Ok(String::new()), |_| expand(&modifier[2..], self.variable)),
            _ => Err(format!("`${{{inside}}}` has an unknown modifier; `:-` and `:+` are known")),
        }
    }
}

/// Where the brace that is already open closes.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    text.bytes()
        .enumerate()
        .take_while(|(at, byte)| byte.is_ascii_alphabetic() || *byte == b'_' || (*at > 0 && byte.is_ascii_digit()))
        .count()
}
