//! A controller and hosts: each host in a network namespace with an sshd, a host key and a folder of containers of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::harness::{Castoff, program, require_root, succeed};
use crate::publish::servers::{key, public, until};

pub(super) const IMAGE: &str = "makina-states-bionic";
pub(super) const BUILDER: &str = "bionic-build";

/// Namespaces and networks of tests that run at once are apart by the test's process and this.
static SERIAL: AtomicU32 = AtomicU32::new(0);

/// A host; it is gone with this value.
pub(super) struct Host {
    pub(super) name: String,
    namespace: String,
    address: String,
    /// Its folder of containers, which only it sees at the controller's path.
    pub(super) containers: PathBuf,
    sshd: Option<Child>,
}

impl Host {
    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        let sshd = self.sshd.as_ref().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(sshd), signal).unwrap();
    }

    /// The place of an image on it.
    pub(super) fn place(&self, image: &str) -> PathBuf {
        self.containers.join(image)
    }

    /// The tree that consumers see.
    pub(super) fn tree(&self) -> PathBuf {
        self.place(IMAGE).join("rootfs")
    }

    /// The network of the host as it is between the two of them.
    fn ip(arguments: &[&str]) {
        succeed(program("ip").args(arguments));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut sshd) = self.sshd.take() {
            let _gone = sshd.kill();
            let _reaped = sshd.wait();
        }
        let _gone = program("ip").args(["netns", "del", &self.namespace]).output();
    }
}

/// The controller and its hosts.
pub(super) struct Cloud {
    pub(super) castoff: Castoff,
    pub(super) lxc: PathBuf,
    pub(super) hosts: Vec<Host>,
}

/// What stands in a host's way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    /// Its line is down.
    Unreachable,
    /// Its folder is a file system of one megabyte.
    Full,
}

impl Cloud {
    /// A controller with this many hosts.
    pub(super) fn new(troubles: &[Trouble]) -> Self {
        require_root();
        let castoff = Castoff::new();
        let scratch = castoff.scratch().to_owned();
        let lxc = scratch.join("lxc");
        std::fs::create_dir_all(&lxc).unwrap();
        std::fs::create_dir_all("/run/sshd").unwrap();
        let identity = key(&scratch, "id", "ed25519");
        let (configuration, trusted) = (scratch.join("ssh_config"), scratch.join("known_hosts"));
        std::fs::write(&trusted, "").unwrap();
        let castoff = castoff
            .with("CASTOFF_LXC_PATH", lxc.display().to_string())
            .with("CASTOFF_PILLAR_ROOT", scratch.join("pillar").display().to_string())
            .with("CASTOFF_MINION_ID", "controller.example.net")
            .with("CASTOFF_PUSH_SSH_CONFIGURATION", configuration.display().to_string())
            .with("CASTOFF_PUSH_KNOWN_HOSTS", trusted.display().to_string())
            .with("CASTOFF_PUSH_IDENTITY_FILE", identity.display().to_string())
            .with("CASTOFF_PUSH_SILENCE", "6");
        let mut cloud = Self { castoff, lxc, hosts: Vec::new() };
        for trouble in troubles {
            let host = cloud.host(*trouble);
            cloud.hosts.push(host);
        }
        let names: Vec<&str> = cloud.hosts.iter().map(|host| host.name.as_str()).collect();
        cloud.database(&names);
        cloud.version(1);
        let text: String = cloud
            .hosts
            .iter()
            .map(|host| format!("Host {}\n HostName {}\n User root\n", host.name, host.address))
            .collect();
        std::fs::write(configuration, text).unwrap();
        cloud
    }

    pub(super) fn scratch(&self) -> &Path {
        self.castoff.scratch()
    }

