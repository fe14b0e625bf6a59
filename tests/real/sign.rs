//! Signatures, both ways with the programs that define them: `ssh-keygen -Y` and minisign.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use castoff::error::{Error, Kind};
use castoff::progress::Cancel;
use castoff::sign::minisign;
use castoff::sign::ssh::{AllowedSigners, Judge, Key, NAMESPACE, Revoked, Signatory, Signer};
use castoff::vocab::Secret;

use crate::harness::{program, succeed};

const MESSAGE: &[u8] = b"{\n  \"format\": 1\n}\n";
const WHO: &str = "release@example.net";
/// 2026-11-21T01:36:00Z.
const NOW: u64 = 1_795_224_960;

/// A folder with a key pair of ssh-keygen.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(kind: &[&str], passphrase: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pair = Self { folder };
        succeed(
            program("ssh-keygen")
                .args(["-q", "-C", "a comment", "-N", passphrase, "-t"])
                .args(kind)
                .arg("-f")
                .arg(pair.key()),
        );
        pair
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The key type and the key, without the comment.
    fn public(&self) -> String {
        let text = std::fs::read_to_string(self.key().with_extension("pub")).unwrap();
        text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    fn sign(&self) -> String {
        Signer::new(Key::File(self.key())).sign(MESSAGE, &Cancel::new()).unwrap()
    }

    fn allowed(&self, options: &str) -> String {
        format!("# comment\n\n{WHO} {options} {} and a comment\n", self.public())
    }
}

fn piped(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Who says no before it has read all of it closes the pipe; what it says is in its output.
    let written = child.stdin.take().unwrap().write_all(input);
    assert!(written.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::BrokenPipe), "{written:?}");
    child.wait_with_output().unwrap()
}

/// What `ssh-keygen -Y verify` says of it.
fn theirs(allowed: &str, signature: &str, message: &[u8], more: &[&str]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (signers, armour) = (folder.path().join("allowed"), folder.path().join("sig"));
    std::fs::write(&signers, allowed).unwrap();
    std::fs::write(&armour, signature).unwrap();
    let mut command = program("ssh-keygen");
    command.args(["-Y", "verify", "-n", NAMESPACE, "-I", WHO, "-f"]).arg(signers).arg("-s").arg(armour).args(more);
    piped(&mut command, message).status.success()
}

fn ours(allowed: &str, signature: &str, message: &[u8]) -> Result<Signatory, Error> {
    let allowed = AllowedSigners::parse(allowed, "allowed_signers")?;
    let revoked = Revoked::default();
    Judge { allowed: &allowed, revoked: &revoked, principal: WHO, at: NOW }.verify(message, signature.as_bytes())
}

const KINDS: [&[&str]; 5] =
    [&["ed25519"], &["ecdsa", "-b", "256"], &["ecdsa", "-b", "384"], &["rsa", "-b", "2048"], &["rsa", "-b", "4096"]];

#[test]
fn a_signature_of_every_key_type_is_taken_by_both_and_a_changed_one_by_none() {
    for kind in KINDS {
        let pair = Pair::new(kind, "");
        let allowed = pair.allowed("");
        let signature = pair.sign();
        assert!(theirs(&allowed, &signature, MESSAGE, &[]), "{kind:?}");
        let who = ours(&allowed, &signature, MESSAGE).unwrap();
        let shown = succeed(program("ssh-keygen").arg("-lf").arg(pair.key()));
        assert_eq!((who.principal.as_str(), shown.split(' ').nth(1).unwrap()), (WHO, who.fingerprint.as_str()));
        assert!(
            who.algorithm.starts_with(pair.public().split(' ').next().unwrap().trim_end_matches("-rsa")),
            "{who:?}"
        );

        let mut changed = MESSAGE.to_vec();
        changed[5] ^= 1;
        assert!(!theirs(&allowed, &signature, &changed, &[]));
        assert_eq!(ours(&allowed, &signature, &changed).unwrap_err().kind(), Kind::Refused, "{kind:?}");
        assert!(ours(&allowed, &signature, &MESSAGE[1..]).is_err());
    }
}

/// A string of the SSH protocol.
fn wire(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&length[..], bytes].concat()
}

