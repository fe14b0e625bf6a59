//! What castoff and the stages of a sandbox tell each other.
//!
//! Down a stage's standard input: the [`Order`], a JSON document behind its length, then the bytes of the script and
//! of the command's input; the pipe then stays open for as long as the sender lives. Up its standard output: a [`Word`]
//! as a line of JSON, the last of which is how it ended. Its
//! standard error is where the command prints.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, kind_of_io};

/// What is to be run, and where.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Order {
    /// The tree: bytes of an absolute path; none for a program of the host in the host's own tree.
    pub(super) tree: Option<Vec<u8>>,
    /// The argument vector; the script's place is appended to it when there is a script.
    pub(super) command: Vec<String>,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) network: bool,
    /// The content of the file mounted over the tree's `etc/resolv.conf`.
    pub(super) resolver: Option<Vec<u8>>,
    /// What of the host's is shown in the tree.
    #[serde(default)]
    pub(super) binds: Vec<Bind>,
    /// Where the command starts: bytes of an absolute path.
    #[serde(default)]
    pub(super) working_directory: Option<Vec<u8>>,
    /// The most processes and threads, for the kernel to hold it to.
    #[serde(default)]
    pub(super) processes: Option<u32>,
    #[serde(default)]
    pub(super) no_sync: bool,
    /// The terminal that the command gets instead of pipes: bytes of an absolute path.
    #[serde(default)]
    pub(super) terminal: Option<Vec<u8>>,
    #[serde(skip)]
    pub(super) script: Option<Vec<u8>>,
    /// What the command reads; nothing otherwise.
    #[serde(skip)]
    pub(super) stdin: Option<Vec<u8>>,
}

/// A file or folder of the host at a place in the tree.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Bind {
    /// Bytes of an absolute path of the host.
    pub(super) from: Vec<u8>,
    /// Bytes of a path in the tree.
    pub(super) to: Vec<u8>,
    pub(super) read_only: bool,
}

/// The frame before an order.
#[derive(Debug, Deserialize, Serialize)]
struct Head {
    order: u64,
    script: Option<u64>,
    stdin: Option<u64>,
}

/// The head is this many bytes, padded with spaces.
const HEAD: usize = 128;

/// The most bytes an order or a script may have: a stage reads it into memory.
const LIMIT: u64 = 64 << 20;

impl Order {
    pub(super) fn send(&self, out: &mut impl Write) -> io::Result<()> {
        let order = serde_json::to_vec(self)?;
        let size = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| bytes.len() as u64);
        let head = Head { order: order.len() as u64, script: size(&self.script), stdin: size(&self.stdin) };
        let mut frame = serde_json::to_vec(&head)?;
        frame.resize(HEAD, b' ');
        out.write_all(&frame)?;
        out.write_all(&order)?;
        out.write_all(self.script.as_deref().unwrap_or_default())?;
        out.write_all(self.stdin.as_deref().unwrap_or_default())?;
        out.flush()
    }

    pub(super) fn receive(input: &mut impl Read) -> io::Result<Self> {
        let head: Head = serde_json::from_slice(&exactly(input, HEAD as u64)?)?;
        let mut order: Self = serde_json::from_slice(&exactly(input, head.order)?)?;
        order.script = head.script.map(|size| exactly(input, size)).transpose()?;
        order.stdin = head.stdin.map(|size| exactly(input, size)).transpose()?;
        Ok(order)
    }
}

fn exactly(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(size.min(LIMIT)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// What a stage reports.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) enum Word {
    /// By which means something that was ordered is done, or why it is not.
    Means(String),
    /// The command ended with this exit code.
    Ended(i32),
    /// The sandbox could not be made, or the command not be started.
    Failed { doing: String, cause: String, code: Option<i32> },
}

/// A failure inside a stage.
#[derive(Debug)]
pub(super) struct Failure {
    doing: String,
    cause: io::Error,
}

impl Failure {
    pub(super) fn into_parts(self) -> (String, io::Error) {
        (self.doing, self.cause)
    }
}

/// Says what a stage was doing when a system call failed.
pub(super) trait While<T> {
    fn while_(self, doing: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> While<T> for Result<T, E> {
    fn while_(self, doing: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|cause| Failure { doing: doing.into(), cause: cause.into() })
    }
}

/// Tells castoff, through standard output.
pub(super) fn tell(word: &Word) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// The end of a stage: its failure is told, and is its exit code.
pub(super) fn close(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let word =
        Word::Failed { doing: failure.doing, cause: failure.cause.to_string(), code: failure.cause.raw_os_error() };
    // With nobody left to tell, the exit code is all there is to say.
    let _nobody_listens = tell(&word);
    ExitCode::from(125)
}

impl Word {
    /// The exit code, or the failure as the caller sees it; none for what is no end.
    pub(super) fn exit(self) -> Option<Result<i32, Error>> {
        match self {
            Self::Means(_) => None,
            Self::Ended(exit) => Some(Ok(exit)),
            Self::Failed { doing, cause, code } => {
                let kind = code.map_or(Kind::Failed, |code| kind_of_io(&io::Error::from_raw_os_error(code)));
                Some(Err(Error::new(kind, format!("the sandbox cannot {doing}")).caused_by(cause)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_sent_and_a_cut_one_does_not() {
        let order = Order {
            tree: Some(b"/srv/\xff".to_vec()),
            command: vec!["sh".to_owned(), "a\nb".to_owned()],
            environment: BTreeMap::from([("A".to_owned(), "=".to_owned())]),
            network: true,
            resolver: None,
            binds: Vec::new(),
            working_directory: None,
            processes: None,
            no_sync: false,
            terminal: None,
            script: Some(vec![0, 1, 2]),
            stdin: Some(vec![3]),
        };
        let mut bytes = Vec::new();
        order.send(&mut bytes).unwrap();
        let read = Order::receive(&mut bytes.as_slice()).unwrap();
        assert_eq!((read.tree, read.command), (order.tree, order.command));
        assert_eq!((read.script, read.stdin), (order.script, order.stdin));
        assert!(Order::receive(&mut &bytes[..bytes.len() - 1]).is_err());
    }
}