    /// The database: these hosts have machines.
    pub(super) fn database(&self, names: &[&str]) {
        let nodes: serde_json::Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), serde_json::json!([format!("vm-{}", name.len())]))).collect();
        let database = serde_json::json!({
            "vms": {"lxc": nodes},
            "cloud_settings": {"cloud": {"root": self.scratch().join("root")}, "images": {"lxc": {"images": {IMAGE: {"builder_ref": BUILDER}}}}},
        });
        let folder = self.scratch().join("pillar");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("database.json"), database.to_string()).unwrap();
    }

    /// The announced release.
    pub(super) fn version(&self, number: u32) {
        let folder = self.scratch().join("root/versions");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{IMAGE}-lxc_version.txt")), format!("{number}\n")).unwrap();
        std::fs::write(folder.join(format!("{IMAGE}-lxc_version.txt.md5")), "0123456789abcdef0123456789abcdef\n")
            .unwrap();
    }

    fn host(&self, trouble: Trouble) -> Host {
        let serial = SERIAL.fetch_add(1, Ordering::SeqCst);
        let process = std::process::id();
        let namespace = format!("castoff-{process}-{serial}");
        let name = format!("node-{serial}.example.net");
        // A network of two for every pair of process and host, out of 10.0.0.0/8.
        let net = (process * 64 + serial) % (1 << 22);
        let part =
            |number: u32| format!("10.{}.{}.{}", (net >> 14) & 255, (net >> 6) & 255, ((net & 63) << 2) + number);
        let (here, there) = (part(1), part(2));
        let (outer, inner) = (format!("co{}-{serial}", process % 100_000), format!("ci{}-{serial}", process % 100_000));
        Host::ip(&["netns", "add", &namespace]);
        Host::ip(&["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &namespace]);
        Host::ip(&["addr", "add", &format!("{here}/30"), "dev", &outer]);
        Host::ip(&["link", "set", &outer, "up"]);
        Host::ip(&["-n", &namespace, "addr", "add", &format!("{there}/30"), "dev", &inner]);
        let containers = self.scratch().join(&name);
        std::fs::create_dir_all(&containers).unwrap();
        let mut host = Host { name, namespace, address: there, containers, sshd: None };
        if trouble != Trouble::Unreachable {
            Host::ip(&["-n", &host.namespace, "link", "set", "lo", "up"]);
            Host::ip(&["-n", &host.namespace, "link", "set", &inner, "up"]);
            self.start(&mut host, trouble);
        }
        host
    }

    fn start(&self, host: &mut Host, trouble: Trouble) {
        let file = key(&host.containers, "host", "ed25519");
        let known = format!("{} {}\n", host.address, public(&file));
        let trusted = self.scratch().join("known_hosts");
        std::fs::write(&trusted, std::fs::read_to_string(&trusted).unwrap() + &known).unwrap();
        // The folder is covered by the bind mount only in the namespace of `ip netns exec`.
        let settings = self.scratch().join(format!("sshd-{}", host.name));
        let text = format!(
            "ListenAddress {}\nPidFile none\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nMaxStartups 100\n",
            host.address,
            file.display(),
            self.scratch().join("id.pub").display()
        );
        std::fs::write(&settings, text).unwrap();
        let mount = match trouble {
            Trouble::Full => "mount -t tmpfs -o size=1m tmpfs \"$2\"",
            Trouble::None | Trouble::Unreachable => "mount --bind \"$1\" \"$2\"",
        };
        let sshd = program("sshd").get_program().to_owned();
        let log = std::fs::File::create(self.scratch().join(format!("log-{}", host.name))).unwrap();
        let child = program("ip")
            .args(["netns", "exec", &host.namespace, "sh", "-ec", &format!("{mount}; exec \"$3\" -D -e -f \"$4\"")])
            .arg("sh")
            .args([&host.containers, &self.lxc])
            .arg(sshd)
            .arg(settings)
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        host.sshd = Some(child);
        until("sshd", || std::net::TcpStream::connect((host.address.as_str(), 22)).is_ok());
    }

    /// A builder with a tree of this content: every part of it says which.
    pub(super) fn build(&self, content: &str, mib: usize) {
        let folder = self.lxc.join(BUILDER);
        std::fs::create_dir_all(&folder).unwrap();
        let config = format!("lxc.uts.name = {BUILDER}\nlxc.rootfs.path = dir:{}/rootfs\n", folder.display());
        std::fs::write(folder.join("config"), config).unwrap();
        let script = "mkdir -p rootfs/etc rootfs/data rootfs/usr/bin rootfs/srv/shared rootfs/sbin
            for at in $(seq 40); do echo \"$0\" > rootfs/data/$at; done
            echo \"$0\" > rootfs/etc/version; echo x > rootfs/data/lock; echo 0 > rootfs/.ms_version
            test -e rootfs/usr/bin/su || { echo su > rootfs/usr/bin/su; ln rootfs/usr/bin/su rootfs/usr/bin/su2; }
            chmod 4755 rootfs/usr/bin/su; chown 1234:4321 rootfs/srv/shared
            setfacl -m u:1001:rwx,d:u:1001:rwx rootfs/srv/shared; setfattr -n user.note -v hello rootfs/etc
            head -c \"$1\" /dev/urandom > rootfs/usr/noise";
        succeed(Command::new("sh").current_dir(folder).args(["-ec", script, content]).arg((mib << 20).to_string()));
    }

    /// What a function returned, whether or not that is a success.
    pub(super) fn call(&self, arguments: &[&str]) -> Value {
        let output = self.castoff.command(["call", "--out=json"].iter().chain(arguments)).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let json: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error} in:\n{text}\n{}", String::from_utf8_lossy(&output.stderr)));
        json["local"].clone()
    }

    pub(super) fn sync(&self) -> Value {
        self.call(&["mc_lxc.sync_images"])
    }
}

/// Which content the tree has; it is that of one build, every part of it.
pub(super) fn content(rootfs: &Path) -> String {
    // Opened once: the name may lead to another tree in the middle.
    let opened = std::fs::File::open(rootfs).unwrap();
    let tree = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)));
    let version = std::fs::read_to_string(tree.join("etc/version")).unwrap();
    for at in 1..=40 {
        assert_eq!(std::fs::read_to_string(tree.join(format!("data/{at}"))).unwrap(), version, "{at}");
    }
    assert_eq!(std::fs::metadata(tree.join("usr/noise")).unwrap().len() % (1 << 20), 0);
    version.trim().to_owned()
}