/// What a security key of ed25519 signs, put together by hand from PROTOCOL.u2f and PROTOCOL.sshsig: the line of its
/// public key, and its signature.
fn security_key(flags: u8, counter: u32) -> (String, String) {
    use base64::Engine as _;
    use ring::signature::KeyPair as _;
    const KIND: &[u8] = b"sk-ssh-ed25519@openssh.com";
    let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let sha = |hash, bytes: &[u8]| ring::digest::digest(hash, bytes).as_ref().to_vec();
    let key = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = [wire(KIND), wire(key.public_key().as_ref()), wire(b"ssh:")].concat();
    let tail = [wire(NAMESPACE.as_bytes()), wire(b""), wire(b"sha512")].concat();
    let signed = [&b"SSHSIG"[..], &tail, &wire(&sha(&ring::digest::SHA512, MESSAGE))].concat();
    let state = [&[flags][..], &counter.to_be_bytes()].concat();
    let sha256 = &ring::digest::SHA256;
    let blob = key.sign(&[sha(sha256, b"ssh:"), state.clone(), sha(sha256, &signed)].concat());
    let signature = [wire(KIND), wire(blob.as_ref()), state].concat();
    let whole = [&b"SSHSIG\0\0\0\x01"[..], &wire(&public), &tail, &wire(&signature)].concat();
    let text = base64(&whole);
    let lines: Vec<&str> = text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let armour = format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    (format!("{} {}", std::str::from_utf8(KIND).unwrap(), base64(&public)), armour)
}

#[test]
fn a_security_key_is_believed_by_both_when_it_was_touched() {
    for (flags, counter) in [(1, 5), (5, u32::MAX), (0, 0)] {
        let (key, signature) = security_key(flags, counter);
        let allowed = format!("{WHO} {key}\n");
        assert_eq!(
            ours(&allowed, &signature, MESSAGE).is_ok(),
            theirs(&allowed, &signature, MESSAGE, &[]),
            "flags {flags}"
        );
        assert!(flags == 0 || ours(&allowed, &signature, MESSAGE).is_ok());
        assert!(ours(&allowed, &signature, &MESSAGE[1..]).is_err());
    }
}

#[test]
fn what_ssh_keygen_signs_from_a_file_is_verified_with_either_hash() {
    let pair = Pair::new(&["ed25519"], "");
    for hash in ["sha256", "sha512"] {
        let file = pair.folder.path().join(hash);
        std::fs::write(&file, MESSAGE).unwrap();
        let option = format!("-Ohashalg={hash}");
        succeed(
            program("ssh-keygen").args(["-Y", "sign", "-q", "-n", NAMESPACE, &option, "-f"]).arg(pair.key()).arg(&file),
        );
        let signature = std::fs::read_to_string(file.with_extension("sig")).unwrap();
        ours(&pair.allowed(""), &signature, MESSAGE).unwrap();
    }
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_signature_is_refused() {
    for kind in KINDS {
        let pair = Pair::new(kind, "");
        let (allowed, signature) = (pair.allowed(""), pair.sign());
        let bytes = signature.as_bytes();
        let judge = |changed: &[u8]| {
            let allowed = AllowedSigners::parse(&allowed, "a").unwrap();
            Judge { allowed: &allowed, revoked: &Revoked::default(), principal: WHO, at: NOW }.verify(MESSAGE, changed)
        };
        judge(bytes).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            for bit in [0, 5] {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1 << bit;
                // A bit that only changes how base64 is wrapped changes no signature.
                let stripped =
                    |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
                assert!(
                    judge(&changed).is_err() || stripped(&changed) == stripped(bytes),
                    "{kind:?} byte {at} bit {bit}"
                );
            }
        }
        for cut in (0..bytes.len() - 1).step_by(11) {
            assert!(judge(&bytes[..cut]).is_err(), "{kind:?} cut at {cut}");
        }
        assert!(judge(&[b'A'; 100_000]).is_err());
    }
}

