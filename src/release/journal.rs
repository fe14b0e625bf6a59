//! The journal of one release: what was about to be done, and what was done, in the order it happened.
//!
//! ```text
//! STATE/release/journal/IMAGE/FLAVOUR/N.jsonl      mode 0600, only ever appended to
//!
//! {"seq":1,"time":"2026-11-21T09:00:00Z","boot":"…","state":"planned","phase":"done","payload":{…},"crc":"89abcdef"}
//! ```
//!
//! Every line is on the disk before its effect begins, and again after it has ended. `crc` is the CRC-32 of the line as
//! it is without that member. The last line may be torn by a crash and is then dropped; a damaged line before it is an
//! error. Order is `seq` and never the clock. The journal is a hint: what it says is looked up in the world.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::state::{Phase, State};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fault, fs, session};
use crate::vocab::timestamp;

/// The most bytes of a journal.
const LIMIT: u64 = 256 << 20;

/// What a line ends with: `,"crc":"` and 8 hex digits and `"}`.
const TAIL: usize = 18;

/// A file on its way to a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subject {
    /// The target's name.
    pub target: String,
    /// The file's final name.
    pub file: String,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, from 1.
    pub seq: u64,
    /// What the clock said.
    pub time: String,
    /// The kernel's id of the boot.
    pub boot: String,
    /// The state it is about.
    pub state: State,
    /// Which moment of it.
    pub phase: Phase,
    /// The file and target it is about, in the states that each of them has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What there is to remember.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub payload: serde_json::Value,
}

/// A journal that is open for appending; its image and flavour are locked.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    length: u64,
    boot: String,
    records: Vec<Record>,
}

impl Journal {
    /// The journal at this path, made where there is none; a torn last line is cut off.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = fs::parent(path);
        fs::create_dir_all(folder, 0o700)?;
        let mut file = match fs::create_exclusive(path, 0o600)? {
            Some(file) => {
                // The folders above may be new too.
                for folder in path.ancestors().skip(1).take(4) {
                    fs::sync_dir(folder)?;
                }
                file
            }
            None => fs::open_regular(path, true)?,
        };
        let (records, length) = decode(&fs::read_at_most(path, LIMIT)?, path)?;
        let wrong = || format!("cannot open the journal `{}`", path.display());
        file.set_len(length).context(wrong)?;
        file.seek(SeekFrom::Start(length)).context(wrong)?;
        Ok(Self { path: path.to_owned(), file, length, boot: session::boot()?, records })
    }

    /// The records in the journal at this path, none where nothing is; the file is left as it is.
    pub fn read(path: &Path) -> Result<Vec<Record>> {
        if !fs::exists(path)? {
            return Ok(Vec::new());
        }
        Ok(decode(&fs::read_at_most(path, LIMIT)?, path)?.0)
    }

    /// The records so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Writes a record down; it is on the disk when this returns.
    pub fn append(&mut self, state: State, phase: Phase, payload: &impl Serialize) -> Result<()> {
        self.write(state, phase, None, payload)
    }

    /// The same about one file and target.
    pub fn append_about(
        &mut self,
        subject: &Subject,
        state: State,
        phase: Phase,
        payload: &impl Serialize,
    ) -> Result<()> {
        self.write(state, phase, Some(subject.clone()), payload)
    }

    fn write(&mut self, state: State, phase: Phase, subject: Option<Subject>, payload: &impl Serialize) -> Result<()> {
        let payload = serde_json::to_value(payload).map_err(|error| unwritable(&error))?;
        let now = i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX);
        let (seq, boot) = (self.records.len() as u64 + 1, self.boot.clone());
        let record = Record { seq, time: timestamp(now, 0), boot, state, phase, subject, payload };
        let line = encode(&record)?;
        let point = format!("release.journal.{}.{}", state.word(), phase.word());
        fault::point(&format!("{point}.before"));
        if let Err(error) = self.put(&line, &point) {
            // Half a line must not stay before the next one.
            let cut = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            cut.context(|| format!("cannot take half a line back from `{}`", self.path.display()))?;
            return Err(error).context(|| format!("cannot write the journal `{}`", self.path.display()));
        }
        self.length += line.len() as u64;
        self.records.push(record);
        fault::point(&format!("{point}.after"));
        Ok(())
    }

    fn put(&mut self, line: &[u8], point: &str) -> std::io::Result<()> {
        let (head, tail) = line.split_at(line.len() / 2);
        self.file.write_all(head)?;
        fault::point(&format!("{point}.torn"));
        self.file.write_all(tail)?;
        fault::point(&format!("{point}.written"));
        self.file.sync_data()
    }

    /// Removes a journal of a release that came to nothing.
    pub fn discard(self) -> Result<()> {
        fs::remove_file(&self.path)?;
        fs::sync_dir(fs::parent(&self.path))
    }
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::new(Kind::Failed, "a record cannot be written as JSON").caused_by(error.to_string())
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

