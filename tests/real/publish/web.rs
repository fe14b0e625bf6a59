//! What only HTTP can suffer: wrong passwords, authorities that are not trusted, plain servers, lost lines.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::{program, succeed};
use castoff::error::Kind;
use castoff::progress::Cancel;
use castoff::publish::{Access, Target, Tier, open};

use super::servers::{Apache, PASSWORD, Proxy};
use super::{Run, Sample, Small, operator};

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

fn nobody() -> castoff::ssh::Operator {
    operator(Path::new("/nonexistent"))
}

#[test]
fn tls_is_checked_against_the_named_authorities() {
    let apache = Apache::start(true);
    let target = target(&format!("https://me@localhost:{}/dav/", apache.port));
    let mut access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
    let error = open(&target, &access, &nobody(), &Cancel::new()).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{}", error.render());
    access.authorities = Some(apache.path("cert.pem"));
    let mut store = open(&target, &access, &nobody(), &Cancel::new()).unwrap();
    let sample = Sample::new(3 << 20, 1);
    assert_eq!(Run::of(&sample, "image-1.tar.xz").run(store.as_mut(), 0).unwrap().tier, Tier::ReadBack);
    assert!(sample.is_at(&apache.path("dav/image-1.tar.xz")));
}

#[test]
fn a_wrong_password_is_refused_and_never_repeated() {
    let apache = Apache::start(false);
    let target = target(&format!("http://me@127.0.0.1:{}/dav/", apache.port));
    let wrong = apache.path("wrong");
    std::fs::write(&wrong, "canary-that-is-wrong\n").unwrap();
    let access = Access { secret_file: Some(wrong.clone()), ..Access::default() };
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = open(&target, &access, &nobody(), &Cancel::new()).err().unwrap();
    assert!(error.message().contains("everybody may read"), "{error}");
    std::fs::set_permissions(&wrong, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = open(&target, &access, &nobody(), &Cancel::new()).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(!error.render().contains("canary"), "{}", error.render());
    let error = open(&target, &Access::default(), &nobody(), &Cancel::new()).err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(!format!("{access:?}").contains(PASSWORD));
}

#[test]
fn a_lost_line_costs_one_piece() {
    let apache = Apache::start(false);
    let proxy = Proxy::to(apache.port);
    let target = target(&format!("http://me@127.0.0.1:{}/dav/", proxy.port));
    let access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
    let mut store = open(&target, &access, &nobody(), &Cancel::new()).unwrap();
    let sample = Sample::new(80 << 20, 2);
    let mut run = Run::of(&sample, "image-2.tar.xz");
    run.retries = 3;
    proxy.cut_at(60 << 20);
    let uploaded = run.run(store.as_mut(), 0).unwrap();
    assert_eq!(uploaded.sent.reconnected, 1);
    assert!(proxy.sent() < 100 << 20, "{} bytes went out", proxy.sent());
    assert!(sample.is_at(&apache.path("dav/image-2.tar.xz")));
}

#[test]
fn servers_that_know_no_pieces_get_the_file_at_once() {
    // As nginx does it, and as servers do it that take the piece for the whole file.
    for more in [
        "RewriteEngine on\nRewriteCond %{HTTP:Content-Range} .\nRewriteRule ^ - [R=501,L]\n",
        "RequestHeader unset Content-Range early\n",
    ] {
        let apache = Apache::start_with(false, more);
        let target = target(&format!("http://me@127.0.0.1:{}/dav/", apache.port));
        let access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
        let mut store = open(&target, &access, &nobody(), &Cancel::new()).unwrap();
        let sample = Sample::new(40 << 20, 4);
        let run = Run::of(&sample, "image-4.tar.xz");
        let uploaded = run.run(store.as_mut(), 0).unwrap();
        assert!((40 << 20..=73 << 20).contains(&uploaded.sent.sent), "{more} {:?}", uploaded.sent);
        assert!(!uploaded.repeated && sample.is_at(&apache.path("dav/image-4.tar.xz")), "{more}");
        // The next file, and one that was begun: no piece is tried any more.
        let sample = Sample::new(20 << 20, 5);
        let run = Run::of(&sample, "image-5.tar.xz");
        let part = apache.path("dav").join(run.temporary());
        std::fs::write(&part, vec![0; 19 << 20]).unwrap();
        succeed(program("chown").arg("www-data:www-data").arg(&part));
        let uploaded = run.run(store.as_mut(), 19 << 20).unwrap();
        assert_eq!((uploaded.sent.from, uploaded.sent.sent), (0, 20 << 20), "{more}");
        assert!(sample.is_at(&apache.path("dav/image-5.tar.xz")), "{more}");
    }
}

#[test]
fn a_full_server_and_a_folder_that_is_not_there_are_told() {
    let apache = Apache::start(false);
    let access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
    let absent = target(&format!("http://me@127.0.0.1:{}/dav/absent/", apache.port));
    let error = open(&absent, &access, &nobody(), &Cancel::new()).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{}", error.render());
    let small = apache.path("dav/small");
    std::fs::create_dir(&small).unwrap();
    let _small = Small::mount(&small, "24m");
    succeed(program("chown").arg("www-data:www-data").arg(&small));
    let target = target(&format!("http://me@127.0.0.1:{}/dav/small/", apache.port));
    let mut store = open(&target, &access, &nobody(), &Cancel::new()).unwrap();
    let sample = Sample::new(30 << 20, 6);
    let error = Run::of(&sample, "image-6.tar.xz").run(store.as_mut(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{}", error.render());
    assert!(!small.join("image-6.tar.xz").exists());
}

#[test]
fn a_server_that_is_gone_may_come_back() {
    let apache = Apache::start(false);
    let target = target(&format!("http://me@127.0.0.1:{}/dav/", apache.port));
    let access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
    let mut store = open(&target, &access, &nobody(), &Cancel::new()).unwrap();
    drop(apache);
    let sample = Sample::new(1000, 3);
    let error = Run::of(&sample, "image-3.tar.xz").run(store.as_mut(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.render());
    assert!(error.kind().retry_may_help());
}
