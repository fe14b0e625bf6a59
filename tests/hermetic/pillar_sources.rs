//! What is read below a pillar root, what is refused, and what an operator is told: every message with its place.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use castoff::config::{Config, Overrides};
use castoff::pillar::grains::Host;
use castoff::pillar::traced::Origin;
use castoff::pillar::{Database, Files as _, Recorder, Source, Sweep, sls::Variables};
use castoff::settings::{PILLAR_TTL, Service};
use castoff::vocab::{MinionId, Value};
use insta::assert_snapshot;

fn id(text: &str) -> MinionId {
    text.parse().unwrap()
}

/// A pillar root of a test.
struct Root(tempfile::TempDir);

impl Root {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            root.write(name, text);
        }
        root
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(&self) -> Result<Source, String> {
        let opts = Value::map([("images", Value::from("/srv"))]);
        let grains = Value::map([("os", "Debian"), ("osrelease", "12")]);
        let own = id("controller");
        let variables = Variables { id: &own, opts: &opts, grains: &grains };
        let sweep = Sweep::default();
        Source::read(Some(self.path()), &variables, &Recorder::new(&sweep)).map_err(|error| {
            let root = format!("{}/", self.path().display());
            error.render().replace(&root, "")
        })
    }

    fn database(&self) -> Result<Arc<Database>, String> {
        self.read().map(|source| source.database.unwrap())
    }
}

fn told(files: &[(&str, &str)]) -> String {
    Root::new(files).read().map(|source| format!("{source:?}")).unwrap_err()
}

fn section(database: &Database, name: &str) -> Value {
    database.section(name).unwrap().to_value()
}

#[test]
fn the_first_of_sls_yaml_json_is_read_and_the_others_are_told() {
    let root = Root::new(&[("database.json", "{\"vms\": {\"a\": 1}}")]);
    assert_eq!(section(&root.database().unwrap(), "vms"), Value::map([("a", 1)]));
    root.write("database.yaml", "vms: {b: 1}\n");
    assert_eq!(section(&root.database().unwrap(), "vms"), Value::map([("b", 1)]));
    root.write("database.sls", "vms: {c: 1}\n");
    let source = root.read().unwrap();
    assert_eq!(section(&source.database.unwrap(), "vms"), Value::map([("c", 1)]));
    let unread: Vec<_> = source.unread.iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(unread, ["database.yaml", "database.json"]);
}

#[test]
fn what_is_wrong_with_a_database_is_told_with_file_line_and_column() {
    let yaml = |text: &str| told(&[("database.yaml", text)]);
    assert_snapshot!(yaml("vms:\n  lxc: [a, b\n  kvm: {}\n"), @"error: database.yaml:3:6: illegal placement of ':' indicator");
    assert_snapshot!(yaml("a: {}\nb: {}\na: {}\n"), @"error: database.yaml:3:1: the key `a` stands twice, first in line 1");
    assert_snapshot!(yaml("vms: {}\nbaremetal_hosts: node-1\n"), @"error: database.yaml:2:18: `baremetal_hosts` must be a map or a list, not a string");
    assert_snapshot!(yaml("vms: {}\nformat: one\n"), @"error: database.yaml:2:9: `format` must be a whole number, not a string");
    assert_snapshot!(yaml("vms:\n"), @"error: database.yaml:1:4: `vms` must be a map or a list, not a null");
    assert_snapshot!(yaml("- a\n"), @"error: database.yaml:1:1: `(the whole database)` must be a map of sections, not a list");
    assert_snapshot!(yaml(""), @"error: the database database.yaml is empty");
    assert_snapshot!(yaml("{}\n"), @"error: the database database.yaml is empty");
    assert_snapshot!(told(&[("database.json", "{\n  \"vms\": {},\n  \"vms\": {}\n}")]), @"error: database.json:3:3: the key `vms` stands twice");
    assert_snapshot!(told(&[("database.json", "{\"a\": [1,\n]}")]), @"error: database.json:2:1: `]` where a value is expected");
    assert_snapshot!(told(&[("README", "")]).split("/tmp").next().unwrap(), @"error: no database in the pillar root `");
}

