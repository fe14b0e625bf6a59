//! Uploads one file as castoff does, for `upload.py` to measure: `upload FILE NAME URL KEY KNOWN_HOSTS`.
#![allow(clippy::print_stdout)]

use castoff::error::{Error, Kind, Result};
use castoff::progress::{Cancel, Progress};
use castoff::publish::{Access, Content, Tier, Upload, open};
use castoff::ssh::{Files, Operator, Wishes};
use castoff::vocab::Digest;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, name, url, key, known_hosts] = arguments.as_slice() else {
        return Err(Error::new(Kind::Usage, "upload FILE NAME URL KEY KNOWN_HOSTS"));
    };
    let wishes = Wishes { identity_files: vec![key.into()], known_hosts: vec![known_hosts.into()], pins: Vec::new() };
    let access = Access { wishes, ssh_configuration: Files::Nothing, ..Access::default() };
    let (cancel, progress) = (Cancel::new(), Progress::silent());
    let mut store = open(&url.parse()?, &access, &Operator::current()?, &cancel)?;
    let size = castoff::host::fs::metadata(file.as_ref())?.map_or(0, |metadata| metadata.len());
    // The peers do not verify, so neither does this: the digest only has to differ from other names' digests.
    let content = Content::open(file.as_ref(), size, Digest::of(name.as_bytes()))?;
    let name = name.parse()?;
    let upload = Upload {
        content: &content,
        name: &name,
        minimum: Tier::Size,
        retries: 0,
        progress: &progress,
        cancel: &cancel,
    };
    let sent = upload.send(store.as_mut(), 0, &mut |_| Ok(()))?;
    upload.give_name(store.as_mut())?;
    println!("{sent:?}");
    Ok(())
}
