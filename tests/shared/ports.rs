//! Ports for the servers of tests: each is one test's alone on this machine, for as long as the test's process lives.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

/// Below those that the kernel gives to outgoing connections: 32768 on, see `ip_local_port_range` in ip(7).
const FIRST: u16 = 20_000;
const COUNT: u64 = 12_000;

/// Locks on the ports of this process.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of the loopback that nobody listens at, and that no other test is given meanwhile.
pub(crate) fn free_port() -> u16 {
    let folder = std::env::temp_dir().join("castoff-test-ports");
    std::fs::create_dir_all(&folder).unwrap();
    loop {
        let port = FIRST + u16::try_from(RandomState::new().hash_one(()) % COUNT).unwrap();
        let path = folder.join(port.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        if lock.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            HELD.lock().unwrap().push(lock);
            return port;
        }
    }
}