#[test]
fn what_is_wrong_with_a_template_is_told_with_file_line_and_column() {
    let sls = |text: &str| told(&[("database.sls", text)]);
    assert_snapshot!(sls("a: {}\nb:\n  c: {{ salt['cmd.run']('id') }}\n"));
    assert_snapshot!(sls("a: {}\n{% set x = salt.network.ip_addrs() %}\n"));
    assert_snapshot!(sls("a: {}\nb: {{ nothing }}\n"));
    assert_snapshot!(sls("a: {}\nb: [{{ grains['nothing'] }}]\n"));
    assert_snapshot!(sls("a: {{ pillar['x'] }}\n"));
    assert_snapshot!(sls("a: {}\n{% if x\nb: {}\n"));
    assert_snapshot!(sls("a: {{ 1 | nonsense }}\n"));
    assert_snapshot!(sls("{% import_yaml 'x.yaml' as x %}\na: {}\n"));
    assert_snapshot!(sls("#!py\ndef run(): pass\n"));
    assert_snapshot!(sls("a: {}\n{% include 'absent.sls' %}\n"));
}

/// A loop makes the rendered lines others than the template's: the message has the template's, and shows the rendered one.
#[test]
fn a_mistake_in_rendered_yaml_is_told_at_the_line_of_the_template() {
    let text = "{%- set machines = ['a', 'b',\n  'c'] %}\nvms:\n  lxc:\n    node:\n{%- for machine in machines %}\n      - {{ machine }}\n{%- endfor %}\nhosts: [a\nmore: {}\n";
    assert_snapshot!(told(&[("database.sls", text)]));
    let text = "{% for x in [1, 2] %}\nhosts: {}\n{% endfor %}\n";
    assert_snapshot!(told(&[("database.sls", text)]));
    let included = [("database.sls", "a: {}\n{% include 'more.sls' %}\n"), ("more.sls", "b: {}\nc: {}\nd: '\n")];
    assert_snapshot!(told(&included));
    let included = [("database.sls", "a: {}\n{% include 'more.sls' %}\n"), ("more.sls", "b: {}\nc: {{ nothing }}\n")];
    assert_snapshot!(told(&included));
}

