//! Images pushed to hosts by real rsync and ssh; judged by getfacl, find and sha256sum.

mod hosts;
mod kill;
mod reference;

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{program, succeed};
use crate::sync::facts;
use hosts::{BUILDER, Cloud, IMAGE, Trouble, content};

#[test]
fn hosts_that_are_well_are_done_while_others_are_down_full_or_hang() {
    let none = Trouble::None;
    let cloud = Cloud::new(&[none, Trouble::Unreachable, Trouble::Full, none, none, none]);
    cloud.build("one", 3);
    cloud.version(7);
    cloud.hosts[3].signal(Signal::STOP);
    let begun = Instant::now();
    let report = cloud.sync();
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());
    cloud.hosts[3].signal(Signal::CONT);
    assert_eq!(report["result"], false, "{report:#}");
    assert_eq!(report["comment"], "We have missed some target, see logs");
    assert!(report["output"].as_str().unwrap().contains("targets:"), "{report:#}");
    let kinds = [None, Some("unavailable"), Some("no-space"), Some("unavailable"), None, None];
    for (host, kind) in cloud.hosts.iter().zip(kinds) {
        let found = &report["targets"][&host.name];
        let image = &found["images"][IMAGE];
        let Some(kind) = kind else {
            assert_eq!(found["result"], true, "{report:#}");
            assert!(found["seconds"].as_f64().unwrap() < 20.0, "{report:#}");
            assert!(found["bytes_sent"].as_u64().unwrap() > 3 << 20, "{report:#}");
            assert_eq!(
                (&image["version_before"], &image["version_after"]),
                (&serde_json::Value::Null, &serde_json::json!(7))
            );
            assert_eq!(facts(&host.tree()), facts(&cloud.lxc.join(IMAGE).join("rootfs")));
            assert_eq!(std::fs::read_to_string(host.tree().join(".ms_version")).unwrap(), "7\n");
            continue;
        };
        assert_eq!((&found["result"], &image["kind"]), (&false.into(), &kind.into()), "{report:#}");
        assert!(image["hint"].is_string() && !found["trace"].as_str().unwrap().is_empty(), "{report:#}");
    }
    // What is in place is not sent again, and only the named hosts are asked.
    let names = format!("{},{}", cloud.hosts[0].name, cloud.hosts[3].name);
    let again = cloud.call(&["mc_lxc.sync_images", &format!("only={names}")]);
    assert_eq!(again["comment"], "We have successfully sync all targets", "{again:#}");
    assert_eq!(again["targets"].as_object().unwrap().len(), 2);
    assert_eq!(again["targets"][&cloud.hosts[0].name]["bytes_sent"], 0);
    assert_eq!((again["output"].as_str(), content(&cloud.hosts[3].tree()).as_str()), (Some(""), "one"));
}

#[test]
fn another_tree_links_what_stays_and_an_older_release_needs_force() {
    let cloud = Cloud::new(&[Trouble::None]);
    let host = &cloud.hosts[0];
    cloud.build("one", 2);
    cloud.version(7);
    // What the original left there, with a version of its own.
    succeed(std::process::Command::new("sh").current_dir(&host.containers).args([
        "-ec",
        &format!(
            "mkdir -p {IMAGE}/rootfs/etc; echo 6 > {IMAGE}/rootfs/.ms_version; echo lxc.arch=amd64 > {IMAGE}/config"
        ),
    ]));
    let first = cloud.sync();
    let image = &first["targets"][&host.name]["images"][IMAGE];
    assert_eq!((&image["version_before"], &image["version_after"]), (&6.into(), &7.into()), "{first:#}");
    assert!(host.place(IMAGE).is_symlink());
    assert!(host.containers.join(".castoff-push").join(IMAGE).join("0-original/rootfs/.ms_version").exists());

    std::fs::write(cloud.lxc.join(BUILDER).join("rootfs/etc/new"), "new").unwrap();
    cloud.version(8);
    let next = cloud.sync();
    let found = &next["targets"][&host.name];
    assert_eq!((&found["result"], &found["changes"][IMAGE]["new"]), (&true.into(), &8.into()), "{next:#}");
    assert!(found["bytes_sent"].as_u64().unwrap() < 1 << 20, "{next:#}");
    assert_eq!(facts_without_links(&host.tree()), facts_without_links(&cloud.lxc.join(IMAGE).join("rootfs")));
    let kept = || std::fs::read_dir(host.containers.join(".castoff-push").join(IMAGE)).unwrap().count();
    assert_eq!(kept(), 4, "two trees, `order`, `boot`");

    cloud.version(7);
    let refused = cloud.sync();
    let image = &refused["targets"][&host.name]["images"][IMAGE];
    assert_eq!((&image["kind"], &image["version_after"]), (&"refused".into(), &8.into()), "{refused:#}");
    let forced = cloud.call(&["mc_lxc.sync_images", "force=True"]);
    let image = &forced["targets"][&host.name]["images"][IMAGE];
    assert_eq!((&image["result"], &image["version_after"]), (&true.into(), &7.into()), "{forced:#}");

    let test = cloud.call(&["mc_cloud_lxc.sync_images", &host.name, "test=True"]);
    assert_eq!(test["result"], true, "nothing would be done: {test:#}");
    cloud.version(9);
    let test = cloud.call(&["mc_cloud_lxc.sync_images", &host.name, "test=True"]);
    assert_eq!(test["result"], serde_json::Value::Null, "{test:#}");
}

/// What is linked between trees counts the links of both.
fn facts_without_links(tree: &std::path::Path) -> String {
    let find = ["-printf", "%P|%y|%m|%U:%G|%T@|%l\n"];
    let mut lines: Vec<String> = succeed(program("find").arg(tree).args(find)).lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines.join("\n") + &succeed(program("getfacl").current_dir(tree).args(["-RPn", "."]))
}

#[test]
fn a_wrong_host_key_and_hostile_names_are_refused() {
    let cloud = Cloud::new(&[Trouble::None, Trouble::None]);
    cloud.build("one", 1);
    let trusted = cloud.scratch().join("known_hosts");
    let text = std::fs::read_to_string(&trusted).unwrap();
    let keys: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    let swapped = text.replacen(keys[0], keys[1], 1);
    std::fs::write(&trusted, &swapped).unwrap();
    let evil = "x;touch${IFS}canary";
    let names: Vec<&str> =
        cloud.hosts.iter().map(|host| host.name.as_str()).chain([evil, "-oProxyCommand=x"]).collect();
    cloud.database(&names);
    let report = cloud.sync();
    let image = &report["targets"][&cloud.hosts[0].name]["images"][IMAGE];
    assert_eq!(image["kind"], "refused", "{report:#}");
    assert_eq!(report["targets"][&cloud.hosts[1].name]["result"], true, "{report:#}");
    for name in [evil, "-oProxyCommand=x"] {
        assert_eq!(report["targets"][name]["result"], false, "{report:#}");
    }
    assert_eq!(std::fs::read_to_string(&trusted).unwrap(), swapped, "no key is taken on trust");
    assert!(!cloud.hosts[0].place(IMAGE).exists());
    let unknown = cloud.castoff.fail(["call", "--retcode-passthrough", "mc_lxc.sync_images", "only=node"], 66);
    assert!(unknown.contains("no machines of the kind lxc run on `node`"), "{unknown}");
    let unsafe_path = cloud.castoff.command(["call", "--retcode-passthrough", "mc_lxc.sync_images"]);
    let mut unsafe_path = unsafe_path;
    let output = unsafe_path.env("CASTOFF_LXC_PATH", "/tmp/a b").output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", String::from_utf8_lossy(&output.stderr));
}
