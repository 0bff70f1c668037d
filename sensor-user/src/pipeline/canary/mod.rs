//! The canary: two loopback connections and a short-lived child process, made by the agent itself
//! every minute. A hook that does not report them is broken.
//!
//! The connections are on a loopback address that nothing else uses, by which every other agent on this
//! host leaves them out too.
//!
//! The emitter makes them, on its own thread. The detector runs in the pipeline: it removes them
//! from the output, and reports the hooks that missed them.

mod detector;
mod emitter;

pub use detector::{CanaryDetector, CanaryFailure, CanaryVerdict};
pub use emitter::{CANARY_ADDRESS, CanaryIdentity, CanaryPorts, child};

use std::io;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::pipeline::capture::Hooks;
use crate::privsep::Spawner;
use emitter::{Emitter, IN_FLIGHT_MAX};

/// The canary: emitter thread and detector.
#[derive(Debug)]
pub struct Canary;

impl Canary {
    /// Starts the emitter thread, with a canary at once and then every `interval`. Returns the
    /// detector for the pipeline. `hooks` are those that must report the canary; `launcher` starts
    /// the child process.
    pub fn start(
        interval: Duration,
        hooks: &Hooks,
        launcher: Arc<Spawner>,
    ) -> io::Result<CanaryDetector> {
        let identity = Arc::new(CanaryIdentity::new());
        let (in_flight_out, in_flight) = sync_channel(IN_FLIGHT_MAX);
        let (retry, retry_in) = sync_channel(1);
        let launcher_pid = launcher.pid();
        let emitter = Emitter {
            identity: Arc::clone(&identity),
            launcher,
            interval,
            in_flight: in_flight_out,
            retry: retry_in,
        };
        std::thread::Builder::new().name("canary".to_owned()).spawn(move || emitter.run())?;
        Ok(CanaryDetector::new(identity, launcher_pid, interval, hooks, in_flight, retry))
    }
}