#[test]
fn another_namespace_principal_key_or_algorithm_is_refused_by_both() {
    let (pair, other) = (Pair::new(&["ed25519"], ""), Pair::new(&["ecdsa"], ""));
    let signature = pair.sign();
    let foreign = piped(program("ssh-keygen").args(["-Y", "sign", "-q", "-n", "file", "-f"]).arg(pair.key()), MESSAGE);
    let foreign = String::from_utf8(foreign.stdout).unwrap();
    let elsewhere = pair.allowed("").replace(WHO, "other@example.net");
    let narrow = pair.allowed("namespaces=\"git,file\"");
    let cases = [
        ("another namespace", pair.allowed(""), &foreign),
        ("another principal", elsewhere, &signature),
        ("a key for another namespace", narrow, &signature),
        ("another key", other.allowed(""), &signature),
        ("a negated principal", pair.allowed("").replace(WHO, "*,!release@*"), &signature),
        ("nobody", String::new(), &signature),
    ];
    for (what, allowed, signature) in cases {
        assert!(!theirs(&allowed, signature, MESSAGE, &[]), "{what}");
        let error = ours(&allowed, signature, MESSAGE).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{what}: {error:?}");
    }
    for (what, allowed) in [
        ("patterns", pair.allowed("").replace(WHO, "\"a@b,*@example.net\"")),
        ("namespaces", pair.allowed("namespaces=\"git,castoff-*\"")),
        ("several lines", format!("{}{}{}", other.allowed(""), pair.allowed("namespaces=\"x\""), pair.allowed(""))),
        ("capital letters", pair.allowed("NameSpaces=\"castoff-release\"")),
    ] {
        assert!(theirs(&allowed, &signature, MESSAGE, &[]), "{what}");
        ours(&allowed, &signature, MESSAGE).unwrap();
    }
}

#[test]
fn a_key_is_valid_from_and_until_the_same_second_for_both() {
    let pair = Pair::new(&["ed25519"], "");
    let signature = pair.sign();
    let at = "-Overify-time=20261121013600Z";
    for (options, valid) in [
        ("valid-after=\"20261121013600Z\"", true),
        ("valid-after=\"20261121013601Z\"", false),
        ("valid-before=\"20261121013600Z\"", true),
        ("valid-before=\"20261121013559Z\"", false),
        ("valid-after=\"20261120Z\",valid-before=\"202611220000Z\"", true),
        ("namespaces=\"castoff-release\",valid-before=\"20251122Z\"", false),
    ] {
        let allowed = pair.allowed(options);
        assert_eq!(theirs(&allowed, &signature, MESSAGE, &[at]), valid, "{options}");
        assert_eq!(ours(&allowed, &signature, MESSAGE).is_ok(), valid, "{options}");
    }
}

#[test]
fn a_revoked_key_signs_nothing_any_more() {
    let (pair, other) = (Pair::new(&["ed25519"], ""), Pair::new(&["ed25519"], ""));
    let signature = pair.sign();
    let list = pair.folder.path().join("revoked");
    for (keys, valid) in [(&[&other][..], true), (&[&other, &pair], false)] {
        let text: String = keys.iter().map(|pair| pair.public() + "\n").collect();
        std::fs::write(&list, format!("# gone\n{text}")).unwrap();
        let more = ["-r", list.to_str().unwrap()];
        assert_eq!(theirs(&pair.allowed(""), &signature, MESSAGE, &more), valid);
        let allowed = AllowedSigners::parse(&pair.allowed(""), "a").unwrap();
        let revoked = Revoked::parse(&std::fs::read(&list).unwrap(), "revoked").unwrap();
        let judge = Judge { allowed: &allowed, revoked: &revoked, principal: WHO, at: NOW };
        assert_eq!(judge.verify(MESSAGE, signature.as_bytes()).is_ok(), valid);
    }
    let krl = pair.folder.path().join("krl");
    succeed(program("ssh-keygen").args(["-q", "-kf"]).arg(&krl).arg(pair.key().with_extension("pub")));
    assert_eq!(Revoked::parse(&std::fs::read(krl).unwrap(), "krl").unwrap_err().kind(), Kind::Unsupported);
    assert!(Revoked::parse(b"ssh-ed25519 nonsense\n", "revoked").is_err());
}

