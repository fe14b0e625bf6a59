//! 5,000 machines: the three forms of a database mean the same, and answers stay cheap. Prints what it measures.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use castoff::config::Config;
use castoff::settings::{PILLAR_TTL, Service};
use castoff::vocab::{MinionId, Value};

const NODES: usize = 50;
const MACHINES: usize = 100;

fn yaml() -> String {
    let mut text = "format: 1\ncloud_settings:\n  images:\n    sftp_user: someone\n".to_owned();
    for node in 0..NODES {
        for machine in 0..MACHINES {
            let _infallible = writeln!(text, "  images_vm-{node}-{machine}:\n    lxc: {{cron_minute: \"{machine}\"}}");
        }
    }
    text.push_str("vms:\n  lxc:\n");
    for node in 0..NODES {
        let _infallible = writeln!(text, "    node-{node}:");
        for machine in 0..MACHINES {
            let _infallible = writeln!(text, "      - vm-{node}-{machine}");
        }
    }
    text
}

fn sls() -> String {
    format!(
        "format: 1\ncloud_settings:\n  images:\n    sftp_user: someone\n{{%- for node in range({NODES}) %}}{{%- for machine in range({MACHINES}) %}}\n  images_vm-{{{{ node }}}}-{{{{ machine }}}}:\n    lxc: {{cron_minute: \"{{{{ machine }}}}\"}}\n{{%- endfor %}}{{%- endfor %}}\nvms:\n  lxc:\n{{%- for node in range({NODES}) %}}\n    node-{{{{ node }}}}:\n{{%- for machine in range({MACHINES}) %}}\n      - vm-{{{{ node }}}}-{{{{ machine }}}}\n{{%- endfor %}}{{%- endfor %}}\n"
    )
}

fn service(root: &Path) -> Arc<Service> {
    let mut config = Config::defaults(root.join("state"));
    config.pillar_root = Some(root.to_owned());
    config.minion_id = Some("controller".parse().unwrap());
    Service::open(&config)
}

/// CPU time of this thread: the machine runs other tests at the same time.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn ids() -> Vec<MinionId> {
    let names = (0..NODES).flat_map(|node| (0..MACHINES).map(move |machine| format!("vm-{node}-{machine}")));
    names.map(|name| name.parse().unwrap()).collect()
}

#[test]
fn five_thousand_machines_are_answered_alike_from_each_form_and_cheaply() {
    let json = {
        let value = castoff::document::parse(&yaml(), "x").unwrap();
        castoff::pillar::wire::document(&value)
    };
    let forms = [("database.yaml", yaml()), ("database.json", json), ("database.sls", sls())];
    let mut first: Option<Vec<Arc<Value>>> = None;
    for (name, text) in forms {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, &text).unwrap();
        let service = service(folder.path());
        let best = |run: &mut dyn FnMut()| {
            (0..5)
                .map(|_| {
                    let clock = cpu();
                    run();
                    cpu() - clock
                })
                .min()
                .unwrap()
        };
        let mut round = 0;
        let reload = best(&mut || {
            round += 1;
            std::fs::write(&path, format!("{text}{}", " ".repeat(round))).unwrap();
            service.base().unwrap();
        });
        let ids = ids();
        let clock = cpu();
        let answers = service.documents(&ids, true, PILLAR_TTL);
        let all = cpu() - clock;
        let values: Vec<Arc<Value>> = answers.into_iter().map(|answer| Arc::clone(&answer.unwrap().value)).collect();
        let hit = best(&mut || {
            for id in ids.iter().take(200) {
                service.document(id, true, PILLAR_TTL).unwrap();
            }
        }) / 200;
        let batch = best(&mut || drop(service.documents(&ids, true, PILLAR_TTL)));
        println!(
            "{name}: {} bytes, reload {reload:?}, 5000 first answers {all:?}, hit {hit:?}, 5000 hits in a batch {batch:?}",
            text.len()
        );
        println!("{:?}", service.metrics());
        // Several times what it takes: caches and clocks of a test machine are everybody's.
        let reload_limit = Duration::from_millis(if name.ends_with("sls") { 600 } else { 200 });
        assert!(reload < reload_limit && hit < Duration::from_micros(100), "{name}: reload {reload:?}, hit {hit:?}");
        assert_eq!(service.metrics().answers.entries, 5000);
        match &first {
            None => first = Some(values),
            Some(first) => assert!(*first == values, "{name} means something else"),
        }
    }
}
