//! `netsensor` with a test hook. Once the agent runs, the hook attempts forbidden operations in the
//! agent's own process, on each kind of thread, and prints the outcomes to standard error as one
//! line `attempted {…}`. The real binary contains none of this.
#![expect(clippy::print_stderr, reason = "it reports the outcomes to the test")]

mod attempts;

use std::collections::BTreeMap;
use std::env::var_os;
use std::process::ExitCode;

use clap::Parser as _;
use sensor_user::base::environment::Environment;
use sensor_user::cli::args::RawArgs;
use sensor_user::cli::commands;

fn main() -> ExitCode {
    let environment = Environment::from_fn(|name| var_os(name));
    match commands::call(RawArgs::parse(), &environment, Some(Box::new(on_running))) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("netsensor: {error:#}");
            ExitCode::from(commands::error_exit_code(&error))
        }
    }
}

/// Performs the attempts on a new thread, like the pipeline's, and on a thread of the runtime.
fn on_running() {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let mut outcomes = BTreeMap::from([("thread", attempts::perform_all())]);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let _receiver_dropped = sender.send(attempts::perform_all());
        });
        if let Ok(of_runtime) = receiver.recv() {
            outcomes.insert("runtime", of_runtime);
        }
        eprintln!("attempted {}", serde_json::to_string(&outcomes).unwrap_or_default());
    });
}