#[test]
fn a_file_of_allowed_signers_that_is_not_understood_is_refused_with_its_line() {
    let pair = Pair::new(&["ed25519"], "");
    for (options, word) in [
        ("cert-authority", "cert-authority"),
        ("namespaces=\"a\",cert-authority", "cert-authority"),
        ("valid-before=\"20261121\"", "UTC"),
        ("valid-before=20261121Z", "quoted"),
        ("namespaces=\"a\",namespaces=\"b\"", "twice"),
        ("valid-after=\"20261122Z\",valid-before=\"20261121Z\"", "before"),
        ("unknown", "unknown"),
        ("namespaces=\"a", "quote"),
        ("namespaces", "namespaces"),
    ] {
        let error = AllowedSigners::parse(&pair.allowed(options), "allowed_signers").unwrap_err();
        let shown = error.render();
        assert!(shown.contains("`allowed_signers` line 3") && shown.contains(word), "{options}: {shown}");
    }
    for text in ["a", "a ssh-ed25519", "a ssh-ed25519 !", "\"a ssh-ed25519 A", "\"\" ssh-ed25519 A"] {
        assert!(AllowedSigners::parse(text, "allowed_signers").is_err(), "{text}");
    }
}

#[test]
fn keys_with_a_passphrase_in_memory_and_in_an_agent_sign_too() {
    for kind in [&["ed25519"][..], &["ecdsa", "-b", "384"]] {
        let pair = Pair::new(kind, "canary-passphrase");
        let passphrase = Secret::new("canary-passphrase".to_owned());
        let text = Secret::new(std::fs::read_to_string(pair.key()).unwrap());
        for key in [Key::LockedFile(pair.key(), passphrase.clone()), Key::Memory(text, Some(passphrase))] {
            assert!(!format!("{key:?}").contains("canary") && !format!("{key:?}").contains("PRIVATE"));
            let signature = Signer::new(key).sign(MESSAGE, &Cancel::new()).unwrap();
            assert!(theirs(&pair.allowed(""), &signature, MESSAGE, &[]));
            ours(&pair.allowed(""), &signature, MESSAGE).unwrap();
        }
    }
    let pair = Pair::new(&["rsa"], "");
    let agent = Agent::start(pair.folder.path());
    succeed(program("ssh-add").arg("-q").arg(pair.key()).env("SSH_AUTH_SOCK", &agent.socket));
    std::fs::remove_file(pair.key()).unwrap();
    let key = Key::Agent { public_key: pair.key().with_extension("pub"), socket: Some(agent.socket.clone()) };
    let signature = Signer::new(key).sign(MESSAGE, &Cancel::new()).unwrap();
    assert!(theirs(&pair.allowed(""), &signature, MESSAGE, &[]));
    ours(&pair.allowed(""), &signature, MESSAGE).unwrap();
}

#[test]
fn no_secret_is_in_an_error_and_nobody_is_asked() {
    let pair = Pair::new(&["ed25519"], "canary-passphrase");
    let text = std::fs::read_to_string(pair.key()).unwrap();
    let wrong = Secret::new("canary-wrong".to_owned());
    for key in [
        Key::File(pair.key()),
        Key::LockedFile(pair.key(), wrong.clone()),
        Key::Memory(Secret::new(text.clone()), None),
        Key::Memory(Secret::new(text.clone()), Some(wrong)),
        Key::Memory(Secret::new(text.replace("BEGIN", "BEGGIN")), None),
        Key::File(pair.folder.path().join("absent")),
        Key::Agent { public_key: pair.key().with_extension("pub"), socket: Some(pair.folder.path().join("no-agent")) },
    ] {
        let error = Signer::new(key).sign(MESSAGE, &Cancel::new()).unwrap_err();
        let shown = format!("{}{error:?}", error.render());
        assert!(!shown.contains("canary") && !shown.contains(&text[40..80]), "{shown}");
        assert!(error.next_step().is_some() || shown.contains("passphrase"), "{shown}");
    }
}

/// An ssh-agent that ends with this value.
pub(crate) struct Agent {
    pub(crate) socket: PathBuf,
    child: std::process::Child,
}

