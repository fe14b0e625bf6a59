//! Identities: everything that can change a result changes them, and nothing else; and what is said of misses.

use std::collections::BTreeMap;
use std::path::PathBuf;

use castoff::plan::{
    Action, Answers, ArchiveFact, Base, Bootstrap, Command, Compression, Disk, Explained, Facts, FileFact, Form,
    Format, Inputs, Known, Layout, Mount, MountSource, Output, Plan, Plans, Size, Sources, Status, Step, Variant, Why,
    explain, identity, slot,
};
use castoff::vocab::Digest;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

fn bootstrap() -> Bootstrap {
    Bootstrap {
        suite: "sid".to_owned(),
        sources: Sources { files: vec![("sources.list".to_owned(), "deb x sid main\n".to_owned())] },
        architecture: "amd64".to_owned(),
        variant: Variant::Important,
        packages: vec!["vim".parse().unwrap(), "less".parse().unwrap()],
    }
}

/// One of each, every field filled.
fn actions() -> Vec<Action> {
    let path = |text: &str| text.parse().unwrap();
    let environment = BTreeMap::from([("A".to_owned(), "b".to_owned())]);
    vec![
        Action::Run { command: Command::Arguments(vec!["a".into(), "b".into()]), environment: environment.clone() },
        Action::Run { command: Command::Shell("echo".into()), environment: environment.clone() },
        Action::Run { command: Command::Script("#!/bin/sh\n".into()), environment },
        Action::Packages { install: vec!["vim".parse().unwrap()], recommends: None },
        Action::Packages { install: vec!["vim".parse().unwrap()], recommends: Some(true) },
        Action::CopyIn { source: "/h/file".into(), into: path("/etc") },
        Action::Upload { source: "/h/file".into(), to: path("/etc/x") },
        Action::TarIn { source: "/h/file".into(), into: path("/") },
        Action::MakeDirectory { path: path("/d") },
        Action::WriteFile { path: path("/f"), content: "c".into(), mode: 0o600 },
        Action::AppendLine { path: path("/f"), line: "l".into() },
        Action::ChangeMode { path: path("/f"), mode: 0o600 },
        Action::Link { target: "t".into(), links: vec![path("/l"), path("/m")] },
        Action::SetHostname { name: "h".into() },
        Action::Remove { path: path("/f") },
    ]
}

fn steps() -> Vec<Step> {
    let mounts = vec![
        Mount { source: MountSource::Files("/h/file".into()), at: "/mnt".parse().unwrap() },
        Mount { source: MountSource::Tree("hooks".into()), at: "/mnt/hooks".parse().unwrap() },
        Mount { source: MountSource::Cache("apt".into()), at: "/mnt/cache".parse().unwrap() },
    ];
    actions()
        .into_iter()
        .map(|action| Step { mounts: mounts.clone(), label: "l".into(), ..Step::new(action) })
        .collect()
}

fn forms() -> Vec<Form> {
    let disk = |size| Form::Disk(Disk { layout: Layout::Whole, format: Format::Raw, size });
    vec![
        Form::Tar { compression: Compression::None },
        Form::Directory,
        Form::Image { reference: "store:x:1".into() },
        Form::Squashfs,
        disk(Size::Exactly(512)),
        disk(Size::BaseAnd(512)),
        disk(Size::Fitting),
        Form::Kernel,
    ]
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Facts in which every host path is the same file, and all archives that are asked about are one.
fn facts(archives: &[&Bootstrap]) -> Facts {
    let file = FileFact { digest: digest("file"), name: "file".into(), disk_size: Some(1024) };
    let archive = ArchiveFact { releases: BTreeMap::from([("x/InRelease".into(), digest("r"))]), date: 1, fetched: 2 };
    let tools = ["mmdebstrap", "mksquashfs", "mke2fs", "qemu-img", "grub-mkimage", "sfdisk", "mkfs.fat", "mcopy"]
        .map(|tool| (tool.to_owned(), "1".to_owned()));
    Facts {
        files: ["/h/file", "/h/other"].map(|path| (PathBuf::from(path), file.clone())).into(),
        archives: archives.iter().map(|one| (one.archive(), archive.clone())).collect(),
        images: ["store:x:1", "store:x:2"].map(|image| (image.to_owned(), digest(image))).into(),
        tools: tools.into(),
        epoch: Some(7),
    }
}

/// The path of every value in a document: scalars, and lists and maps too.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(members) => members.iter().for_each(|(key, value)| paths(value, &format!("{at}/{key}"), found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(key, value)| paths(value, &format!("{at}/{key}"), found));
        }
        _ => {}
    }
}