fn encode(record: &Record) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record).map_err(|error| unwritable(&error))?;
    let sum = crc(&line);
    line.pop();
    line.extend_from_slice(format!(",\"crc\":\"{sum:08x}\"}}\n").as_bytes());
    Ok(line)
}

/// The records, and how many bytes of the file are whole lines.
fn decode(bytes: &[u8], path: &Path) -> Result<(Vec<Record>, u64)> {
    let mut records = Vec::new();
    let mut whole = 0;
    while whole < bytes.len() {
        let rest = &bytes[whole..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let line = &rest[..end.unwrap_or(rest.len())];
        let next = whole + line.len() + 1;
        let seq = records.len() as u64 + 1;
        match end.and_then(|_| parse(line)).filter(|record| record.seq == seq) {
            Some(record) => records.push(record),
            None if next >= bytes.len() => break,
            None => {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("the journal `{}` is damaged in line {seq}", path.display()),
                )
                .hint("move it away and run the same again: what was done already is found by looking"));
            }
        }
        whole = next;
    }
    Ok((records, whole as u64))
}

fn parse(line: &[u8]) -> Option<Record> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL)?)?;
    let tail = std::str::from_utf8(tail).ok()?;
    let sum = u32::from_str_radix(tail.strip_prefix(",\"crc\":\"")?.strip_suffix("\"}")?, 16).ok()?;
    let bare = [body, b"}"].concat();
    (crc(&bare) == sum).then(|| serde_json::from_slice(&bare).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(folder: &Path) -> (PathBuf, Vec<u8>) {
        let path = folder.join("a/b/1.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        let subject = Subject { target: "main".into(), file: "a-b-1.tar.xz".into() };
        journal.append(State::Planned, Phase::Done, &"a").unwrap();
        journal.append_about(&subject, State::Uploading, Phase::Note, &7).unwrap();
        journal.append(State::Pushed, Phase::Intent, &()).unwrap();
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    }

    #[test]
    fn a_line_carries_the_crc_that_other_programs_compute() {
        let folder = tempfile::tempdir().unwrap();
        let (_, bytes) = written(folder.path());
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap();
        let text = std::str::from_utf8(line).unwrap();
        let (body, crc) = text.split_once(",\"crc\":\"").unwrap();
        // gzip's trailer holds the CRC-32 of its input, as zlib's own code computes it.
        let script = "import sys, zlib; print(format(zlib.crc32(sys.argv[1].encode()), '08x'))";
        let output =
            crate::host::process::command("python3").args(["-c", script, &format!("{body}}}")]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), crc.strip_suffix("\"}").unwrap());
    }

    #[test]
    fn a_torn_end_is_dropped_wherever_it_is_torn_and_writing_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = written(folder.path());
        let ends: Vec<usize> = (1..=bytes.len()).filter(|at| bytes[at - 1] == b'\n').collect();
        for length in 0..=bytes.len() {
            let file = fs::open_regular(&path, true).unwrap();
            file.set_len(0).unwrap();
            (&file).write_all(&bytes[..length]).unwrap();
            let expected = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(Journal::read(&path).unwrap().len(), expected, "{length}");
            let mut journal = Journal::open(&path).unwrap();
            journal.append(State::Done, Phase::Done, &()).unwrap();
            let records = Journal::read(&path).unwrap();
            assert_eq!((records.len(), records[expected].seq), (expected + 1, expected as u64 + 1));
        }
    }

    #[test]
    fn damage_before_the_last_line_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = written(folder.path());
        let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            let file = fs::open_regular(&path, true).unwrap();
            file.set_len(0).unwrap();
            (&file).write_all(&damaged).unwrap();
            match Journal::read(&path) {
                // Without the line break between them, the last two lines are one that is torn.
                Ok(records) => assert!(at >= last && records.len() == 2 - usize::from(at == last), "{at}"),
                Err(error) => assert!(at < last && error.kind() == Kind::Corrupt, "{at} {error}"),
            }
        }
    }

    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::MetadataExt as _;
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = written(folder.path());
        assert_eq!(fs::metadata(&path).unwrap().unwrap().mode() & 0o7777, 0o600);
    }
}
