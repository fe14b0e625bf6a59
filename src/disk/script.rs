//! Lines for debugfs: one command each, every argument quoted (`ss_parse` of libss: `"` is doubled inside of quotes).

use std::io::{self, Write};

/// The most bytes of a line: debugfs reads them into a buffer of BUFSIZ, 8192, and would take the rest for a command.
const LONGEST: usize = 8000;

/// Whether this may be an argument: it must not end the line, nor be cut off with it.
pub(super) fn fits(text: &[u8]) -> bool {
    text.len() < 2000 && !text.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0))
}

/// Writes a command.
pub(super) fn line(to: &mut impl Write, words: &[&[u8]]) -> io::Result<()> {
    let mut line = Vec::with_capacity(80);
    for (index, word) in words.iter().enumerate() {
        if index == 0 {
            line.extend_from_slice(word);
            continue;
        }
        line.extend_from_slice(b" \"");
        for byte in *word {
            if *byte == b'"' {
                line.push(b'"');
            }
            line.push(*byte);
        }
        line.push(b'"');
    }
    if line.len() > LONGEST || line.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a name is too long, or a line ends in it"));
    }
    line.push(b'\n');
    to.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_and_a_line_stays_one_line() {
        let mut written = Vec::new();
        line(&mut written, &[b"write", b"a b", b"c\"d", b"", b"<12>"]).unwrap();
        assert_eq!(written, b"write \"a b\" \"c\"\"d\" \"\" \"<12>\"\n");
        assert!(line(&mut written, &[b"write", b"a\nrm b"]).is_err());
        assert!(line(&mut written, &[b"write", &[b'x'; 9000]]).is_err());
    }
}