/// Other values in the place of one: some of them fit its type.
fn others(value: &Value) -> Vec<Value> {
    let words = "raw qcow2 gpt whole gzip none minbase important directory squashfs fitting /h/other store:x:2 arm64";
    match value {
        Value::Null => vec![json!(false), json!("x")],
        Value::Bool(value) => vec![json!(!value)],
        Value::Number(number) => vec![json!(number.as_u64().unwrap() + 512)],
        Value::String(text) => {
            let own = [format!("{text}x"), format!("/x{text}")];
            let texts = own.into_iter().chain(words.split(' ').map(str::to_owned)).filter(|other| other != text);
            texts.map(Value::from).chain([json!({"exactly": 512})]).collect()
        }
        Value::Array(items) => {
            let twice: Vec<Value> = items.iter().chain(items.last()).cloned().collect();
            let fewer = items.iter().skip(1).cloned().collect();
            let back = items.iter().rev().cloned().collect();
            [twice, fewer, back].into_iter().map(Value::Array).filter(|other| other != value).collect()
        }
        Value::Object(members) if members.len() == 1 => Vec::new(),
        Value::Object(members) => {
            let mut more = members.clone();
            more.insert("ANOTHER".into(), json!("x"));
            vec![Value::Object(more)]
        }
    }
}

/// Changes every part of the sample in every way that still is one; how many there were of each path.
fn for_every_change<T: Serialize + DeserializeOwned + PartialEq>(
    sample: &T,
    mut look: impl FnMut(&str, T),
) -> BTreeMap<String, usize> {
    let whole = serde_json::to_value(sample).unwrap();
    let mut all = Vec::new();
    paths(&whole, "", &mut all);
    let mut counts = BTreeMap::new();
    for path in all {
        let mut count = 0;
        for other in others(whole.pointer(&path).unwrap()) {
            let mut changed = whole.clone();
            *changed.pointer_mut(&path).unwrap() = other;
            if let Ok(changed) = serde_json::from_value::<T>(changed)
                && changed != *sample
            {
                count += 1;
                look(&path, changed);
            }
        }
        if whole.pointer(&path).is_some_and(|value| !value.is_object()) {
            counts.insert(path, count);
        }
    }
    counts
}

fn assert_all_changed(counts: &BTreeMap<String, usize>, but: &[&str], what: &str) {
    for (path, count) in counts {
        assert!(*count > 0 || but.iter().any(|end| path.ends_with(end)), "{what}: nothing else fits {path}");
    }
}

#[test]
fn every_part_of_every_step_is_in_its_identity_but_label_and_place() {
    let bootstrap = bootstrap();
    let facts = facts(&[&bootstrap]);
    let of = |step: &Step, before: &str| {
        identity::of_step(digest(before), step, Some(&bootstrap), &facts).map(|inputs| inputs.identity())
    };
    for step in steps() {
        let own = of(&step, "before");
        assert_ne!(own, of(&step, "other"), "{step:?}");
        let counts = for_every_change(&step, |path, changed| {
            // Only files that the facts know can be told apart from others.
            if changed.files().any(|file| !facts.files.contains_key(file)) {
                return;
            }
            let free = path == "/label" || path.ends_with("/source") || path.ends_with("/source/files");
            // Another kind of mount stands where the path of a file was.
            let free = free
                && changed
                    .mounts
                    .iter()
                    .zip(&step.mounts)
                    .all(|(new, old)| std::mem::discriminant(&new.source) == std::mem::discriminant(&old.source));
            assert_eq!(of(&changed, "before") == own, free, "{path} of {step:?} became {changed:?}");
        });
        assert_all_changed(&counts, &[], &format!("{step:?}"));
    }
}

