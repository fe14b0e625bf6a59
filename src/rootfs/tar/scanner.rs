//! Reads the headers of an archive one member after the other.

use crate::error::{Error, Kind, Result, from_io};
use crate::rootfs::{EntryKind, Limits, ReadAt};

use super::block::{self, BLOCK, BLOCK64, Block};
use super::extended::Extended;
use super::globals::{GLOBAL_BYTES, Globals};
use super::input::{Input, Positioned};
use super::member::{self, Draft, Member, Span};
use super::sparse::{self, PaxForm, SparseMap};
use super::{Fault, shown};

/// The most notes that are kept in words.
const NOTES: usize = 100;

/// Reads the members of an archive in order.
#[derive(Debug)]
pub struct Scanner<I> {
    input: I,
    limits: Limits,
    offset: u64,
    /// Members and global headers so far.
    count: u64,
    globals: Globals,
    /// What the global records in force say.
    template: Extended,
    /// Extended headers' content.
    scratch: Vec<u8>,
    /// The content a link claimed and did not get, and where it would have been.
    link_claims: Option<(u64, u64)>,
    notes: Vec<String>,
    more_notes: u64,
    /// For a single member the number is not known.
    numbered: bool,
    done: bool,
}

/// The extended headers of the member that comes next.
struct Pending {
    extended: Extended,
    start: u64,
    bytes: u64,
}

impl<I: Input> Scanner<I> {
    /// Reads the archive that begins where the input stands.
    pub fn new(input: I, limits: Limits) -> Self {
        Self {
            input,
            limits,
            offset: 0,
            count: 0,
            globals: Globals::default(),
            template: Extended::default(),
            scratch: Vec::new(),
            link_claims: None,
            notes: Vec::new(),
            more_notes: 0,
            numbered: true,
            done: false,
        }
    }

