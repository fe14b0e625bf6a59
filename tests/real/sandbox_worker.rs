//! What `worker.rs` beside it starts, as root and as an ordinary user: a program whose worker has the tests' tasks.
//!
//! `worker TASK ORDER [MILLISECONDS]`: prints a line of JSON for each event and value, then the result or the error;
//! cancels after so many milliseconds.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unnecessary_wraps,
    clippy::zombie_processes
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use castoff::error::{Context as _, Error, Kind, Result};
use castoff::progress::{Cancel, Event, Progress, Sink, Unit};
use castoff::sandbox::overlay::{Overlay, overlay_works};
use castoff::sandbox::worker::{Ids, Port, Task, Worker};
use castoff::sandbox::{Sandbox, Terminal};
use serde_json::{Value, json};

const TASKS: &[(&str, Task)] = &[
    ("see", see),
    ("fail", fail),
    ("panic", |_| panic!("the task fell over")),
    ("die", die),
    ("talk", talk),
    ("wait", wait),
    ("orphans", orphans),
    ("overlay", overlay),
    ("probe", probe),
    ("run", run),
    ("shell", shell),
];

fn main() -> ExitCode {
    castoff::sandbox::entry(std::env::args_os(), TASKS).unwrap_or_else(drive)
}

struct Printed;

impl Sink for Printed {
    fn event(&self, event: &Event) {
        println!("{}", json!({ "event": format!("{event:?}") }));
    }
}

fn drive() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let mut order: Value = serde_json::from_str(&words[2]).unwrap();
    let cancel = Cancel::new();
    if let Some(time) = words.get(3) {
        let (cancel, time) = (cancel.clone(), Duration::from_millis(time.parse().unwrap()));
        std::thread::spawn(move || {
            std::thread::sleep(time);
            cancel.cancel();
        });
    }
    let terminal = (words[1] == "shell").then(|| Terminal::open().unwrap());
    if let Some(terminal) = &terminal {
        order["terminal"] = json!(terminal.name());
    }
    let relay = terminal.map(|terminal| terminal.relay().unwrap());
    let outcome = Ids::of_this_process().and_then(|ids| {
        Worker::start(&words[1], &order, &ids)?.finish::<Value>(&Progress::new(Arc::new(Printed)), &cancel, |value| {
            println!("{}", json!({ "value": value }));
            Ok(())
        })
    });
    drop(relay);
    match outcome {
        Ok(value) => println!("{}", json!({ "result": value })),
        Err(error) => println!("{}", json!({ "error": error.render(), "kind": error.kind().word() })),
    }
    ExitCode::SUCCESS
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn see(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().parse::<u32>().is_ok());
    Ok(json!({
        "order": order,
        "uid": rustix::process::geteuid().as_raw(),
        "pid": std::process::id(),
        "processes": processes.count(),
        "first": text("/proc/1/comm").trim(),
        "uid_map": text("/proc/self/uid_map").split_whitespace().collect::<Vec<_>>(),
        "capabilities": text("/proc/self/status").lines().find(|line| line.starts_with("CapEff")),
        "net": std::fs::read_link("/proc/self/ns/net").unwrap(),
        "mnt": std::fs::read_link("/proc/self/ns/mnt").unwrap(),
        "input": std::fs::read_link("/proc/self/fd/0").unwrap(),
    }))
}

fn fail(_: &mut Port) -> Result<Value> {
    let cause = std::io::Error::other("the cause of it all");
    Err(Error::new(Kind::NoSpace, "nothing is left").hint("make some room").caused_by(cause)).context(|| "it failed")
}

