//! The operator's ssh configuration and the trusted host keys, without a server: `real/ssh.rs` asks `ssh -G` besides.

use std::path::{Path, PathBuf};

use castoff::error::Kind;
use castoff::ssh::{Configuration, Files, HostKeys, Jump, Operator, Pin, Route, Wishes};

struct Setup(tempfile::TempDir);

impl Setup {
    fn new(text: &str) -> Self {
        let setup = Self(tempfile::tempdir().unwrap());
        setup.write("config", text);
        setup
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(".ssh").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn operator(&self) -> Operator {
        Operator { user: "me".to_owned(), home: self.0.path().to_owned(), agent: None }
    }

    fn configuration(&self) -> Configuration {
        let file = self.0.path().join(".ssh/config");
        Configuration::read(&self.operator(), &Files::Only(file)).unwrap()
    }

    fn error(&self, host: &str) -> String {
        self.configuration().of(host, None, None).unwrap_err().message().to_owned()
    }
}

#[test]
fn the_first_value_wins_and_includes_stand_where_they_are() {
    let setup = Setup::new(
        "User early\nHost a b !c\n  Include parts/*.conf none.conf\n  Port 2200\nHost *\n  Port 2201\n  HostName %h.example.org\n",
    );
    setup.write("parts/1.conf", "Port 2100\nHost b\n  IdentityFile ~/.ssh/%h-%r-%p-%u\nHost c\n Frobnicate yes\n");
    setup.write("parts/.hidden.conf", "Frobnicate yes\n");
    let configuration = setup.configuration();
    let b = configuration.of("b", None, None).unwrap();
    assert_eq!((b.host_name.as_str(), b.port, b.user.as_deref()), ("b.example.org", Some(2100), Some("early")));
    assert_eq!(b.identity_files, [setup.0.path().join(".ssh/b.example.org-early-2100-me")]);
    assert_eq!(configuration.of("c", None, None).unwrap().port, Some(2201));
    let given = configuration.of("b", Some("root"), Some(9)).unwrap();
    assert_eq!((given.port, given.user.as_deref()), (Some(9), Some("root")));
    assert_eq!(given.identity_files, [setup.0.path().join(".ssh/b.example.org-root-9-me")]);
}

#[test]
fn what_castoff_cannot_do_is_an_error_with_file_and_line() {
    let setup = Setup::new("Host other\n  Ciphers aes128-ctr\nHost h*\n\n  Ciphers aes128-ctr\n");
    let file = setup.0.path().join(".ssh/config");
    assert_eq!(
        setup.error("host"),
        format!(
            "`{}` line 5: castoff cannot do `Ciphers aes128-ctr`, which applies to `host`: it is not ignored, since it may matter",
            file.display()
        )
    );
    setup.configuration().of("elsewhere", None, None).unwrap();
    for wrong in [
        "Frobnicate yes",
        "ProxyCommand nc %h %p",
        "StrictHostKeyChecking no",
        "HostKeyAlias x",
        "IdentityFile ~/%Z",
        "IdentityFile ${HOME}/k",
        "IdentityFile ~other/k",
        "Port 0",
        "Port 65536",
        "ProxyJump a;b",
        "ProxyJump -oProxyCommand=x",
        "HostName a b",
    ] {
        let setup = Setup::new(wrong);
        assert!(setup.error("host").contains("config` line 1: "), "{wrong}: {}", setup.error("host"));
    }
    for fine in
        ["StrictHostKeyChecking yes", "ProxyCommand none", "ProxyJump none", "ForwardAgent yes", "BatchMode yes"]
    {
        Setup::new(fine).configuration().of("host", None, None).unwrap_or_else(|error| panic!("{fine}: {error}"));
    }
}

#[test]
fn a_match_block_is_an_error_unless_it_surely_does_not_apply() {
    for (line, applies) in [
        ("Match all", true),
        ("Match exec \"true\"", true),
        ("Match host host", true),
        ("Match host other", false),
        ("Match originalhost h*,!host", false),
        ("Match user root host other.*", false),
        ("Match user root", true),
        ("Match host=other", false),
        ("Match final all", true),
    ] {
        let setup = Setup::new(&format!("{line}\n  Ciphers x\n"));
        let result = setup.configuration().of("host", None, None);
        assert_eq!(result.is_err(), applies, "{line}");
    }
}

#[test]
fn the_file_that_debian_ships_works() {
    let setup = Setup::new(
        "Include /etc/ssh/nothing.d/*.conf\n\nHost *\n#   Port 22\n    SendEnv LANG LC_*\n    HashKnownHosts yes\n    GSSAPIAuthentication yes\n",
    );
    let settings = setup.configuration().of("host", None, None).unwrap();
    assert_eq!((settings.host_name.as_str(), settings.port, settings.user), ("host", None, None));
}

#[test]
fn a_file_that_includes_itself_ends() {
    let setup = Setup::new("Include config\n");
    let file = setup.0.path().join(".ssh/config");
    let error = Configuration::read(&setup.operator(), &Files::Only(file)).unwrap_err();
    assert!(error.message().contains("16 deep"), "{error}");
}

#[test]
fn a_configuration_that_others_may_write_is_not_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let setup = Setup::new("Port 22\n");
    let file = setup.0.path().join(".ssh/config");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = Configuration::read(&setup.operator(), &Files::Usual).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
}

