//! `images.json` becomes plans, or all that is wrong with it is told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castoff::error::{Error, Result};
use castoff::front::archive::{Archive, Family, archive};
use castoff::front::forest::{EXAMPLE, Forest, ForestOptions, SeenDisk, Sights};
use castoff::plan::{Action, Base, Command, Disk, Form, Format, Layout, Plan, Plans, Size, Step};
use proptest::prelude::*;
use serde_json::{Value, json};

fn options(architecture: &str, suite: &str) -> ForestOptions {
    let archive = archive(&format!("{suite} http://mirror.invalid/debian"), &[]).unwrap();
    ForestOptions { dir: "/vm".into(), archive: Some(archive), architecture: architecture.to_owned() }
}

fn lower_with(text: &str, architecture: &str, sights: &Sights) -> Result<Plans> {
    Forest::read(text, "images.json")?.lower(&options(architecture, "sid"), sights).map(|(plans, _)| plans)
}

fn lower(text: &Value) -> Plans {
    lower_with(&text.to_string(), "amd64", &Sights::default()).unwrap()
}

fn plan<'a>(plans: &'a Plans, name: &str) -> &'a Plan {
    plans.find(name).unwrap()
}

fn disk(plan: &Plan) -> &Disk {
    match &plan.outputs[..] {
        [castoff::plan::Output { form: Form::Disk(disk), path: Some(path) }] => {
            assert_eq!(*path, Path::new("/vm/images").join(plan.name.as_str()));
            disk
        }
        other => panic!("{other:?}"),
    }
}

