//! A command over the serial console: root logs in without a password, and a shell runs it between two marks.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use regex::Regex;

use super::{Ran, Run};
use crate::error::{Error, Kind, Result};

/// The most bytes of a line: the terminal of a shell without an editor of its own takes no more than 4095.
const LONGEST: usize = 3500;

/// After this long without a prompt Enter is pressed once more: the kernel may have written over it.
const PATIENCE: Duration = Duration::from_secs(15);

/// A prompt is one when nothing follows it for this long.
const QUIET: Duration = Duration::from_millis(500);

/// Fails for a command that cannot be typed.
pub(super) fn check(command: &str) -> Result<()> {
    if command.trim().is_empty() || command.contains('\0') {
        return Err(Error::new(Kind::Usage, "there is nothing to run in the command"));
    }
    let length = line(command, "").len();
    if length > LONGEST {
        return Err(Error::new(
            Kind::Usage,
            format!("the command takes {length} bytes on a console, and {LONGEST} are the most"),
        )
        .hint("put it into a file of the image and run that"));
    }
    Ok(())
}

pub(super) fn run(run: &mut Run<'_>, command: &str) -> Result<Ran> {
    enter(run)?;
    let mark: String = crate::host::random::bytes::<8>()?.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    });
    run.machine.send(&line(command, &mark))?;
    run.expect(&pattern(&format!(r"(?m)^castoff-begin-{mark}$\n"))?, "the beginning of the command")?;
    // The text is cut at the end of each match, so that what is before the end is the output.
    let end = pattern(&format!(r"(?s)\A(.*?)\ncastoff-end-{mark}-(\d+)\n"))?;
    let whole = run.expect_whole(&end)?;
    let mut output = whole.0;
    if output.starts_with('\n') {
        output.remove(0);
    }
    Ok(Ran { exit: whole.1, output })
}

/// Gets a root shell: logs in where that is asked for.
fn enter(run: &mut Run<'_>) -> Result<()> {
    let prompt = pattern(r"(?m)(?:^|[^\n]*[^\n#])# ?\z|[Pp]assword: ?\z|[Ll]ogin incorrect|^\S* ?login: ?\z")?;
    run.machine.send("root\n")?;
    let mut tries = 0;
    loop {
        let until = Instant::now() + PATIENCE;
        let Some(seen) = run.expect_until(&prompt, until)? else {
            if Instant::now() >= run.until {
                return Err(run.late("there was no shell of root"));
            }
            run.machine.send("\n")?;
            continue;
        };
        let seen = seen.to_ascii_lowercase();
        if seen.ends_with('#') {
            if run.is_quiet()? {
                return Ok(());
            }
            // It was part of a longer line.
            continue;
        }
        if seen.contains("password") || seen.contains("incorrect") || tries == 5 {
            return Err(Error::new(Kind::Refused, "root cannot log in on the console without a password")
                .hint("`passwd -d root` in the image, or use ssh with a key"));
        }
        // A prompt that was there before, or one after Enter was pressed alone.
        tries += 1;
        run.machine.send("root\n")?;
    }
}

/// What is typed. Marks are written in two parts, so that the echo of the line is none of them; what a line editor or
/// `printf` would take for its own is written in octal.
fn line(command: &str, mark: &str) -> String {
    let mut quoted = String::new();
    for byte in command.bytes() {
        if byte.is_ascii_alphanumeric() || b" ./-_=:,+@".contains(&byte) {
            quoted.push(char::from(byte));
        } else {
            let _infallible = write!(quoted, "\\{byte:03o}");
        }
    }
    format!(
        "dmesg -n 1 2>/dev/null; printf '\\n%s%s\\n' castoff-begin- {mark}; sh -c \"$(printf -- '{quoted}')\" </dev/null 2>&1; \
         printf '\\n%s%s-%d\\n' castoff-end- {mark} $?\n"
    )
}

fn pattern(text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|error| Error::new(Kind::Failed, "cannot read the console").caused_by(error))
}

impl Run<'_> {
    /// Whether the console says nothing for a moment.
    fn is_quiet(&mut self) -> Result<bool> {
        let until = Instant::now() + QUIET;
        while Instant::now() < until {
            let before = self.console.rest().len();
            self.pump(until.saturating_duration_since(Instant::now()))?;
            if self.console.rest().len() != before {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits for the end mark; what came before it, and the exit code in it.
    fn expect_whole(&mut self, end: &Regex) -> Result<(String, i64)> {
        loop {
            if let Some(found) = end.captures(self.console.rest()) {
                let exit = found[2].parse().map_err(|error| {
                    Error::new(Kind::Failed, "the command's exit code is no number").caused_by(error)
                })?;
                return Ok((found[1].to_owned(), exit));
            }
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.late("the command did not end"));
            }
            self.pump(left)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_typed_on_one_line_without_what_editors_take_for_their_own() {
        let typed = line("echo \"it's 100%\"\n\tdate", "m");
        assert_eq!(typed.matches('\n').count(), 1, "{typed}");
        assert!(typed.contains(r"echo \042it\047s 100\045\042\012\011date"), "{typed}");
        assert!(!typed.contains("castoff-begin-m"));
        assert_eq!(check("").unwrap_err().kind(), Kind::Usage);
        assert_eq!(check(&"\"".repeat(2000)).unwrap_err().kind(), Kind::Usage);
    }
}