fn die(_: &mut Port) -> Result<Value> {
    eprintln!("last words");
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

fn talk(port: &mut Port) -> Result<Value> {
    let progress = port.progress();
    let mut stage = progress.stage("counting", Some(2), Unit::Items);
    stage.advance(2);
    drop(stage);
    progress.warn("careful");
    port.tell(&json!({ "half": 1 }))?;
    println!("a stray line");
    let order: Value = port.order()?;
    Ok(json!(order.to_string().len()))
}

/// Waits for the cancellation, with a child.
fn wait(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    let sleeper = std::process::Command::new("sleep").arg(order["sleep"].as_str().unwrap_or("1000")).spawn().unwrap();
    if let Some(file) = order["file"].as_str() {
        std::fs::write(file, sleeper.id().to_string()).unwrap();
    }
    port.progress().line("waiting");
    port.cancel().sleep(Duration::from_secs(1000))?;
    Ok(Value::Null)
}

/// Leaves processes without a parent; how many zombies there are once they have ended.
fn orphans(_: &mut Port) -> Result<Value> {
    for _ in 0..20 {
        std::process::Command::new("sh").args(["-c", "true & true &"]).status().unwrap();
    }
    let is_zombie = |path: PathBuf| std::fs::read_to_string(path.join("stat")).is_ok_and(|stat| stat.contains(") Z "));
    let mut zombies = usize::MAX;
    for _ in 0..200 {
        zombies = std::fs::read_dir("/proc").unwrap().filter(|it| is_zombie(it.as_ref().unwrap().path())).count();
        if zombies == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(json!(zombies))
}

/// Changes a tree through an overlay of many layers; what it looks like after.
fn overlay(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    let folder = Path::new(order["folder"].as_str().unwrap());
    let lowers: Vec<PathBuf> =
        (0..order["lowers"].as_u64().unwrap()).map(|number| folder.join(format!("lower,:{number}"))).collect();
    for (number, lower) in lowers.iter().enumerate() {
        std::fs::create_dir_all(lower.join("folder")).unwrap();
        std::fs::write(lower.join("which"), number.to_string()).unwrap();
        std::fs::write(lower.join(format!("folder/{number}")), "").unwrap();
    }
    for name in ["upper", "work", "merged"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    let merged = folder.join("merged");
    let overlay = Overlay::mount(&lowers, Some((&folder.join("upper"), &folder.join("work"))), &merged)?;
    let which = text(merged.join("which").to_str().unwrap());
    let seen = std::fs::read_dir(merged.join("folder")).unwrap().count();
    std::fs::write(merged.join("new"), "new").unwrap();
    std::fs::remove_file(merged.join("which")).unwrap();
    std::fs::rename(merged.join("folder/0"), merged.join("folder/moved")).unwrap();
    if let Some(user) = order["owner"].as_u64() {
        std::os::unix::fs::chown(merged.join("new"), Some(user.try_into().unwrap()), None).unwrap();
    }
    overlay.unmount()?;
    let read_only = Overlay::mount(&[folder.join("upper"), lowers[0].clone()], None, &merged)?;
    let refused = std::fs::write(merged.join("no"), "").is_err();
    drop(read_only);
    Ok(json!({ "which": which, "seen": seen, "refused": refused, "left": std::fs::read_dir(&merged).unwrap().count() }))
}

fn probe(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    Ok(json!(overlay_works(Path::new(order["folder"].as_str().unwrap()))?))
}

/// Runs commands in a tree or, without one, of the host, each in a sandbox; how each of them ended.
fn run(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    let mut ends = Vec::new();
    for script in order["scripts"].as_array().unwrap() {
        let sandbox = sandbox(&order).cancel(&port.cancel());
        let command: Vec<String> = match script {
            Value::String(script) => ["/bin/sh", "-c", script].map(str::to_owned).into(),
            words => serde_json::from_value(words.clone()).unwrap(),
        };
        let end = match sandbox.run(&command, &port.progress()) {
            Ok(report) => json!({ "exit": report.exit, "tail": report.tail, "means": report.means }),
            Err(error) => json!({ "error": error.render(), "kind": error.kind().word() }),
        };
        ends.push(end);
    }
    Ok(json!(ends))
}

fn sandbox(order: &Value) -> Sandbox {
    let mut sandbox = match order["tree"].as_str() {
        Some(tree) => Sandbox::new(tree).network(order["network"] == true),
        None => Sandbox::of_host(),
    };
    if let Some(bind) = order["bind"].as_str() {
        sandbox = sandbox.bind(bind, "srv/bound", order["read_only"] == true);
    }
    if let Some(most) = order["processes"].as_u64() {
        sandbox = sandbox.processes(most.try_into().unwrap());
    }
    if let Some(bytes) = order["memory"].as_u64() {
        sandbox = sandbox.memory(bytes);
    }
    if let Some(bytes) = order["floor"].as_u64() {
        sandbox = sandbox.floor(order["tree"].as_str().unwrap(), bytes);
    }
    if let Some(seconds) = order["limit"].as_u64() {
        sandbox = sandbox.limit(Duration::from_secs(seconds));
    }
    if let Some(log) = order["log"].as_str() {
        sandbox = sandbox.log(log, 1 << 20);
    }
    if let Some(text) = order["stdin"].as_str() {
        sandbox = sandbox.stdin(text);
    }
    if let Some(path) = order["working_directory"].as_str() {
        sandbox = sandbox.working_directory(path);
    }
    sandbox.no_sync(order["no_sync"] == true).keep_machine_id(order["keep_machine_id"] == true)
}

/// Gives castoff's terminal to a shell in the tree.
fn shell(port: &mut Port) -> Result<Value> {
    let order: Value = port.order()?;
    let terminal = order["terminal"].as_str().unwrap();
    Ok(json!(sandbox(&order).shell(&["/bin/sh".to_owned(), "-i".to_owned()], Path::new(terminal))?))
}
