//! Hashes of what arrived: by a program on the server, or by reading it back.

use std::io::Read as _;

use super::super::name::Entry;
use super::{Open, Sftp};
use crate::error::Result;
use crate::progress::{Progress, Unit};
use crate::ssh::Stop;
use crate::vocab::Digest;

/// More than one line of `sha256sum` with the longest path; what says more is not it.
const LONGEST_ANSWER: usize = 8 << 10;

impl Sftp {
    /// `sha256sum` on the server; none if it does not run programs, or not this one, or sees other paths than SFTP does.
    pub(super) fn remote_hash(&mut self, entry: Entry<'_>, size: u64, progress: &Progress) -> Result<Option<Digest>> {
        if self.runs_programs == Some(false) {
            return Ok(None);
        }
        let folder = std::path::PathBuf::from(self.folder.text());
        let folder = self
            .opened()?
            .ask(|sftp| sftp.realpath(&folder))
            .map_err(|stop| self.failed(stop, "cannot look up the folder"))?;
        let path = folder.join(entry.text());
        let Some(argument) = path.to_str().filter(|path| is_plain(path)) else { return Ok(None) };
        let _stage = progress.stage(format!("waiting for the hash of {}", entry.text()), Some(size), Unit::Bytes);
        let found = run(self.opened()?, &format!("sha256sum {argument}"));
        let found = match found {
            Ok(answer) => parse(&answer, argument),
            Err(Stop::Answer { .. }) => None,
            Err(stop) => return Err(self.failed(stop, "cannot ask for a hash")),
        };
        self.runs_programs = Some(found.is_some());
        Ok(found)
    }

    /// Reads the file back; its bytes go to `taker`.
    pub(super) fn read_back(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(entry);
        let what = format!("cannot read back `{}`", entry.text());
        let mut stage = progress.stage(format!("reading back {}", entry.text()), Some(size), Unit::Bytes);
        let mut buffer = vec![0; 1 << 20];
        let opened = self.opened()?.ask(|sftp| sftp.open(&path));
        let mut file = opened.map_err(|stop| self.failed(stop, &what))?;
        let mut left = size + 1;
        loop {
            // One byte more than expected is asked for, and no other: a server may serve without end.
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let read = self.opened()?.connection.drive(|_| file.read(&mut buffer[..wanted]));
            let count = read.map_err(|stop| self.failed(stop, &what))?;
            taker(&buffer[..count])?;
            stage.advance(count as u64);
            left -= count as u64;
            if count == 0 || left == 0 {
                break;
            }
        }
        let closed = self.opened()?.connection.drive(|_| file.close());
        closed.map_err(|stop| self.failed(stop, &what))
    }
}

/// Whether no shell makes anything of the path.
fn is_plain(path: &str) -> bool {
    path.starts_with('/') && path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+,=@~".contains(c))
}

/// Runs a command and takes what it prints; its status must be 0.
fn run(open: &Open, command: &str) -> Result<Vec<u8>, Stop> {
    let connection = &open.connection;
    let mut channel = connection.drive(ssh2::Session::channel_session)?;
    connection.drive(|_| channel.exec(command))?;
    // A forced command may be one that waits for its input: it gets none.
    connection.drive(|_| channel.send_eof())?;
    let mut answer = vec![0; LONGEST_ANSWER];
    let mut length = 0;
    while length < answer.len() {
        let count = connection.drive_long(|_| channel.read(&mut answer[length..]))?;
        if count == 0 {
            break;
        }
        length += count;
    }
    answer.truncate(length);
    connection.drive(|_| channel.close())?;
    connection.drive(|_| channel.wait_close())?;
    let refused = |words: String| Stop::Answer { code: None, words };
    match channel.exit_status() {
        Ok(0) => Ok(answer),
        Ok(status) => Err(refused(format!("exit status {status}"))),
        Err(error) => Err(refused(error.message().to_owned())),
    }
}

/// The hash in `HASH  PATH`; none if it says anything else.
fn parse(answer: &[u8], path: &str) -> Option<Digest> {
    let text = std::str::from_utf8(answer).ok()?;
    let (hex, rest) = text.strip_suffix('\n')?.split_once(' ')?;
    let named = rest.strip_prefix([' ', '*'])?;
    (named == path).then(|| format!("sha256:{hex}").parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_answer_counts() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(parse(format!("{hex}  /a\n").as_bytes(), "/a"), Some(Digest::of(b"")));
        for answer in [
            format!("{hex}  /b\n"),
            format!("{hex}\n"),
            format!("x{hex}  /a\n"),
            format!("motd\n{hex}  /a\n"),
            String::new(),
        ] {
            assert_eq!(parse(answer.as_bytes(), "/a"), None, "{answer}");
        }
    }

    #[test]
    fn no_shell_sees_a_path_it_could_read_otherwise() {
        assert!(is_plain("/srv/images/a-1.tar.xz.0123456789abcdef.part"));
        for path in ["relative", "/a b", "/a;b", "/$(x)", "/a'b", "/a\nb", "/ä", "/a*"] {
            assert!(!is_plain(path), "{path}");
        }
    }
}