    /// The next member, or none at the archive's end; the input stands behind its content then. What follows the end
    /// is not read. After an error there is nothing more.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        if self.done {
            return Ok(None);
        }
        let member = self.next();
        self.done = !matches!(member, Ok(Some(_)));
        member
    }

    fn next(&mut self) -> Result<Option<Member>> {
        let mut pending = self.pending();
        loop {
            let start = self.offset;
            let Some(block) = self.header_block(&pending)? else { return Ok(None) };
            if start == pending.start {
                self.count_one()?;
            }
            match block[block::TYPEFLAG] {
                kind @ (b'x' | b'L' | b'K' | b'g') => {
                    self.extension(kind, &block, &mut pending).map_err(|fault| self.place(fault, start, None))?;
                }
                b'V' => {
                    self.volume_label(&block).map_err(|fault| self.place(fault, start, None))?;
                    pending = self.pending();
                }
                _ => return self.member(&block, pending, start).map(Some),
            }
        }
    }

    /// How many bytes of the archive were passed: behind the last member, its end marker.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The global records met so far, for [`member_at`].
    pub fn globals(&self) -> &Globals {
        &self.globals
    }

    /// What was passed over on the way, in words; bounded, with a last line that counts the rest.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        if self.more_notes > 0 {
            notes.push(format!("and {} more like these", self.more_notes));
        }
        notes
    }

    /// The input, positioned where reading stopped.
    pub fn into_input(self) -> I {
        self.input
    }

    fn pending(&self) -> Pending {
        Pending { extended: self.template.clone(), start: self.offset, bytes: 0 }
    }

    fn count_one(&mut self) -> Result<()> {
        self.count += 1;
        if self.count > self.limits.entries {
            let message = format!("the archive has more than {} members", self.limits.entries);
            return Err(Error::new(Kind::Limit, message));
        }
        Ok(())
    }

    /// Says which member a fault is about.
    fn place(&self, fault: Fault, start: u64, path: Option<&[u8]>) -> Error {
        match fault {
            Fault::Error(error) => error,
            Fault::Wrong(kind, problem) => {
                let number = if self.numbered { format!("member {}", self.count) } else { "the member".to_owned() };
                let path = path.map(|path| format!(" (`{}`)", shown(path))).unwrap_or_default();
                Error::new(kind, format!("{number} at offset {start} of the archive{path}: {problem}"))
            }
        }
    }

    /// Fills the buffer with the archive's next bytes.
    fn take(&mut self, buffer: &mut [u8], what: &str) -> Result<()> {
        let got = self.read(buffer)?;
        if got < buffer.len() {
            let (want, at) = (buffer.len(), self.offset - got as u64);
            let message =
                format!("the archive is truncated: {what} at offset {at} needs {want} bytes, {got} are there");
            return Err(Error::new(Kind::Corrupt, message));
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let at = self.offset;
        let got =
            self.input.fill(buffer).map_err(|e| from_io(e, || format!("cannot read the archive at offset {at}")))?;
        self.offset += got as u64;
        Ok(got)
    }

    fn pass(&mut self, count: u64) -> Result<bool> {
        let at = self.offset;
        let passed =
            self.input.skip(count).map_err(|e| from_io(e, || format!("cannot read the archive at offset {at}")))?;
        self.offset += passed;
        Ok(passed == count)
    }

    /// The next header block with its checksum verified, or none at the archive's end.
    fn header_block(&mut self, pending: &Pending) -> Result<Option<Block>> {
        let start = self.offset;
        let mut block = [0; BLOCK];
        let got = self.read(&mut block)?;
        let sum = block::plain_sum(&block);
        if got == 0 || (got == BLOCK && sum == 0) {
            if start > pending.start {
                let message = format!("the archive ends at offset {start}, behind an extended header without a member");
                return Err(Error::new(Kind::Corrupt, message));
            }
            if got > 0 {
                self.second_end_block(start)?;
            }
            return Ok(None);
        }
        if got < BLOCK {
            let message =
                format!("the archive is truncated: a header at offset {start} needs {BLOCK} bytes, {got} are there");
            return Err(Error::new(Kind::Corrupt, message));
        }
        if !block::checksum_is_right(&block, sum) {
            return Err(self.not_a_header(start));
        }
        Ok(Some(block))
    }

    /// An archive ends with two blocks of zeros; the second may be missing, but nothing else may stand there.
    fn second_end_block(&mut self, start: u64) -> Result<()> {
        let mut block = [0; BLOCK];
        let got = self.read(&mut block)?;
        if got != 0 && (got < BLOCK || block::plain_sum(&block) != 0) {
            let message =
                format!("the block of zeros at offset {start} of the archive is followed by {got} other bytes");
            return Err(Error::new(Kind::Corrupt, message).hint("the archive is damaged, or two were put together"));
        }
        Ok(())
    }

    fn not_a_header(&self, start: u64) -> Error {
        if start == 0 && self.numbered {
            return Error::new(Kind::Corrupt, "this is no tar archive: its first block has a wrong checksum")
                .hint("a compressed archive must be decompressed first");
        }
        let error =
            Error::new(Kind::Corrupt, format!("the header at offset {start} of the archive has a wrong checksum"));
        match self.link_claims {
            Some((at, claimed)) if at == start => error.hint(format!(
                "the hard link before it claims {claimed} bytes of content; write the archive without `-o linkdata`"
            )),
            _ => error.hint("the archive is damaged; get it again"),
        }
    }

    /// Takes in an extended header: `x`, `g`, `L` or `K`.
    fn extension(&mut self, kind: u8, block: &Block, pending: &mut Pending) -> Result<(), Fault> {
        let size = extension_size(block)?;
        let padded = size.checked_next_multiple_of(BLOCK64);
        let most = if kind == b'g' { GLOBAL_BYTES.min(self.limits.header_bytes) } else { self.limits.header_bytes };
        let bytes =
            padded.and_then(|padded| padded.checked_add(BLOCK64 + pending.bytes)).filter(|bytes| *bytes <= most);
        let (Some(bytes), Ok(padded)) = (bytes, usize::try_from(padded.unwrap_or(u64::MAX))) else {
            let problem = format!("extended headers of {size} bytes and more, where {most} are allowed");
            return Err(Fault::Wrong(Kind::Limit, problem));
        };
        pending.bytes = bytes;
        let mut content = std::mem::take(&mut self.scratch);
        content.resize(padded, 0);
        self.take(&mut content, "an extended header")?;
        let used = &content[..usize::try_from(size).unwrap_or(padded)];
        match kind {
            b'x' => {
                pending.extended.headers += 1;
                pending.extended.apply_all(used)?;
            }
            b'L' => pending.extended.gnu_path = Some(block::text(used).to_vec()).filter(|path| !path.is_empty()),
            b'K' => pending.extended.gnu_link = Some(block::text(used).to_vec()).filter(|link| !link.is_empty()),
            _ => self.global(used, pending)?,
        }
        self.scratch = content;
        Ok(())
    }

    /// Takes in a global header, which is no part of the member behind it.
    fn global(&mut self, content: &[u8], pending: &mut Pending) -> Result<(), Fault> {
        let own = &pending.extended;
        if own.headers > 0 || own.gnu_path.is_some() || own.gnu_link.is_some() {
            return Err("a global header between a member and its extended header".into());
        }
        self.globals.add(self.offset, content, &self.limits)?;
        self.template = self.globals.template(self.offset)?;
        *pending = self.pending();
        Ok(())
    }

    fn volume_label(&mut self, block: &Block) -> Result<(), Fault> {
        let size = extension_size(block)?;
        self.note(format!("the volume label `{}` was passed over", shown(block::text(&block[block::NAME]))));
        match size.checked_next_multiple_of(BLOCK64) {
            Some(padded) if self.pass(padded)? => Ok(()),
            _ => Err(format!("the archive is truncated: a volume label of {size} bytes is cut off").into()),
        }
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES {
            self.notes.push(note);
        } else {
            self.more_notes += 1;
        }
    }

    fn member(&mut self, block: &Block, mut pending: Pending, start: u64) -> Result<Member> {
        let draft = member::draft(block, &mut pending.extended, &self.limits)
            .map_err(|fault| self.place(fault, start, Some(block::text(&block[block::NAME]))))?;
        if draft.skipped > 0 {
            self.note(format!(
                "`{}` is a directory of a dump: its list of names was passed over",
                shown(&draft.entry.path)
            ));
        }
        self.finish(block, draft, pending, start)
    }

    /// Reads the sparse map, if there is one, and passes over the content.
    fn finish(&mut self, block: &Block, mut draft: Draft, pending: Pending, start: u64) -> Result<Member> {
        let sparse = self
            .sparse_map(block, &draft, &pending)
            .map_err(|fault| self.place(fault, start, Some(&draft.entry.path)))?;
        let data = self.offset - sparse.as_ref().map_or(0, SparseMap::map_bytes);
        let left = draft.follow().and_then(|follow| follow.checked_sub(self.offset - data));
        let whole = match left {
            Some(left) => self.pass(left)?,
            None => false,
        };
        if !whole {
            let there = self.offset - data;
            let problem =
                format!("the archive is truncated: {} bytes of content are announced, {there} are there", draft.stored);
            return Err(self.place(problem.into(), start, Some(&draft.entry.path)));
        }
        if let Some(sparse) = &sparse {
            draft.entry.kind = EntryKind::File { size: sparse.real_size() };
        }
        self.link_claims = (draft.link_claims > 0).then_some((self.offset, draft.link_claims));
        let globals = self.globals.at(start).cloned();
        let text_acls = pending.extended.text_acls;
        Ok(Member {
            verbatim: draft.verbatim && globals.is_none(),
            absolute: draft.absolute,
            entry: draft.entry,
            span: Span { header: pending.start, block: start, data, stored: draft.stored },
            sparse,
            text_acls: (text_acls.access.is_some() || text_acls.default.is_some()).then_some(text_acls),
            globals,
        })
    }

    fn sparse_map(&mut self, block: &Block, draft: &Draft, pending: &Pending) -> Result<Option<SparseMap>, Fault> {
        let most = self.limits.header_bytes;
        let mut taken = 0;
        let mut next_block = || {
            taken += BLOCK64;
            if taken > most {
                return Err(Error::new(Kind::Limit, format!("a sparse map of more than {most} bytes")));
            }
            let mut next = [0; BLOCK];
            self.take(&mut next, "a sparse map")?;
            Ok(next)
        };
        if draft.old_gnu_sparse {
            return sparse::from_old_gnu(block, draft.stored, next_block).map(Some);
        }
        let records = &pending.extended.sparse;
        let Some(form) = sparse::pax_form(records)? else { return Ok(None) };
        if !matches!(draft.entry.kind, EntryKind::File { .. }) {
            return Err("a sparse map for something that is no file".into());
        }
        match form {
            PaxForm::InRecords => Ok(Some(sparse::from_records(records, draft.stored)?)),
            PaxForm::InContent => sparse::from_content(records, draft.stored, &mut next_block).map(Some),
        }
    }
}

/// The size of what follows a header that is no member.
fn extension_size(block: &Block) -> Result<u64, Fault> {
    let size = block::number(&block[block::SIZE]).and_then(|size| u64::try_from(size).ok());
    size.ok_or_else(|| "the size of an extended header is not a number".into())
}

/// Reads one member again, whose `span.header` was this; `globals` are those of the scan that found it.
pub fn member_at(source: &dyn ReadAt, offset: u64, globals: &Globals, limits: Limits) -> Result<Member> {
    let mut scanner = Scanner::new(Positioned::small(source, offset), limits);
    scanner.offset = offset;
    scanner.numbered = false;
    scanner.globals = globals.only_at(offset);
    scanner.template = globals.template(offset).map_err(|problem| Error::new(Kind::Corrupt, problem))?;
    let member = scanner.next_member()?;
    member.ok_or_else(|| Error::new(Kind::Corrupt, format!("there is no member at offset {offset} of the archive")))
}
