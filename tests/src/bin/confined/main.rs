//! `netsensor`, with a hook: once an agent runs, it tries in the agent's own process what a
//! confined one may not, on each kind of thread, and says on standard error what came of it, as one
//! line `tried {…}`. Nothing of it is in the real binary.
#![expect(clippy::print_stderr, reason = "it tells the test what it does")]

mod attempts;

use std::collections::BTreeMap;
use std::env::var_os;
use std::process::ExitCode;

use clap::Parser as _;
use sensor_user::base::environment::Environment;
use sensor_user::cli::args::RawArgs;
use sensor_user::cli::commands;

fn main() -> ExitCode {
    let environment = Environment::of(|name| var_os(name));
    match commands::call(RawArgs::parse(), &environment, Some(Box::new(once_running))) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("netsensor: {error:#}");
            ExitCode::from(commands::error_exit_code(&error))
        }
    }
}

/// On a thread that is made now, as the pipeline's is, and on one of the runtime's.
fn once_running() {
    let runtime = tokio::runtime::Handle::current();
    std::thread::spawn(move || {
        let mut tried = BTreeMap::from([("thread", attempts::all())]);
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            let _nobody_waits = sender.send(attempts::all());
        });
        if let Ok(all) = receiver.recv() {
            tried.insert("runtime", all);
        }
        eprintln!("tried {}", serde_json::to_string(&tried).unwrap_or_default());
    });
}