#[test]
fn values_of_a_template_know_the_line_they_were_written_in() {
    let root = Root::new(&[
        (
            "database.sls",
            "{% from 'macros.jinja' import host with context %}\n{%- set n = 2 %}\nvms:\n  lxc:\n{%- for i in range(n) %}\n    node-{{ i }}: [a]\n{%- endfor %}\nhosts:\n  - {{ host('x') }}\n{% include 'parts/more.sls' %}\n",
        ),
        ("macros.jinja", "{% macro host(name) -%}\n{{ name }}.{{ grains['os'] }}\n{%- endmacro %}\n"),
        ("parts/more.sls", "# more\nmore:\n  key: {{ opts.id }}\n"),
    ]);
    let database = root.database().unwrap();
    let place = |section: &str, path: &str| {
        let found = database.section(section).unwrap();
        let found = if path.is_empty() { found } else { found.find(path).unwrap() };
        match &found.origin {
            Origin::File(section, place) => {
                (section.file.strip_prefix(root.path()).unwrap().display().to_string(), place.line)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(place("vms", "lxc.node-0"), ("database.sls".to_owned(), 6));
    assert_eq!(place("vms", "lxc.node-1"), ("database.sls".to_owned(), 6));
    assert_eq!(place("hosts", "0").1, 9);
    assert_eq!(place("more", "key"), ("parts/more.sls".to_owned(), 3));
    assert_eq!(section(&database, "hosts"), Value::list(["x.Debian"]));
    assert_eq!(section(&database, "more"), Value::map([("key", "controller")]));
}

/// Right sides by Jinja2 3.1 with Salt 3008's filters.
#[test]
fn templates_mean_what_they_mean_in_salt() {
    for (template, value) in [
        (
            "{{ grains['os'] }}-{{ grains.osrelease }}-{{ opts.id }}-{{ opts['images'] }}",
            Value::from("Debian-12-controller-/srv"),
        ),
        ("{{ grains.get('nothing', 'else') }}", Value::from("else")),
        ("{{ nothing | default('else') }}", Value::from("else")),
        ("{{ grains['nothing'] | default('else') }}", Value::from("else")),
        (
            "{{ [1, true, none, 'x', 1.5] }}",
            Value::list([Value::from(1), true.into(), "None".into(), "x".into(), 1.5.into()]),
        ),
        ("{{ {'a': [1]} | json }}", Value::map([("a", Value::list([1]))])),
        ("{{ ['yes', 'no'] | yaml }}", Value::list(["yes", "no"])),
        ("{{ 'yes' | yaml_encode }}", Value::from("yes")),
        ("{{ true }}", Value::from(true)),
        ("'{{ true }} {{ none }}'", Value::from("True None")),
        ("{% set a = {'k': 1} %}{% for k, v in a.items() %}{{ k }}{{ v }}{% endfor %}", Value::from("k1")),
        ("{% macro m(x, y='z') %}{{ x }}{{ y }}{% endmacro %}{{ m('a') }}", Value::from("az")),
        ("{% if salt is defined %}salt{% else %}none{% endif %}", Value::from("none")),
        ("{{ 'a,b'.split(',') | json }}", Value::list(["a", "b"])),
        ("{{ '{\"a\": 1}' | load_json | json }}", Value::map([("a", 1)])),
        ("{% raw %}'{{ x }}'{% endraw %}", Value::from("{{ x }}")),
        ("'{{ saltenv }} {{ tplfile }} {{ tpldir }}'", Value::from("base database.sls .")),
    ] {
        let root = Root::new(&[("database.sls", &format!("x: [{template}]\n"))]);
        match root.database() {
            Ok(database) => assert_eq!(section(&database, "x"), Value::List(vec![value]), "{template}"),
            Err(error) => panic!("{template}: {error}"),
        }
    }
}

#[test]
fn a_first_line_names_the_renderers() {
    for (text, wanted) in [
        ("#!yaml\nx: ['{{ y }}']\n", Value::list(["{{ y }}"])),
        ("#!jinja|yaml\nx: [{{ 1 }}]\n", Value::list([1])),
        ("#!json\n{\"x\": [\"{{ y }}\"]}\n", Value::list(["{{ y }}"])),
        ("#!jinja | json\n{\"x\": [{{ 2 }}]}\n", Value::list([2])),
    ] {
        let root = Root::new(&[("database.sls", text)]);
        assert_eq!(section(&root.database().unwrap(), "x"), wanted, "{text}");
    }
    let root = Root::new(&[("database.sls", "#!json\n{\"x\": {\n  \"y\": 1}}\n")]);
    let database = root.database().unwrap();
    let place = &database.section("x").unwrap().get("y").unwrap().origin;
    assert!(matches!(place, Origin::File(_, place) if (place.line, place.column) == (3, 8)), "{place:?}");
}

#[test]
fn nothing_outside_of_the_root_is_included() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s: {}\n").unwrap();
    let absolute = outside.path().join("secret").display().to_string();
    for name in ["../secret", "./../secret", "x/../../secret", absolute.as_str(), "/etc/passwd", ""] {
        let error = told(&[("database.sls", &format!("a: {{}}\n{{% include '{name}' %}}\n"))]);
        assert!(error.starts_with("error: database.sls:2:"), "{name}: {error}");
        assert!(error.contains("pillar root"), "{name}: {error}");
    }
}

#[test]
fn work_output_depth_and_size_are_bounded() {
    for (name, text, wanted) in [
        (
            "database.sls",
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}".to_owned(),
            "steps",
        ),
        (
            "database.sls",
            "a: '{% for a in range(60000) %}{{ 'x' * 1000 }}{% endfor %}'".to_owned(),
            "renders to more than",
        ),
        ("database.sls", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(), "recursion"),
        ("database.sls", "{% include 'database.sls' %}".to_owned(), "recursion"),
        ("database.yaml", "a: ".to_owned() + &"[".repeat(100_000), "nested deeper"),
        ("database.json", "{\"a\": ".to_owned() + &"[".repeat(100_000), "nested deeper"),
        (
            "database.yaml",
            "a0: &a0 [x, x]\n".to_owned()
                + &(1..40).map(|n| format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1)).collect::<String>(),
            "stand for more than",
        ),
        ("database.yaml", "x".repeat((castoff::pillar::MOST_BYTES + 1) as usize), "is larger than"),
    ] {
        let error = told(&[(name, &text)]);
        assert!(error.contains(wanted), "{wanted}: {error}");
        assert!(error.len() < 2000, "{} bytes", error.len());
    }
}

