//! SIGKILL between any two steps of an upload: what is served is nothing or the whole file, and the next run finishes.
//!
//! The process that is killed is this test program, run once more for [`victim`] alone.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use super::servers::{Sshd, public};
use super::{Run, Sample, access, connect_as, name, operator};
use castoff::progress::{Cancel, Progress};
use castoff::publish::{Access, Content, RemoteStore, Target, Tier, Upload, open};
use castoff::ssh::{Files, Wishes};

const SIZE: usize = 12 << 20;

/// What the process that is killed does; as a test of its own it has nothing to do.
#[test]
fn victim() {
    let Some(arguments) = std::env::var_os("CASTOFF_TEST_UPLOAD") else { return };
    let arguments = arguments.into_string().unwrap();
    let [url, source, digest, key, known_hosts, home] = arguments.split('|').collect::<Vec<_>>().try_into().unwrap();
    let wishes = Wishes { identity_files: vec![key.into()], known_hosts: vec![known_hosts.into()], pins: Vec::new() };
    let access = Access { wishes, ssh_configuration: Files::Nothing, ..Access::default() };
    let (cancel, progress) = (Cancel::new(), Progress::silent());
    let target: Target = url.parse().unwrap();
    let mut store = open(&target, &access, &operator(Path::new(home)), &cancel).unwrap();
    let content = Content::open(Path::new(source), SIZE as u64, digest.parse().unwrap()).unwrap();
    let name = name("image-1.tar.xz");
    let minimum = Tier::ReadBack;
    let upload = Upload { content: &content, name: &name, minimum, retries: 0, progress: &progress, cancel: &cancel };
    upload.run(store.as_mut(), 0, &mut |_| Ok(())).unwrap();
}

fn run_victim(sample: &Sample, url: &str, sshd: &Sshd, fault: (&str, &str)) -> std::process::ExitStatus {
    let arguments = [
        url.to_owned(),
        sample.path.display().to_string(),
        sample.content.digest().to_string(),
        sshd.path("id").display().to_string(),
        sshd.path("known").display().to_string(),
        sshd.path("").display().to_string(),
    ];
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "publish::kill::victim"]).env("CASTOFF_TEST_UPLOAD", arguments.join("|"));
    let output = command.env(fault.0, fault.1).output().unwrap();
    output.status
}

#[test]
fn a_killed_upload_leaves_nothing_half_and_is_finished_by_the_next() {
    let sshd = Sshd::start("");
    let line = format!("[127.0.0.1]:{} {}\n", sshd.port, public(&sshd.path("host_ed25519")));
    std::fs::write(sshd.path("known"), line).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = format!("file://{}", folder.path().display());
    each_point(&sshd, &local, folder.path(), &|| {
        let nobody = operator(Path::new("/nonexistent"));
        open(&local.parse().unwrap(), &Access::default(), &nobody, &Cancel::new()).unwrap()
    });
    let images = sshd.target("images");
    let remote = format!("sftp://root@127.0.0.1:{}{}", sshd.port, images.display());
    each_point(&sshd, &remote, &images, &|| connect_as(&sshd, sshd.port, &images, &access(&sshd, sshd.port)).unwrap());
}

fn each_point(sshd: &Sshd, url: &str, folder: &Path, store: &dyn Fn() -> Box<dyn RemoteStore>) {
    let log = sshd.path("points");
    let sample = Sample::new(SIZE, 12);
    let run = Run::of(&sample, "image-1.tar.xz");
    let (served, part) = (folder.join("image-1.tar.xz"), folder.join(run.temporary()));
    assert!(run_victim(&sample, url, sshd, ("CASTOFF_FAULT_LOG", log.to_str().unwrap())).success());
    assert!(sample.is_at(&served));
    std::fs::remove_file(&served).unwrap();
    let log_text = std::fs::read_to_string(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    let points: BTreeSet<&str> = log_text.lines().filter(|point| point.starts_with("publish.upload.")).collect();
    assert_eq!(points.len(), 6, "{points:?}");
    for point in points {
        let status = run_victim(&sample, url, sshd, ("CASTOFF_FAULT", point));
        assert_eq!(status.signal(), Some(9), "{point}: {status}");
        assert!(!served.exists() || (sample.is_at(&served) && !part.exists()), "{url} {point}");
        assert_eq!(served.exists(), point == "publish.upload.after-rename", "{url} {point}");
        let uploaded = run.run(store().as_mut(), 0).unwrap_or_else(|error| panic!("{point}: {}", error.render()));
        assert_eq!(uploaded.already_there, point == "publish.upload.after-rename", "{url} {point}");
        assert!(sample.is_at(&served) && !part.exists(), "{url} {point}");
        std::fs::remove_file(&served).unwrap();
    }
}
