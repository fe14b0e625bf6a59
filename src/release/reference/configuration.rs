//! The configuration of a container as that of another one. Pure.

use std::path::Path;

/// Keys that no two containers may share: addresses of their network devices.
fn is_address(key: &str) -> bool {
    let last = key.rsplit('.').next().unwrap_or_default();
    (key.starts_with("lxc.net.") || key.starts_with("lxc.network.")) && last == "hwaddr"
}

/// The text with the name, the paths and the root filesystem of `destination` instead of those of `source`.
pub(super) fn adapted(text: &str, source: &str, destination: &str, lxc_path: &Path) -> String {
    let (from, to) = (lxc_path.join(source), lxc_path.join(destination));
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let mut lines = Vec::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('=').filter(|_| !line.trim_start().starts_with('#')) else {
            lines.push(line.to_owned());
            continue;
        };
        match key.trim() {
            key if is_address(key) => {}
            name @ ("lxc.uts.name" | "lxc.utsname") => lines.push(format!("{name} = {destination}")),
            "lxc.rootfs.path" => lines.push(format!("lxc.rootfs.path = dir:{to}/rootfs")),
            "lxc.rootfs" => lines.push(format!("lxc.rootfs = {to}/rootfs")),
            _ => lines.push(format!("{key}={}", moved(value, &from, &to))),
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The text with one folder instead of another wherever a path is or begins with it.
fn moved(text: &str, from: &str, to: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, found) = rest.split_at(at);
        let after = &found[from.len()..];
        let ends = after.is_empty() || after.starts_with(['/', ' ', '\t', '"', ',', ':']);
        out.push_str(before);
        out.push_str(if ends { to } else { from });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_its_own_name_paths_and_no_address_of_the_original() {
        let text = "# of build\nlxc.uts.name = build\nlxc.rootfs.path = dir:/lxc/build/rootfs\nlxc.mount = /lxc/build/fstab\n\
                    lxc.net.0.hwaddr = 00:16:3e:01:02:03\nlxc.net.0.link = br0\nlxc.include = /lxc/build2/x\nlxc.idmap = u 0 100000 65536\n";
        let expected = "# of build\nlxc.uts.name = img\nlxc.rootfs.path = dir:/lxc/img/rootfs\nlxc.mount = /lxc/img/fstab\n\
                        lxc.net.0.link = br0\nlxc.include = /lxc/build2/x\nlxc.idmap = u 0 100000 65536\n";
        assert_eq!(adapted(text, "build", "img", Path::new("/lxc")), expected);
        let old = "lxc.utsname=build\nlxc.rootfs = /mnt/elsewhere\nlxc.network.hwaddr = 1\n";
        let expected = "lxc.utsname = img\nlxc.rootfs = /lxc/img/rootfs\n";
        assert_eq!(adapted(old, "build", "img", Path::new("/lxc")), expected);
    }
}