impl Agent {
    pub(crate) fn start(folder: &Path) -> Self {
        let socket = folder.join("agent.sock");
        let child = program("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !socket.exists() {
            assert!(std::time::Instant::now() < until, "the agent does not listen");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Self { socket, child }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A key pair of minisign; an empty password makes a key without one.
fn minisign_pair(folder: &Path, password: &str) -> (PathBuf, String) {
    let (secret, public) = (folder.join("secret"), folder.join("public"));
    let mut command = program("minisign");
    command
        .arg("-G")
        .args(if password.is_empty() { &["-W"][..] } else { &[] })
        .arg("-s")
        .arg(&secret)
        .arg("-p")
        .arg(&public);
    let output = piped(&mut command, format!("{password}\n{password}\n").as_bytes());
    assert!(output.status.success(), "{output:?}");
    (secret, std::fs::read_to_string(public).unwrap())
}

#[test]
fn minisign_takes_ours_and_we_take_theirs() {
    for password in ["", "canary-password"] {
        let folder = tempfile::tempdir().unwrap();
        let (secret, public) = minisign_pair(folder.path(), password);
        let key = minisign::PublicKey::parse(&public).unwrap();
        assert_eq!(minisign::PublicKey::parse(public.lines().nth(1).unwrap()).unwrap(), key);
        let file = folder.path().join("manifest.json");
        std::fs::write(&file, MESSAGE).unwrap();

        let password_given = (!password.is_empty()).then(|| Secret::new(password.to_owned()));
        let signer = minisign::Signer { key: &secret, password: password_given };
        let signature = signer.sign(MESSAGE, "debian/lxc/3").unwrap();
        assert_eq!(minisign::verify(MESSAGE, &signature, std::slice::from_ref(&key)).unwrap(), "debian/lxc/3");
        let armour = folder.path().join("manifest.json.minisig");
        std::fs::write(&armour, &signature).unwrap();
        let verify = |file: &Path| {
            let mut command = program("minisign");
            command
                .args(["-V", "-q", "-p"])
                .arg(folder.path().join("public"))
                .arg("-x")
                .arg(&armour)
                .arg("-m")
                .arg(file);
            command.output().unwrap().status.success()
        };
        assert!(verify(&file));

        std::fs::remove_file(&armour).unwrap();
        let mut sign = program("minisign");
        sign.args(["-S", "-t", "theirs", "-s"]).arg(&secret).arg("-x").arg(&armour).arg("-m").arg(&file);
        // It reads nothing where there is no password.
        let asked = if password.is_empty() { String::new() } else { format!("{password}\n") };
        assert!(piped(&mut sign, asked.as_bytes()).status.success());
        let theirs = std::fs::read_to_string(&armour).unwrap();
        assert_eq!(minisign::verify(MESSAGE, &theirs, std::slice::from_ref(&key)).unwrap(), "theirs");

        let other = minisign_pair(tempfile::tempdir().unwrap().path(), "").1;
        let other = minisign::PublicKey::parse(&other).unwrap();
        assert_eq!(minisign::verify(MESSAGE, &theirs, std::slice::from_ref(&other)).unwrap_err().kind(), Kind::Refused);
        minisign::verify(MESSAGE, &theirs, &[other, key.clone()]).unwrap();
        assert!(minisign::verify(b"other", &theirs, std::slice::from_ref(&key)).is_err());
        assert!(minisign::verify(MESSAGE, &theirs.replace("theirs", "thiers"), std::slice::from_ref(&key)).is_err());
        for cut in 0..theirs.len() - 1 {
            assert!(minisign::verify(MESSAGE, &theirs[..cut], std::slice::from_ref(&key)).is_err(), "cut at {cut}");
        }
    }
}

#[test]
fn a_minisign_password_is_in_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let (secret, _) = minisign_pair(folder.path(), "canary-password");
    for password in [None, Some(Secret::new("canary-wrong".to_owned()))] {
        let signer = minisign::Signer { key: &secret, password };
        let error = signer.sign(MESSAGE, "x").unwrap_err();
        assert!(!format!("{signer:?}{error:?}").contains("canary"), "{error:?}");
    }
    std::fs::write(&secret, "canary").unwrap();
    let signer = minisign::Signer { key: &secret, password: None };
    assert!(!signer.sign(MESSAGE, "x").unwrap_err().render().contains("canary"));
}
