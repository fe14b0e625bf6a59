//! Characters to tokens: `yaml_parser_fetch_next_token` within `[…]` and `{…}`.

/// libyaml gives up a key whose `:` is further away.
const MAX_KEY: usize = 1024;

/// The tokens of a word that is one collection; none for what libyaml refuses.
pub(super) fn scan(word: &str) -> Option<Vec<Token>> {
    let text = word.chars().collect();
    let mut scanner = Scanner { text, at: 0, tokens: Vec::new(), levels: Vec::new(), key_allowed: true };
    scanner.scan()?;
    Some(scanner.tokens)
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    ListStart,
    ListEnd,
    MapStart,
    MapEnd,
    Entry,
    Key,
    Value,
    Alias(String),
    Anchor(String),
    Tag { handle: String, suffix: String },
    Scalar { text: String, plain: bool },
}

/// A place that a later `:` would make a key, and the token it is.
#[derive(Clone, Copy)]
struct Candidate {
    token: usize,
    at: usize,
}

struct Scanner {
    text: Vec<char>,
    at: usize,
    tokens: Vec<Token>,
    /// One candidate a flow level.
    levels: Vec<Option<Candidate>>,
    key_allowed: bool,
}

impl Scanner {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    /// Whether a blank or the end stands there.
    fn blank(&self, ahead: usize) -> bool {
        matches!(self.peek(ahead), None | Some(' '))
    }

    /// All tokens up to the end of the outermost collection; behind it only blanks and a comment may stand.
    fn scan(&mut self) -> Option<()> {
        loop {
            while self.peek(0) == Some(' ') {
                self.at += 1;
            }
            if self.levels.is_empty() && !self.tokens.is_empty() {
                return matches!(self.peek(0), None | Some('#')).then_some(());
            }
            // A comment would hide the end.
            self.token(self.peek(0)?)?;
        }
    }

    /// `yaml_parser_fetch_next_token`.
    fn token(&mut self, first: char) -> Option<()> {
        match first {
            '[' => self.open(Token::ListStart),
            '{' => self.open(Token::MapStart),
            ']' => self.close(Token::ListEnd),
            '}' => self.close(Token::MapEnd),
            ',' => {
                self.forget_candidate();
                self.key_allowed = true;
                self.single(Token::Entry);
            }
            '?' => {
                self.forget_candidate();
                self.key_allowed = false;
                self.single(Token::Key);
            }
            ':' => self.value(),
            '*' | '&' => {
                self.save_candidate();
                self.key_allowed = false;
                self.anchor(first)?;
            }
            '!' => {
                self.save_candidate();
                self.key_allowed = false;
                self.tag()?;
            }
            '\'' | '"' => {
                self.save_candidate();
                self.key_allowed = false;
                let text = if first == '\'' { self.single_quoted()? } else { self.double_quoted()? };
                self.tokens.push(Token::Scalar { text, plain: false });
            }
            '-' if self.blank(1) => return None,
            '#' | '|' | '>' | '%' | '@' | '`' => return None,
            _ => {
                self.save_candidate();
                self.key_allowed = false;
                let text = self.plain()?;
                self.tokens.push(Token::Scalar { text, plain: true });
            }
        }
        Some(())
    }

    fn single(&mut self, token: Token) {
        self.at += 1;
        self.tokens.push(token);
    }

    /// `yaml_parser_save_simple_key`.
    fn save_candidate(&mut self) {
        if self.key_allowed
            && let Some(level) = self.levels.last_mut()
        {
            *level = Some(Candidate { token: self.tokens.len(), at: self.at });
        }
    }