/// A root with a database that cannot be used: what `prepare` made of it.
fn refused(prepare: impl FnOnce(&Root, &Path)) -> String {
    let root = Root::new(&[]);
    prepare(&root, &root.path().join("database.yaml"));
    root.read().map(|source| format!("read: {source:?}")).unwrap_or_else(|error| error)
}

#[test]
fn only_regular_files_that_not_everybody_may_write_are_read() {
    use rustix::fs::{CWD, FileType, Mode};
    let fifo = refused(|_, path| {
        rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    });
    assert_snapshot!(fifo, @"error: `database.yaml` is a pipe, not a file");
    assert_snapshot!(refused(|_, path| std::fs::create_dir(path).unwrap()), @"error: `database.yaml` is a folder, not a file");
    assert_snapshot!(refused(|_, path| symlink("/dev/zero", path).unwrap()), @"error: cannot read `database.yaml`: `/dev/zero` is a device, not a file");
    assert_snapshot!(refused(|_, path| symlink("database.yaml", path).unwrap()).contains("cannot look at"), @"true");
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    let everybody = refused(|root, _| mode(&root.write("database.yaml", "a: {}\n"), 0o666));
    assert_snapshot!(everybody, @r"
    error: `database.yaml` is a file that everybody may write to

    hint: `chmod o-w database.yaml` after a look at what is in it
    ");
    let folder = refused(|root, path| {
        root.write("open/data", "a: {}\n");
        mode(&root.path().join("open"), 0o777);
        symlink("open/data", path).unwrap();
    });
    assert_snapshot!(folder, @r"
    error: cannot read `database.yaml`: `open` is a folder that everybody may write to

    hint: `chmod o-w open` after a look at what is in it
    ");
    let not_utf_8 = refused(|_, path| std::fs::write(path, b"a: {}\nb: \xff\n").unwrap());
    assert_snapshot!(not_utf_8, @"error: `database.yaml` is not UTF-8, line 2");
}

#[test]
fn a_checkout_may_be_a_link_and_a_release_a_link_inside() {
    let root = Root::new(&[("releases/1/database.yaml", "a: [1]\n"), ("releases/2/database.yaml", "a: [2]\n")]);
    symlink("releases/1", root.path().join("current")).unwrap();
    symlink("current/database.yaml", root.path().join("database.yaml")).unwrap();
    assert_eq!(section(&root.database().unwrap(), "a"), Value::list([1]));
    symlink("releases/2", root.path().join("new")).unwrap();
    std::fs::rename(root.path().join("new"), root.path().join("current")).unwrap();
    assert_eq!(section(&root.database().unwrap(), "a"), Value::list([2]));
}

/// Somebody who may put links into the root, but is neither root nor the reader, cannot point at what is not theirs.
#[test]
fn a_link_of_somebody_else_leads_only_to_what_is_theirs() {
    if !rustix::process::geteuid().is_root() {
        // Only root can make files of others; `make test` runs as root.
        return;
    }
    let root = Root::new(&[("theirs.yaml", "a: [1]\n"), ("roots.yaml", "a: [2]\n")]);
    std::os::unix::fs::chown(root.path().join("theirs.yaml"), Some(4711), None).unwrap();
    let link = |target: &str, owner: u32| {
        let path = root.path().join("database.yaml");
        let _absent = std::fs::remove_file(&path);
        symlink(target, &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(owner), None).unwrap();
        root.database().map(|database| section(&database, "a"))
    };
    assert_eq!(link("theirs.yaml", 4711), Ok(Value::list([1])));
    assert_eq!(link("roots.yaml", 0), Ok(Value::list([2])));
    for target in ["roots.yaml", "/etc/passwd"] {
        let error = link(target, 4711).unwrap_err();
        assert!(error.contains("through a link of somebody"), "{error}");
    }
}

#[test]
fn grains_are_detected_and_an_operators_file_wins() {
    let root = Root::new(&[("grains.yaml", "os: Plan9\nmakina.lxc: yes\nroles: [a]\n")]);
    let flags = vec![
        ("state_dir".to_owned(), "/nonexistent".to_owned()),
        ("minion_id".to_owned(), "me".to_owned()),
        ("grains".to_owned(), root.path().join("grains.yaml").display().to_string()),
    ];
    let empty = root.write("castoff.yaml", "");
    let config = Config::load(&Overrides { file: Some(empty), values: flags }).unwrap();
    let sweep = Sweep::default();
    let host = Host::detect(&config, &Recorder::new(&sweep)).unwrap();
    let grain = |name: &str| host.grains.get(name).cloned();
    assert_eq!(grain("id"), Some(Value::from("me")));
    assert_eq!(grain("os"), Some(Value::from("Plan9")));
    assert_eq!(grain("makina.lxc"), Some(Value::from(true)));
    assert_eq!(grain("roles"), Some(Value::list(["a"])));
    assert_eq!(grain("kernel"), Some(Value::from("Linux")));
    assert!(matches!(grain("fqdn"), Some(Value::String(name)) if !name.is_empty()));
    let mut config = config;
    config.grains = Some(root.write("bad.yaml", "- a\n"));
    let error = Host::detect(&config, &Recorder::new(&sweep)).unwrap_err().render();
    assert!(error.contains("bad.yaml:1:1: a map of grains is expected, not a list"), "{error}");
}

/// The claim of `Files`: a folder's names come sorted, what is not there is told.
#[test]
fn a_recorder_reads_what_is_there() {
    let root = Root::new(&[("b", "2"), ("a", "1")]);
    let sweep = Sweep::default();
    let files = Recorder::new(&sweep);
    assert_eq!(files.list(root.path()).unwrap(), ["a", "b"]);
    assert_eq!(files.text(&root.path().join("a")).unwrap().as_deref(), Some("1"));
    assert_eq!(files.text(&root.path().join("c")).unwrap(), None);
    assert_eq!(files.text(&root.path().join("a/b")).unwrap(), None);
    assert!(files.is_dir(root.path()).unwrap() && !files.is_dir(&root.path().join("a")).unwrap());
    assert!(files.list(&root.path().join("absent")).is_err());
}

#[test]
fn without_any_root_settings_are_answered_and_pillars_are_not() {
    let mut config = Config::defaults(PathBuf::from("/nonexistent"));
    config.minion_id = Some(id("me"));
    let service = Service::open(&config);
    if service.base().unwrap().source.root.is_some() {
        // This machine has an image database of its own.
        return;
    }
    let error = service.document(&id("a"), true, PILLAR_TTL).unwrap_err();
    assert!(error.message().starts_with("no pillar root"), "{error}");
    let settings = service.settings(None, Duration::from_secs(60)).unwrap();
    assert_eq!(settings.value.get("root"), Some(&Value::from("/srv/makina-states")));
}
