//! A delay of its own for every host and job, the same each time.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How long this host waits with this job: spread evenly over the window, stable as long as the names are.
///
/// Five hundred hosts with one schedule then do not ask one server in the same second. Never the window itself.
pub fn jitter(host: &str, job: &str, window: Duration) -> Duration {
    let seconds = window.as_secs();
    if seconds == 0 {
        return Duration::ZERO;
    }
    let mut hash = Sha256::new();
    // The length keeps `ab`,`c` apart from `a`,`bc`.
    hash.update((host.len() as u64).to_be_bytes());
    hash.update(host);
    hash.update(job);
    let digest = hash.finalize();
    let number = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_secs(number % seconds)
}
