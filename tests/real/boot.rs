//! `image.boot`: a real machine on a real image.

use serde_json::json;

use crate::build::{Workshop, run, step};
use crate::disk::{Folder, Made, made};
use crate::harness::{Castoff, program, require_root, succeed};

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

/// What `image.boot` says of the image, with these arguments besides.
fn boot(castoff: &Castoff, image: &std::path::Path, arguments: &[&str]) -> serde_json::Value {
    let output = castoff
        .command(["call", "--out=json", "image.boot"])
        .arg(image)
        .args(["timeout=600", "accelerator=tcg"])
        .args(arguments)
        .output()
        .unwrap();
    let text = told(&output);
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"));
    value["local"].clone()
}

#[test]
fn a_gpt_disk_boots_by_bios_by_uefi_and_by_a_kernel_of_its_own_and_ssh_gets_in() {
    require_root();
    let shop = Workshop::new();
    let key = shop.path("key");
    succeed(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
    let public = std::fs::read_to_string(shop.path("key.pub")).unwrap();
    let base = shop.bootstrap(&["linux-image-amd64", "systemd-sysv", "udev", "openssh-server", "passwd"]);
    let network = "[Match]\nName=e*\n[Network]\nDHCP=yes\n";
    let steps = [
        step(
            json!({ "write-file": { "path": "/etc/systemd/network/all.network", "content": network, "mode": 0o644 } }),
        ),
        run("systemctl enable systemd-networkd; passwd -d root; mkdir -p -m 700 /root/.ssh"),
        step(json!({ "write-file": { "path": "/root/.ssh/authorized_keys", "content": public, "mode": 0o600 } })),
        run("cp /boot/vmlinuz-* /vmlinuz-copy; cp /boot/initrd.img-* /initrd-copy"),
    ];
    let disk = json!({ "disk": { "layout": "gpt", "format": "qcow2", "size": { "exactly": 2_u64 << 30 } } });
    let outputs = [(disk, "disk.qcow2"), (json!("directory"), "tree")]
        .map(|(form, name)| json!({ "form": form, "path": shop.path(name) }));
    let report = shop.build(&[crate::build::plan("one", &base, &steps, &outputs)]);
    assert_eq!(report["result"], true, "{report:#}");
    let image = shop.path("disk.qcow2");
    let before = crate::disk::sum(&image);

    // GRUB's core image of the BIOS boot partition finds the kernel.
    let value = boot(&shop.castoff, &image, &["pattern=Linux version"]);
    assert_eq!((&value["result"], &value["matched"]), (&json!(true), &json!("Linux version")), "{value:#}");
    let kernel = format!("kernel={}", shop.path("tree/vmlinuz-copy").display());
    let initrd = format!("initrd={}", shop.path("tree/initrd-copy").display());
    let words = "append=root=/dev/vda3 console=ttyS0 the.word=1";
    let value = boot(&shop.castoff, &image, &[&kernel, &initrd, words, "pattern=Command line: .*the.word=1"]);
    assert_eq!(value["result"], true, "{value:#}");

    let command = "command=findmnt -no SOURCE /; ls /sys/firmware/efi > /dev/null && echo by UEFI; id -un; exit 7";
    let value = boot(&shop.castoff, &image, &["uefi=True", &format!("ssh={}", key.display()), command]);
    assert_eq!((&value["exit"], &value["output"]), (&json!(7), &json!("/dev/vda3\nby UEFI\nroot\n")), "{value:#}");
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
