//! Lines of a known_hosts file (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT): which keys belong to which hosts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::HostKey;
use crate::ssh::pattern;

/// What a line says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The host has this key.
    Plain,
    /// The key signs host keys; certificates are not understood here.
    Authority,
    /// Nobody may be trusted with this key.
    Revoked,
}

/// Whom a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    Patterns(Vec<String>),
    /// HMAC-SHA1 of the name under the salt.
    Hashed {
        salt: Vec<u8>,
        mac: Vec<u8>,
    },
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) mark: Mark,
    hosts: Hosts,
    pub(super) key: HostKey,
}

/// The lines of a file; each that cannot be read is told by its number, since it may be the one that matters.
pub(super) fn parse(text: &str) -> Result<Vec<Known>, (usize, &'static str)> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            lines.push(parse_line(line).map_err(|what| (number + 1, what))?);
        }
    }
    Ok(lines)
}

fn parse_line(line: &str) -> Result<Known, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let mut word = words.next().unwrap_or_default();
    let mark = match word {
        "@cert-authority" => Mark::Authority,
        "@revoked" => Mark::Revoked,
        _ if word.starts_with('@') => return Err("unknown marker"),
        _ => Mark::Plain,
    };
    if mark != Mark::Plain {
        word = words.next().ok_or("no host")?;
    }
    let hosts = if let Some(hashed) = word.strip_prefix("|1|") {
        let (salt, mac) = hashed.split_once('|').ok_or("a hashed host has no hash")?;
        let decode = |text| BASE64.decode(text).map_err(|_| "a hashed host is not base64");
        Hosts::Hashed { salt: decode(salt)?, mac: decode(mac)? }
    } else if word.starts_with('|') {
        return Err("unknown kind of hashed host");
    } else {
        Hosts::Patterns(word.split(',').map(str::to_ascii_lowercase).collect())
    };
    let (kind, blob) = (words.next().ok_or("no key type")?, words.next().ok_or("no key")?);
    let key = HostKey::from_base64(kind, blob)?;
    Ok(Known { mark, hosts, key })
}

impl Known {
    /// Whether the line is about this host; ports other than 22 are part of the name.
    pub(super) fn is_about(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let name = if port == 22 { host } else { format!("[{host}]:{port}") };
        match &self.hosts {
            Hosts::Patterns(patterns) => pattern::fits_list(patterns.iter().map(String::as_str), &name),
            Hosts::Hashed { salt, mac } => hmac_sha1(salt, name.as_bytes())[..] == mac[..],
        }
    }
}

/// RFC 2104 over SHA-1, as `ssh-keygen -H` hides names; the name is no secret, so time does not matter.
fn hmac_sha1(key: &[u8], text: &[u8]) -> [u8; 20] {
    use sha1::Digest as _;
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..20].copy_from_slice(&sha1::Sha1::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = sha1::Sha1::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    sha1::Sha1::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

    #[test]
    fn the_vector_of_rfc_2202() {
        let mac = hmac_sha1(b"Jefe", b"what do ya want for nothing?");
        let expected = 0xeffc_df6a_e5eb_2fa2_d274_16d5_f184_df9c_u128.to_be_bytes();
        assert_eq!((&mac[..16], &mac[16..]), (&expected[..], &0x259a_7c79_u32.to_be_bytes()[..]));
    }

    #[test]
    fn names_ports_patterns_and_markers() {
        let text = format!("# c\n\nhost.org,[Host.org]:2222 {KEY} me\n*.net,!x.net {KEY}\n@revoked * {KEY}\n");
        let lines = parse(&text).unwrap();
        assert!(lines[0].is_about("HOST.org", 22) && lines[0].is_about("host.org", 2222));
        assert!(!lines[0].is_about("host.org", 2223));
        assert!(lines[1].is_about("a.net", 22) && !lines[1].is_about("x.net", 22));
        assert_eq!(lines[2].mark, Mark::Revoked);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_told_by_its_number() {
        for line in [
            "host",
            "host ssh-ed25519",
            "host ssh-ed25519 !!",
            "@x host a b",
            "|2|a|b ssh-ed25519 AAAA",
            "host ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA",
        ] {
            assert_eq!(parse(&format!("# one\n{line}\n")).unwrap_err().0, 2, "{line}");
        }
    }
}