    fn forget_candidate(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            *level = None;
        }
    }

    fn open(&mut self, token: Token) {
        self.save_candidate();
        self.levels.push(None);
        self.key_allowed = true;
        self.single(token);
    }

    fn close(&mut self, token: Token) {
        self.levels.pop();
        self.key_allowed = false;
        self.single(token);
    }

    /// `yaml_parser_fetch_value`.
    fn value(&mut self) {
        let candidate = self.levels.last_mut().and_then(Option::take);
        if let Some(candidate) = candidate
            && candidate.at + MAX_KEY >= self.at
        {
            self.tokens.insert(candidate.token, Token::Key);
        }
        self.key_allowed = false;
        self.single(Token::Value);
    }

    /// `yaml_parser_scan_anchor`.
    fn anchor(&mut self, first: char) -> Option<()> {
        self.at += 1;
        let start = self.at;
        while self.peek(0).is_some_and(is_word) {
            self.at += 1;
        }
        let name: String = self.text[start..self.at].iter().collect();
        if name.is_empty() || !(self.blank(0) || self.peek(0).is_some_and(|next| "?:,]}%@`".contains(next))) {
            return None;
        }
        self.tokens.push(if first == '*' { Token::Alias(name) } else { Token::Anchor(name) });
        Some(())
    }

    /// `yaml_parser_scan_tag`.
    fn tag(&mut self) -> Option<()> {
        let (handle, suffix) = if self.peek(1) == Some('<') {
            self.at += 2;
            let suffix = self.tag_uri(String::new(), true);
            if suffix.is_empty() || self.peek(0) != Some('>') {
                return None;
            }
            self.at += 1;
            (String::new(), suffix)
        } else {
            let start = self.at;
            self.at += 1;
            while self.peek(0).is_some_and(is_word) {
                self.at += 1;
            }
            if self.peek(0) == Some('!') {
                self.at += 1;
            }
            let handle: String = self.text[start..self.at].iter().collect();
            if handle.len() > 1 && handle.ends_with('!') {
                let suffix = self.tag_uri(String::new(), false);
                if suffix.is_empty() {
                    return None;
                }
                (handle, suffix)
            } else {
                let suffix = self.tag_uri(handle[1..].to_owned(), false);
                if suffix.is_empty() { (String::new(), "!".to_owned()) } else { ("!".to_owned(), suffix) }
            }
        };
        if !(self.blank(0) || self.peek(0) == Some(',')) {
            return None;
        }
        self.tokens.push(Token::Tag { handle, suffix });
        Some(())
    }

    fn tag_uri(&mut self, mut uri: String, verbatim: bool) -> String {
        while let Some(next) = self.peek(0) {
            let allowed = is_word(next) || ";/?:@&=+$.!~*'()%".contains(next) || (verbatim && ",[]".contains(next));
            if !allowed {
                break;
            }
            uri.push(next);
            self.at += 1;
        }
        uri
    }

    fn single_quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek(0)? {
                '\'' if self.peek(1) == Some('\'') => {
                    text.push('\'');
                    self.at += 2;
                }
                '\'' => {
                    self.at += 1;
                    return Some(text);
                }
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
    }

    fn double_quoted(&mut self) -> Option<String> {
        let mut text = String::new();
        self.at += 1;
        loop {
            match self.peek(0)? {
                '"' => {
                    self.at += 1;
                    return Some(text);
                }
                '\\' => text.push(self.escape()?),
                other => {
                    text.push(other);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        let code = self.peek(1)?;
        self.at += 2;
        let digits = match code {
            '0' => return Some('\0'),
            'a' => return Some('\u{7}'),
            'b' => return Some('\u{8}'),
            't' => return Some('\t'),
            'n' => return Some('\n'),
            'v' => return Some('\u{b}'),
            'f' => return Some('\u{c}'),
            'r' => return Some('\r'),
            'e' => return Some('\u{1b}'),
            ' ' | '"' | '/' | '\\' => return Some(code),
            'N' => return Some('\u{85}'),
            '_' => return Some('\u{a0}'),
            'L' => return Some('\u{2028}'),
            'P' => return Some('\u{2029}'),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return None,
        };
        let mut number = 0_u32;
        for _ in 0..digits {
            number = number.checked_mul(16)?.checked_add(self.peek(0)?.to_digit(16)?)?;
            self.at += 1;
        }
        char::from_u32(number)
    }

    /// `yaml_parser_scan_plain_scalar`.
    fn plain(&mut self) -> Option<String> {
        let start = self.at;
        let mut end = start;
        while let Some(next) = self.peek(0) {
            let follows = self.peek(1);
            match next {
                '#' if self.at > end => break,
                ':' if follows.is_some_and(|after| ",?[]{}".contains(after)) => return None,
                ':' if self.blank(1) => break,
                ',' | '[' | ']' | '{' | '}' => break,
                ' ' => self.at += 1,
                _ => {
                    self.at += 1;
                    end = self.at;
                }
            }
        }
        self.at = end;
        Some(self.text[start..end].iter().collect())
    }
}

/// libyaml's `IS_ALPHA`.
fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_' || character == '-'
}