fn packages(plan: &Plan) -> Vec<&str> {
    match &plan.base {
        Base::Bootstrap(bootstrap) => bootstrap.packages.iter().map(|package| package.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The lines of all problems.
fn problems(error: &Error) -> Vec<String> {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    source.lines().map(str::to_owned).collect()
}

fn one_action(kind: &str, op: Value) -> Value {
    json!([{"name": "a", "actions": [{"comment": "", "type": kind, "op": op}]}])
}

#[test]
fn every_action_becomes_its_steps() {
    let path = |text: &str| text.parse().unwrap();
    let kernel = vec![
        Action::CopyIn { source: "/vm/k/boot".into(), into: path("/") },
        Action::CopyIn { source: "/vm/k/lib/modules".into(), into: path("/lib") },
        Action::Link { target: "/boot/vmlinuz-6.1".into(), links: vec![path("/vmlinuz")] },
    ];
    let table = [
        (
            "run-command",
            json!({"Cmd": "echo a:b"}),
            vec![Action::Run { command: Command::Shell("echo a:b".into()), environment: BTreeMap::new() }],
        ),
        (
            "copy-in",
            json!({"LocalPath": "x/y/", "RemoteDir": "/etc"}),
            vec![Action::CopyIn { source: "/vm/x/y".into(), into: path("/etc") }],
        ),
        ("set-hostname", json!({"Hostname": "vm-1"}), vec![Action::SetHostname { name: "vm-1".into() }]),
        ("mkdir", json!({"Dir": "/a/b"}), vec![Action::MakeDirectory { path: path("/a/b") }]),
        (
            "upload",
            json!({"File": "/abs", "Dest": "/etc/x:y"}),
            vec![Action::Upload { source: "/abs".into(), to: path("/etc/x:y") }],
        ),
        (
            "chmod",
            json!({"Permissions": "0755", "File": "/a:b"}),
            vec![Action::ChangeMode { path: path("/a:b"), mode: 0o755 }],
        ),
        (
            "chmod",
            json!({"Permissions": "493", "File": "/a"}),
            vec![Action::ChangeMode { path: path("/a"), mode: 0o755 }],
        ),
        (
            "append-line",
            json!({"File": "/f", "Line": "a: b"}),
            vec![Action::AppendLine { path: path("/f"), line: "a: b".into() }],
        ),
        (
            "link",
            json!({"Target": "t", "Link": "/l:/m"}),
            vec![Action::Link { target: "t".into(), links: vec![path("/l"), path("/m")] }],
        ),
        ("install-kernel", json!({"KernelInstallDir": "k"}), kernel),
        (
            "tar-in",
            json!({"TarFile": "t.tar", "RemoteDir": "/"}),
            vec![Action::TarIn { source: "/vm/t.tar".into(), into: path("/") }],
        ),
    ];
    let names = ["vmlinuz-6.1", "System.map-6.1", "config-6.1"].map(str::to_owned).to_vec();
    let sights = Sights { kernels: [(PathBuf::from("/vm/k"), names)].into(), ..Sights::default() };
    for (kind, op, actions) in table {
        let text = one_action(kind, op).to_string();
        let plans = lower_with(&text, "amd64", &sights).unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        let steps: Vec<Step> = actions
            .into_iter()
            .map(Step::new)
            .map(|step| if kind == "run-command" { step.with_network() } else { step })
            .collect();
        assert_eq!(plan(&plans, "a").steps, steps, "{kind}");
    }
}

#[test]
fn comments_become_labels_and_packages_of_a_child_come_before_its_actions() {
    let plans = lower(&json!([
        {"name": "b", "packages": ["vim"]},
        {"name": "c", "parent": "b", "packages": ["jq", "less"],
         "actions": [{"comment": "say hello", "type": "run-command", "op": {"Cmd": "true"}}]},
        {"name": "d", "parent": "b", "packages": null, "actions": null},
    ]));
    let child = plan(&plans, "c");
    assert_eq!(child.base, Base::Plan("b".parse().unwrap()));
    let install = ["jq", "less"].map(|name| name.parse().unwrap()).to_vec();
    assert_eq!(child.steps[0], Step::new(Action::Packages { install, recommends: None }));
    assert_eq!((child.steps[1].label.as_str(), child.steps[1].network), ("say hello", true));
    assert!(plan(&plans, "d").steps.is_empty());
}

#[test]
fn sizes_formats_and_boot_loaders_are_those_of_lvh() {
    const G: u64 = 1 << 30;
    let plans = lower(&json!([
        {"name": "grown.qcow2", "parent": "child.img", "image_size": "+512M"},
        {"name": "child.img", "parent": "base", "image_size": "+2G", "bootable": false},
        {"name": "same.iso", "parent": "base"},
        {"name": "small.raw", "parent": "base", "image_size": "4G"},
        {"name": "base"},
        {"name": "bare.QCOW2", "bootable": false, "image_size": "1.5G", "packages": ["vim"]},
    ]));
    let table = [
        ("base", Layout::WholeBootable, Format::Raw, 8 * G),
        ("child.img", Layout::WholeBootable, Format::Raw, 10 * G),
        ("grown.qcow2", Layout::WholeBootable, Format::Qcow2, 10 * G + G / 2),
        ("same.iso", Layout::WholeBootable, Format::Raw, 8 * G),
        ("small.raw", Layout::WholeBootable, Format::Raw, 4 * G),
        ("bare.QCOW2", Layout::Whole, Format::Raw, 3 * G / 2),
    ];
    for (name, layout, format, size) in table {
        assert_eq!(*disk(plan(&plans, name)), Disk { layout, format, size: Size::Exactly(size) }, "{name}");
    }
    assert_eq!(packages(plan(&plans, "base")), ["linux-image-amd64"]);
    assert_eq!(packages(plan(&plans, "bare.QCOW2")), ["vim"]);

    let arm = lower_with(r#"[{"name": "a", "packages": ["vim"]}]"#, "arm64", &Sights::default()).unwrap();
    assert_eq!((disk(plan(&arm, "a")).layout, packages(plan(&arm, "a"))), (Layout::Whole, vec!["vim"]));
    let wish = lower_with(r#"[{"name": "a", "bootable": true}]"#, "arm64", &Sights::default()).unwrap_err();
    assert!(problems(&wish)[0].starts_with("images.json:1:28: `[0].bootable`: "), "{wish:?}");

    let text = r#"[{"name": "a"}]"#;
    let (ubuntu, _) = Forest::read(text, "x").unwrap().lower(&options("amd64", "noble"), &Sights::default()).unwrap();
    assert_eq!(packages(plan(&ubuntu, "a")), ["linux-image-generic"]);
}

#[test]
fn a_parent_that_is_not_declared_is_a_disk_that_is_there() {
    let text = json!([
        {"name": "child", "parent": "old.img", "image_size": "+1G"},
        {"name": "grandchild", "parent": "child", "image_size": "+1G"},
        {"name": "own", "parent": "old.img", "bootable": true},
    ])
    .to_string();
    let forest = Forest::read(&text, "images.json").unwrap();
    let wants = forest.wants(Path::new("/vm"));
    assert_eq!(wants.disks.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["old.img"]);
    assert!(!forest.needs_archive());
    for (boots, layout) in [(Some(false), Layout::Whole), (Some(true), Layout::WholeBootable), (None, Layout::Whole)] {
        let seen = SeenDisk { path: "/disks/old.img".into(), boots };
        let sights = Sights { disks: [("old.img".parse().unwrap(), Ok(seen))].into(), ..Sights::default() };
        let plans = lower_with(&text, "amd64", &sights).unwrap();
        assert_eq!(plan(&plans, "child").base, Base::Disk("/disks/old.img".into()));
        assert_eq!(disk(plan(&plans, "child")), &Disk { layout, format: Format::Raw, size: Size::BaseAnd(1 << 30) });
        assert_eq!(disk(plan(&plans, "grandchild")).size, Size::BaseAnd(2 << 30));
        assert_eq!(disk(plan(&plans, "own")).layout, Layout::WholeBootable);
    }
    let absent = problems(&lower_with(&text, "amd64", &Sights::default()).unwrap_err());
    assert_eq!(absent.len(), 2, "{absent:?}");
    assert!(absent[0].contains("neither an image of this file nor the disk `/vm/images/old.img`"), "{absent:?}");
    let own = SeenDisk { path: "/vm/images/child".into(), boots: None };
    let own = Sights { disks: [("old.img".parse().unwrap(), Ok(own))].into(), ..Sights::default() };
    let own = problems(&lower_with(&text, "amd64", &own).unwrap_err());
    assert!(own.len() == 2 && own[0].contains("is a link to `child`, an image of this file"), "{own:?}");
    let odd = Sights { disks: [("old.img".parse().unwrap(), Err("is a fifo".to_owned()))].into(), ..Sights::default() };
    let odd = problems(&lower_with(&text, "amd64", &odd).unwrap_err());
    assert!(odd.len() == 2 && odd.iter().all(|line| line.ends_with(".parent`: is a fifo")), "{odd:?}");
}

#[test]
fn documents_are_read_as_gos_decoder_reads_them() {
    let plain = json!([{"name": "a", "image_size": "1G", "packages": ["vim"],
        "actions": [{"comment": "c", "type": "mkdir", "op": {"Dir": "/d"}}]}]);
    let wanted = lower(&plain);
    let list = plain.as_array().unwrap();
    let forms = [
        json!({"Dir": "/elsewhere", "Images": list}),
        json!({"images": list, "more": 1}),
        json!([{"NAME": "a", "Image_Size": "1G", "Packages": ["vim"], "parent": null, "bootable": null, "unknown": {},
            "ACTIONS": [{"Comment": "c", "TYPE": "mkdir", "OP": {"dir": "/d", "More": 1}}]}]),
        // What the Go package writes of an action that is a value: no type.
        json!([{"name": "a", "parent": "", "image_size": "1G", "packag\u{17f}": 1, "pac\u{212a}ages": ["vim"],
            "actions": [{"Comment": "c", "Op": {"Dir": "/d"}}]}]),
    ];
    for form in forms {
        let mut plans = lower(&form);
        // Places differ with the text.
        let same: Vec<Plan> =
            plans.iter().cloned().map(|plan| Plan { place: "images.json:1:2".into(), ..plan }).collect();
        plans = Plans::new(same).unwrap();
        assert_eq!(plans, wanted, "{form}");
    }
    assert_eq!(lower(&json!(null)), Plans::default());
    assert_eq!(lower(&json!({"Dir": "x", "Images": null})), Plans::default());
    let odd = Forest::read(r#"[{"name": "a", "pakages": []}]"#, "x").unwrap();
    assert_eq!(odd.notes(), ["x:1:16: `[0].pakages` is not known and means nothing, did you mean `packages`?"]);
    let typeless =
        json!([{"name": "a", "actions": [{"op": {"File": "/f", "Line": "l"}}, {"op": {"File": "f", "Dest": "/d"}}]}]);
    let steps = &plan(&lower(&typeless), "a").steps.clone();
    assert!(matches!(steps[0].action, Action::AppendLine { .. }) && matches!(steps[1].action, Action::Upload { .. }));
}

#[test]
fn all_that_is_wrong_is_told_at_once_with_its_place() {
    let text = r#"[
  {"name": "a", "parent": "c", "image_size": "big"},
  {"name": "b", "parent": "a", "packages": ["vim", "-y", "a,b"]},
  {"name": "c", "parent": "b"},
  {"name": "../x", "bootable": "yes", "actions": [
    {"type": "upload", "op": {"File": 7, "Dest": "etc"}},
    {"type": "uplod", "op": {}},
    {"type": "mkdir"},
    {"type": "chmod", "op": {"Permissions": "888", "File": "/x"}},
    {"type": "chmod", "op": {"Permissions": "0999", "File": "/x"}}]},
  {"name": "b"},
  {"name": "d", "parent": "bb"},
  {"name": "d", "NAME": "e"},
  7
]"#;
    let error = lower_with(text, "amd64", &Sights::default()).unwrap_err();
    let told = problems(&error);
    let wanted = [
        "images.json:2:3: images are their own ancestors: a -> c -> b -> a",
        "images.json:2:46: `[0].image_size`: `big` is not a size such as 8G or +512M",
        "images.json:3:52: `[1].packages[1]`: `-y` is not a package: its name is not one",
        "images.json:3:58: `[1].packages[2]`: `a,b` is not a package: its name is not one",
        "images.json:5:12: `[3].name`: `../x` cannot be the name of an image: it holds `/`",
        "images.json:5:32: `[3].bootable`: must be true or false, not a text",
        "images.json:6:39: `[3].actions[0].op.File`: must be a text, not a number",
        "images.json:7:5: `[3].actions[1]`: unknown op type `uplod` (did you mean `upload`?)",
        "images.json:8:5: `[3].actions[2]`: has no `op`",
        "images.json:10:45: `[3].actions[4].op.Permissions`: `0999` is no mode: octal with a 0 before it, such as 0755, else decimal",
        "images.json:11:3: duplicate image name: b (the first is at images.json:3:3)",
        "images.json:12:27: `[5].parent`: `bb` is neither an image of this file nor the disk `/vm/images/bb`, did you mean `b`?",
        "images.json:13:17: `[6].name`: stands twice",
        "images.json:14:3: `[7]`: must be a map, not a number",
    ];
    for line in wanted {
        assert!(told.iter().any(|one| one == line), "no `{line}` in\n{}", told.join("\n"));
    }
    assert!(error.message().contains("images.json"), "{error}");
}

#[test]
fn hostile_words_are_refused_by_name() {
    let name = |name: &str| json!([{"name": name}]);
    let parent = |parent: &str| json!([{"name": "a", "parent": parent}]);
    let package = |package: &str| json!([{"name": "a", "packages": [package]}]);
    let table = [
        (name(""), "[0].name"),
        (name(".."), "[0].name"),
        (name("/etc/passwd"), "[0].name"),
        (name("a/b"), "[0].name"),
        (name("-rf"), "[0].name"),
        (name("a:b"), "[0].name"),
        (name("a\nb"), "[0].name"),
        (parent("../../etc/shadow"), "[0].parent"),
        (parent("/etc/shadow"), "[0].parent"),
        (parent("-o"), "[0].parent"),
        (package("--allow-unauthenticated"), "[0].packages[0]"),
        (package("./local.deb"), "[0].packages[0]"),
        (package("vim "), "[0].packages[0]"),
        (package("vim-"), "[0].packages[0]"),
        (package(""), "[0].packages[0]"),
        (one_action("copy-in", json!({"LocalPath": "a:b", "RemoteDir": "/"})), "op.LocalPath"),
        (one_action("copy-in", json!({"LocalPath": "", "RemoteDir": "/"})), "op.LocalPath"),
        (one_action("copy-in", json!({"LocalPath": "..", "RemoteDir": "/"})), "op.LocalPath"),
        (one_action("copy-in", json!({"LocalPath": "a\u{0}", "RemoteDir": "/"})), "op.LocalPath"),
        (one_action("copy-in", json!({"LocalPath": "a", "RemoteDir": "etc"})), "op.RemoteDir"),
        (one_action("upload", json!({"File": "a"})), "op.Dest"),
        (one_action("tar-in", json!({"TarFile": "t:u", "RemoteDir": "/"})), "op.TarFile"),
        (one_action("append-line", json!({"File": "/a:b", "Line": "x"})), "op.File"),
        (one_action("append-line", json!({"File": "/a", "Line": "x\u{0}"})), "op.Line"),
        (one_action("link", json!({"Target": "a:b", "Link": "/l"})), "op.Target"),
        (one_action("link", json!({"Target": "a", "Link": "/l:m"})), "op.Link"),
        (one_action("link", json!({"Target": "a", "Link": "/"})), "op.Link"),
        (one_action("link", json!({"Target": "", "Link": "/l"})), "op.Target"),
        (one_action("mkdir", json!({})), "op.Dir"),
        (one_action("mkdir", json!(null)), "op.Dir"),
        (one_action("run-command", json!({"Cmd": " "})), "op.Cmd"),
        (one_action("set-hostname", json!({"Hostname": "a b"})), "op.Hostname"),
        (one_action("set-hostname", json!({"Hostname": "-a"})), "op.Hostname"),
        (one_action("set-hostname", json!({"Hostname": "a\nb"})), "op.Hostname"),
        (one_action("chmod", json!({"Permissions": "-1", "File": "/a"})), "op.Permissions"),
        (one_action("chmod", json!({"Permissions": "0x1ff", "File": "/a"})), "op.Permissions"),
        (one_action("chmod", json!({"Permissions": "4096", "File": "/a"})), "op.Permissions"),
        (one_action("install-kernel", json!({"KernelInstallDir": "k"})), "op.KernelInstallDir"),
        (one_action("mkdir", json!([])), "[0].actions[0].op"),
        (json!([{"name": "a", "actions": [null]}]), "[0].actions[0]"),
        (json!([null]), "[0]"),
        (json!("images"), ""),
        (json!([{"name": "a", "image_size": "-1G"}]), "[0].image_size"),
        (json!([{"name": "a", "image_size": "16E"}]), "[0].image_size"),
        (
            json!([{"name": "a", "image_size": "1P"}, {"name": "b", "parent": "a", "image_size": "+1K"}]),
            "[1].image_size",
        ),
        (json!([{"name": "a", "image_size": "7E"}]), "`7E` makes a disk that is too large: 1125899906842624 bytes"),
        (json!([{"name": "a", "image_size": "1K"}]), "`1K` makes a disk that is too small: 16777216 bytes"),
        (json!([{"name": "a", "image_size": "+1M"}]), "`+1M` makes a disk that is too small"),
        (
            json!([{"name": "a"}, {"name": "b", "parent": "a", "image_size": "1M"}]),
            "`1M` makes a disk that is too small",
        ),
        (json!([{"name": "a", "parent": "a"}]), "a -> a"),
    ];
    for (text, field) in table {
        let error = lower_with(&text.to_string(), "amd64", &Sights::default()).map(|_| ()).unwrap_err();
        let told = problems(&error);
        assert_eq!(told.len(), 1, "{text}: {told:?}");
        assert!(told[0].contains(field), "{text}: {told:?}");
    }
}

#[test]
fn a_decimal_mode_is_noted_with_a_form_that_is_taken() {
    for (mode, note) in [
        ("755", Some("is decimal: mode 1363; octal is written 0755")),
        ("493", Some("is decimal: mode 0755; write 0755")),
        ("0755", None),
    ] {
        let text = one_action("chmod", json!({"Permissions": mode, "File": "/a"})).to_string();
        let forest = Forest::read(&text, "x").unwrap();
        let (_, notes) = forest.lower(&options("amd64", "sid"), &Sights::default()).unwrap();
        assert_eq!(notes.len(), note.iter().len(), "{notes:?}");
        assert!(note.is_none_or(|note| notes[0].ends_with(note)), "{notes:?}");
    }
}

#[test]
fn exactly_one_kernel_is_installed() {
    let text = one_action("install-kernel", json!({"KernelInstallDir": "/k"})).to_string();
    let seen = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let sights = Sights { kernels: [(PathBuf::from("/k"), names)].into(), ..Sights::default() };
        lower_with(&text, "amd64", &sights).map(|_| ()).map_err(|error| problems(&error).join(""))
    };
    assert_eq!(seen(&["vmlinuz-1", "vmlinux-2", "config"]), Ok(()));
    assert!(seen(&["vmlinuz"]).unwrap_err().contains("has no kernel `vmlinuz-*`"));
    assert!(seen(&["vmlinuz-1", "vmlinuz-2"]).unwrap_err().contains("more than one kernel: vmlinuz-1, vmlinuz-2"));
}

#[test]
fn the_example_is_a_forest() {
    let plans = lower(&serde_json::from_str(EXAMPLE).unwrap());
    assert_eq!(
        packages(plan(&plans, "base.img")),
        ["linux-image-amd64", "less", "vim", "sudo", "openssh-server", "curl"]
    );
    assert_eq!(disk(plan(&plans, "k8s.qcow2")).format, Format::Qcow2);
    assert_eq!(plan(&plans, "base.img").steps[0].label, "disable password for root");
}

#[test]
fn a_suite_comes_from_where_this_host_has_its_packages() {
    let deb822 = "Types: deb\n# a word\nURIs: http://near.invalid/debian http://far.invalid/x\nSuites: bookworm\n bookworm-updates\n\
                  Components: main contrib\nSigned-By: /x\n\nTypes: deb\nURIs: http://near.invalid/security\nSuites: bookworm-security\nComponents: main\n\n\
                  Enabled: no\nTypes: deb\nURIs: http://off.invalid/debian\nSuites: sid\nComponents: main\n";
    let list = "# deb http://no.invalid sid main\ndeb [arch=amd64 signed-by=/x] http://other.invalid/repo nodistro main\n\
                deb-src http://no.invalid sid main\ndeb http://ubuntu.invalid/ubuntu noble main universe\n";
    let host = [("debian.sources".to_owned(), deb822.to_owned()), ("x.list".to_owned(), list.to_owned())];
    let lines = |wanted: &str| archive(wanted, &host).map(|found| found.sources.files[0].1.clone());
    assert_eq!(lines("sid").unwrap(), "deb http://near.invalid/debian sid main\n");
    assert_eq!(
        lines("trixie").unwrap(),
        "deb http://near.invalid/debian trixie main\ndeb http://near.invalid/debian trixie-updates main\n\
         deb http://near.invalid/security trixie-security main\n"
    );
    assert_eq!(
        lines("jammy").unwrap(),
        "deb http://ubuntu.invalid/ubuntu jammy main\ndeb http://ubuntu.invalid/ubuntu jammy-updates main\n"
    );
    assert_eq!(lines("sid file:///m").unwrap(), "deb file:///m sid main\n");
    let line = "sid deb [trusted=yes arch=amd64] http://m.invalid/x sid main contrib";
    assert_eq!(lines(line).unwrap(), format!("{}\n", line.strip_prefix("sid ").unwrap()));
    let Archive { suite, family, .. } = archive("noble http://m.invalid/x", &[]).unwrap();
    assert_eq!((suite.as_str(), family), ("noble", Family::Ubuntu));
    for bad in [
        "",
        "-x",
        "s;d",
        "../x http://m",
        "sid m.invalid",
        "sid deb http://m sid",
        "sid deb [x http://m sid main",
        "sid shell:x",
    ] {
        assert_eq!(lines(bad).unwrap_err().kind(), castoff::error::Kind::Usage, "{bad:?}");
    }
    assert!(archive("sid", &[]).unwrap_err().next_step().unwrap().contains("sid MIRROR"));
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "name",
        "parent",
        "image_size",
        "bootable",
        "packages",
        "actions",
        "comment",
        "type",
        "op",
        "Dir",
        "Images",
        "Cmd",
        "File",
        "Dest",
        "Line",
        "Link",
        "Target",
        "Permissions",
        "mkdir",
        "link",
        "chmod",
        "a",
        "b",
        "+8G",
        "/x",
        "0755",
        "NAME",
    ]);
    let text = prop_oneof![words.clone().prop_map(str::to_owned), ".{0,6}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_is_too_odd(value in any_json(), text in ".{0,80}") {
        for text in [value.to_string(), json!([value.clone(), value]).to_string(), text] {
            let Ok(forest) = Forest::read(&text, "x") else { continue };
            let _tree = forest.tree();
            let _wants = forest.wants(Path::new("/vm"));
            let _plans = forest.lower(&options("amd64", "sid"), &Sights::default());
        }
    }
}
