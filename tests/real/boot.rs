//! `image.boot`: a real machine on a real image.

use crate::disk::{Folder, Made, made};
use crate::harness::{Castoff, require_root};

#[test]
fn a_disk_that_does_not_come_up_is_an_error_with_its_console_and_leaves_no_machine() {
    require_root();
    let folder = Folder::new();
    let image = folder.path("empty.img");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let castoff = Castoff::new();
    let output = castoff
        .command(["call", "image.boot"])
        .arg(&image)
        .args(["timeout=15", "accelerator=tcg", "pattern=never", "--retcode-passthrough"])
        .output()
        .unwrap();
    assert!(!output.status.success(), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("did not boot as asked") && text.contains("never"), "{text}");
    assert!(machines(&image).is_empty(), "{:?}", machines(&image));
    assert_eq!(std::fs::read(&image).unwrap(), vec![0; 1 << 20]);
}

#[test]
fn a_killed_castoff_leaves_no_machine() {
    require_root();
    let folder = Folder::new();
    let image = folder.path("empty.img");
    std::fs::write(&image, vec![0; 1 << 20]).unwrap();
    let castoff = Castoff::new();
    let mut child = castoff
        .command(["call", "image.boot"])
        .arg(&image)
        .args(["timeout=600", "accelerator=tcg", "pattern=never"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while machines(&image).is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !machines(&image).is_empty() {
        assert!(std::time::Instant::now() < until, "the machine outlives castoff");
        std::thread::yield_now();
    }
}

#[test]
fn a_debian_disk_boots_to_a_login_by_its_own_loader_and_runs_a_command() {
    require_root();
    let Made { folder, tree } = made();
    let image = folder.path("debian.img");
    crate::disk::write_disk(tree, &image, castoff::disk::Layout::WholeDisk { boot: true }, None);
    let before = crate::disk::sum(&image);
    let castoff = Castoff::new();
    let output = castoff
        .command(["call", "--out=json", "image.boot"])
        .arg(&image)
        .args(["timeout=600", "accelerator=tcg", "command=findmnt -no SOURCE,FSTYPE /; echo \"it's 100%\"; exit 7"])
        .output()
        .unwrap();
    let text = told(&output);
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    let value = &value["local"];
    assert_eq!(value["exit"], 7, "{text}");
    assert_eq!(value["result"], false, "{text}");
    let lines: Vec<String> = value["output"]
        .as_str()
        .unwrap()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, ["/dev/vda ext4", "it's 100%"], "{text}");
    assert_eq!(crate::disk::sum(&image), before, "the image was written");
}

/// The command lines of the emulators that have this image.
fn machines(image: &std::path::Path) -> Vec<String> {
    let image = image.to_str().unwrap();
    let mut found = Vec::new();
    for item in std::fs::read_dir("/proc").unwrap() {
        let Ok(line) = std::fs::read(item.unwrap().path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with("/") && line.contains("qemu-system") && line.contains(image) {
            found.push(line);
        }
    }
    found
}

fn told(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