#[test]
fn no_two_steps_bases_or_outputs_have_one_identity() {
    let bootstrap = bootstrap();
    let facts = facts(&[&bootstrap]);
    let mut all: Vec<Digest> = steps()
        .iter()
        .map(|step| identity::of_step(digest("b"), step, Some(&bootstrap), &facts).unwrap().identity())
        .collect();
    all.extend(bases().iter().map(|base| identity::of_base(base, &facts).unwrap().identity()));
    all.extend(
        forms()
            .into_iter()
            .map(|form| identity::of_output(digest("b"), &Output { form, path: None }, &facts).unwrap().identity()),
    );
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

fn bases() -> Vec<Base> {
    let file = || PathBuf::from("/h/file");
    let image = Base::Image("store:x:1".into());
    vec![
        Base::Empty,
        Base::Bootstrap(bootstrap()),
        Base::Directory(file()),
        Base::Tar(file()),
        Base::Disk(file()),
        image,
    ]
}

#[test]
fn every_part_of_every_base_is_in_its_identity_but_where_it_lies() {
    let of = |base: &Base| {
        let known = bootstrap();
        let archives: Vec<&Bootstrap> = match base {
            Base::Bootstrap(bootstrap) => vec![bootstrap],
            _ => vec![&known],
        };
        identity::of_base(base, &facts(&archives)).unwrap().identity()
    };
    for base in bases() {
        let own = of(&base);
        let counts = for_every_change(&base, |path, changed| {
            // Only files that the facts know can be told apart from others.
            let known = !matches!(&changed, Base::Directory(path) | Base::Tar(path) | Base::Disk(path) if !path.ends_with("other"))
                && !matches!(&changed, Base::Image(image) if image != "store:x:2");
            if known {
                let free = ["/directory", "/tar", "/disk"].contains(&path);
                assert_eq!(of(&changed) == own, free, "{path} of {base:?} became {changed:?}");
            }
        });
        assert_all_changed(&counts, &["", "/1"], &format!("{base:?}"));
    }
}

#[test]
fn every_part_of_every_output_is_in_its_identity_but_where_it_goes() {
    let facts = facts(&[]);
    let of = |output: &Output, before: &str| identity::of_output(digest(before), output, &facts).unwrap().identity();
    for form in forms() {
        let output = Output { form, path: Some("/h/file".into()) };
        let own = of(&output, "before");
        assert_ne!(own, of(&output, "other"), "{output:?}");
        let counts = for_every_change(&output, |path, changed| {
            assert_eq!(of(&changed, "before") == own, path == "/path", "{path} of {output:?} became {changed:?}");
        });
        assert_all_changed(&counts, &[], &format!("{output:?}"));
    }
}

#[test]
fn what_is_outside_of_a_plan_counts_where_it_is_used() {
    let bootstrap = bootstrap();
    let same = facts(&[&bootstrap]);
    let install = Step::new(Action::Packages { install: vec!["vim".parse().unwrap()], recommends: None });
    let copy = Step::new(Action::CopyIn { source: "/h/file".into(), into: "/".parse().unwrap() });
    let disk =
        |format| Output { form: Form::Disk(Disk { layout: Layout::Whole, format, size: Size::Fitting }), path: None };
    let all = |facts: &Facts| {
        [
            identity::of_base(&Base::Bootstrap(bootstrap.clone()), facts).unwrap().identity(),
            identity::of_base(&Base::Directory("/h/file".into()), facts).unwrap().identity(),
            identity::of_base(&Base::Image("store:x:1".into()), facts).unwrap().identity(),
            identity::of_step(digest("b"), &install, Some(&bootstrap), facts).unwrap().identity(),
            identity::of_step(digest("b"), &copy, None, facts).unwrap().identity(),
            identity::of_output(digest("b"), &disk(Format::Raw), facts).unwrap().identity(),
        ]
    };
    let changed = |change: &dyn Fn(&mut Facts)| {
        let mut facts = same.clone();
        change(&mut facts);
        let pairs = all(&same).into_iter().zip(all(&facts));
        pairs.map(|(before, after)| u8::from(before != after).to_string()).collect::<String>()
    };
    let sources = bootstrap.archive();
    let archive =
        |facts: &mut Facts, change: &dyn Fn(&mut ArchiveFact)| change(facts.archives.get_mut(&sources).unwrap());
    let file = |facts: &mut Facts, change: &dyn Fn(&mut FileFact)| {
        change(facts.files.get_mut(&PathBuf::from("/h/file")).unwrap())
    };
    assert_eq!(changed(&|_| {}), "000000");
    assert_eq!(changed(&|facts| archive(facts, &|one| one.fetched = 9)), "000000", "when it was looked at is nothing");
    assert_eq!(
        changed(&|facts| archive(facts, &|one| one.releases = [("x/InRelease".into(), digest("s"))].into())),
        "100100"
    );
    assert_eq!(
        changed(&|facts| archive(facts, &|one| one.releases = [("y/InRelease".into(), digest("r"))].into())),
        "100100"
    );
    assert_eq!(changed(&|facts| file(facts, &|one| one.digest = digest("other"))), "010010");
    assert_eq!(changed(&|facts| file(facts, &|one| one.name = "other".into())), "000010");
    assert_eq!(changed(&|facts| facts.images = [("store:x:1".into(), digest("other"))].into()), "001000");
    assert_eq!(changed(&|facts| facts.epoch = None), "111001");
    for (tool, which) in [("mmdebstrap", "100000"), ("mke2fs", "000001"), ("mksquashfs", "000000")] {
        assert_eq!(changed(&|facts| facts.tools.insert(tool.into(), "2".into()).map_or((), drop)), which, "{tool}");
    }
}

/// What was made before, as values.
#[derive(Default)]
struct Made {
    known: BTreeMap<Digest, Known>,
    last: BTreeMap<String, Inputs>,
    now: i64,
}

impl Answers for Made {
    fn known(&self, identity: Digest) -> Option<Known> {
        self.known.get(&identity).cloned()
    }

    fn last(&self, slot: &str) -> Option<Inputs> {
        self.last.get(slot).cloned()
    }

    fn output(&self, _: &Output, inputs: &Inputs) -> Status {
        match self.known.get(&inputs.identity()) {
            Some(known) => Status::Hit(known.tree),
            None => Status::Miss(Why::Before),
        }
    }

    fn now_and_ttl(&self) -> (i64, i64) {
        (self.now, 60)
    }
}

impl Made {
    /// All that these lines explain, made now.
    fn make(&mut self, explained: &[Explained]) {
        for line in explained.iter().flat_map(|one| one.lines.iter().chain(&one.outputs)) {
            let (Some(inputs), Some(identity)) = (&line.inputs, line.identity) else { continue };
            let ages = line.what.starts_with("install");
            let known = Known { inputs: inputs.clone(), tree: digest("t"), after: identity, ages, made: self.now };
            self.known.insert(identity, known);
            self.last.insert(line.slot.clone(), inputs.clone());
        }
    }
}

fn chain(line: &str, base: Base) -> Plans {
    let path = || "/etc/motd".parse().unwrap();
    let plan = |name: &str, base, line: &str| Plan {
        name: name.parse().unwrap(),
        base,
        steps: vec![
            Step::new(Action::CopyIn { source: "/h/file".into(), into: "/".parse().unwrap() }),
            Step::new(Action::AppendLine { path: path(), line: line.into() }),
        ],
        outputs: vec![Output { form: Form::Squashfs, path: Some("/out".into()) }],
        place: "here:1:1".into(),
    };
    let child = plan("child", Base::Plan("base".parse().unwrap()), "child");
    Plans::new(vec![child, plan("base", base, line)]).unwrap()
}

fn told(explained: &[Explained]) -> Vec<(String, Option<String>)> {
    let lines = explained.iter().flat_map(|one| one.lines.iter().chain(&one.outputs).map(|line| (&one.name, line)));
    lines
        .map(|(name, line)| {
            let why = match &line.status {
                Status::Hit(_) => None,
                Status::Miss(why) => Some(why.text()),
            };
            (format!("{name}: {}", line.what), why)
        })
        .collect()
}

#[test]
fn a_miss_names_what_changed_and_what_builds_on_it() {
    let facts = facts(&[]);
    let mut made = Made::default();
    let base = || Base::Directory("/h/file".into());
    let before = explain(&chain("one", base()), "/vm", &facts, &made);
    let reasons: Vec<Option<String>> = told(&before).into_iter().map(|(_, why)| why).collect();
    let anew = || Some("what it builds on is made anew".to_owned());
    assert_eq!(reasons[0].as_deref(), Some("never made before"));
    assert_eq!(reasons[1..], vec![anew(); 6]);
    made.make(&before);
    let again = explain(&chain("one", base()), "/vm", &facts, &made);
    assert!(told(&again).iter().all(|(_, why)| why.is_none()), "{:?}", told(&again));

    let changed = explain(&chain("two", base()), "/vm", &facts, &made);
    let whys: Vec<Option<String>> = told(&changed).into_iter().map(|(_, why)| why).collect();
    let line = Some("changed: action.append-line.line".to_owned());
    assert_eq!(whys, [None, None, line, anew(), anew(), anew(), anew()], "{:?}", told(&changed));

    let mut other = facts.clone();
    other.files.get_mut(&PathBuf::from("/h/file")).unwrap().digest = digest("new");
    let changed = told(&explain(&chain("one", base()), "/vm", &other, &made));
    assert_eq!(changed[0].1.as_deref(), Some("changed: content"));
    assert_eq!(changed[1].1.as_deref(), Some("changed: source"));

    other.files.clear();
    let missing = told(&explain(&chain("one", base()), "/vm", &other, &made));
    assert_eq!(missing[0].1.as_deref(), Some("`/h/file` is not there"));
    // All that is missing, not the first of it alone.
    assert_eq!(missing[1].1.as_deref(), Some("`/h/file` is not there"), "{missing:?}");
    assert_eq!(missing[2].1.as_deref(), Some("what it builds on is made anew"), "{missing:?}");
    assert_eq!(missing[4].1.as_deref(), Some("`/h/file` is not there"), "{missing:?}");
}

#[test]
fn neither_the_name_of_a_plan_nor_its_place_nor_its_folder_is_in_an_identity() {
    let facts = facts(&[]);
    let identities = |plans: &Plans, space: &str| -> Vec<Option<Digest>> {
        let explained = explain(plans, space, &facts, &Made::default());
        explained.iter().flat_map(|one| one.lines.iter().chain(&one.outputs)).map(|line| line.identity).collect()
    };
    let own = chain("one", Base::Empty);
    let renamed = own.iter().cloned().map(|plan| Plan {
        name: format!("x{}", plan.name).parse().unwrap(),
        base: match plan.base {
            Base::Plan(name) => Base::Plan(format!("x{name}").parse().unwrap()),
            other => other,
        },
        outputs: plan.outputs.into_iter().map(|output| Output { path: None, ..output }).collect(),
        place: "there:2:2".into(),
        ..plan
    });
    let renamed = Plans::new(renamed.collect()).unwrap();
    assert_eq!(identities(&own, "/vm"), identities(&renamed, "/other"));
    assert!(identities(&own, "/vm").iter().all(Option::is_some));
}

#[test]
fn a_volatile_step_is_never_a_hit_and_hides_what_follows() {
    let facts = facts(&[]);
    let mut made = Made::default();
    let plans = || {
        let plan = chain("one", Base::Empty).get(&"base".parse().unwrap()).unwrap().clone();
        let mut steps = plan.steps.clone();
        steps[0].volatile = true;
        Plans::new(vec![Plan { steps, ..plan }]).unwrap()
    };
    made.make(&explain(&plans(), "/vm", &facts, &made));
    let lines = &explain(&plans(), "/vm", &facts, &made)[0].lines;
    assert!(matches!(lines[0].status, Status::Hit(_)));
    assert_eq!(lines[1].status, Status::Miss(Why::Volatile));
    assert_eq!(lines[2].status, Status::Miss(Why::Before));
}

#[test]
fn packages_of_an_archive_that_nobody_knows_grow_old() {
    let facts = facts(&[]);
    let mut made = Made::default();
    let install = Step::new(Action::Packages { install: vec!["vim".parse().unwrap()], recommends: None });
    let plan = Plan {
        name: "a".parse().unwrap(),
        base: Base::Empty,
        steps: vec![install],
        outputs: vec![],
        place: String::new(),
    };
    let plans = Plans::new(vec![plan]).unwrap();
    made.make(&explain(&plans, "", &facts, &made));
    for (now, why) in [(60, None), (61, Some(Why::Old(61)))] {
        made.now = now;
        let status = explain(&plans, "", &facts, &made)[0].lines[1].status.clone();
        assert_eq!(if let Status::Miss(why) = status { Some(why) } else { None }, why);
    }
}

#[test]
fn a_result_that_was_swept_says_so() {
    let facts = facts(&[]);
    let mut made = Made::default();
    let plans = chain("one", Base::Empty);
    made.make(&explain(&plans, "/vm", &facts, &made));
    let name = "base".parse().unwrap();
    let lost = made.last[&slot("/vm", &name, "step 1")].identity();
    made.known.remove(&lost);
    let explained = explain(&plans, "/vm", &facts, &made);
    assert_eq!(explained[0].lines[2].status, Status::Miss(Why::Gone));
}