#[test]
fn the_way_leads_through_every_jump_with_its_own_settings() {
    let setup = Setup::new(
        "Host target\n  ProxyJump u@one:2201,two\nHost one\n  HostName 192.0.2.1\n  ProxyJump zero\nHost two\n  Port 2202\n  ProxyJump never\n",
    );
    let route = Route::plan(&setup.configuration(), &"target".parse().unwrap(), &Wishes::default()).unwrap();
    let seen: Vec<_> = route.hops.iter().map(castoff::ssh::Hop::place).collect();
    assert_eq!(seen, ["me@zero:22", "u@192.0.2.1:2201", "me@two:2202", "me@target:22"]);
    let setup = Setup::new("Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n");
    let error = Route::plan(&setup.configuration(), &"a".parse().unwrap(), &Wishes::default()).unwrap_err();
    assert!(error.message().contains("more than 8 jumps"), "{error}");
}

#[test]
fn hosts_are_parsed_and_hostile_ones_refused() {
    let jump: Jump = "ssh://me@[2001:db8::1]:22".parse().unwrap();
    assert_eq!((jump.host.as_str(), jump.port, jump.user.as_deref()), ("2001:db8::1", Some(22), Some("me")));
    for text in [
        "", "-x", "me@", "@host", "a b", "h\nx", "h;x", "h:0", "h:x", "::1", "[::1", "[::1]x", "$(x)", "u'@h", "h/../x",
    ] {
        assert!(text.parse::<Jump>().is_err(), "{text:?}");
    }
}

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";

fn wire(kind: &str, filling: u8) -> Vec<u8> {
    let mut wire = u32::try_from(kind.len()).unwrap().to_be_bytes().to_vec();
    wire.extend(kind.as_bytes());
    wire.extend([0, 0, 0, 32]);
    wire.extend(if filling == 0 { (0..32).collect() } else { vec![filling; 32] });
    wire
}

fn keys(text: &str) -> HostKeys {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("known_hosts");
    std::fs::write(&file, text).unwrap();
    HostKeys::read(&[file, Path::new("/nonexistent/known_hosts").to_owned()]).unwrap()
}

#[test]
fn a_key_is_trusted_only_for_its_host_and_only_trusted_types_are_asked_for() {
    let keys = keys(&format!("host.org {ED25519}\n"));
    let trusted = keys.of("host.org", 22);
    assert_eq!(trusted.algorithms().unwrap().unwrap(), ["ssh-ed25519"]);
    trusted.check(&wire("ssh-ed25519", 0)).unwrap();
    let changed = trusted.check(&wire("ssh-ed25519", 7)).unwrap_err();
    assert_eq!(changed.kind(), Kind::Refused);
    assert!(changed.message().contains("nothing was sent"), "{changed}");
    for unknown in [keys.of("host.org", 2222), keys.of("other.org", 22)] {
        assert_eq!(unknown.algorithms().unwrap_err().kind(), Kind::Refused);
        assert_eq!(unknown.check(&wire("ssh-ed25519", 0)).unwrap_err().kind(), Kind::Refused);
    }
    assert!(trusted.check(b"").is_err() && trusted.check(&[0, 0, 0, 200, 1]).is_err());
}

#[test]
fn a_revoked_key_is_refused_wherever_it_is_also_trusted() {
    let keys = keys(&format!("@revoked * {ED25519}\nhost.org {ED25519}\n"));
    let error = keys.of("host.org", 22).check(&wire("ssh-ed25519", 0)).unwrap_err();
    assert!(error.message().contains("revoked"), "{error}");
}

#[test]
fn pins_are_fingerprints_or_key_lines() {
    let line: Pin = ED25519.parse().unwrap();
    // `ssh-keygen -lf` of the line above.
    let fingerprint = "SHA256:ZkAslGjFiUHdGf/WUL8rQvkib4PTvQatUV0OUQSncCA";
    let typed: Pin = format!("ssh-ed25519 {fingerprint}").parse().unwrap();
    assert_eq!(line, typed);
    for text in ["", "SHA256:abc", "MD5:00:11", "ssh-ed25519 AAAA", "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIA=="] {
        assert!(text.parse::<Pin>().is_err(), "{text}");
    }
}
