//! `netsensor spool`: inspects the alerts on disk, or delivers them to a sink again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use super::args::{SpoolArgs, SpoolReplayArgs};
use super::outcome::{Outcome, config_of_agent, print};
use crate::base::clock::SystemClock;
use crate::base::environment::Environment;
use crate::base::progress::Progress;
use crate::config::Config;
use crate::deliver::spool::{
    InspectionReport, dead_letter_files, inspected_files, requeue_dead_letters, rewind_cursor,
};
use crate::telemetry::control;

pub(crate) fn list(args: &SpoolArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let dir = config(args, environment)?.agent.spool_dir();
    print(inspect(&dir, args, environment)?.to_text().as_bytes())
}

pub(crate) fn verify(args: &SpoolArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let dir = config(args, environment)?.agent.spool_dir();
    let report = inspect(&dir, args, environment)?;
    if report.corruptions.is_empty() {
        let text = format!("{}: good, {} commits\n", dir.display(), report.commits);
        return print(text.as_bytes());
    }
    let lines: Vec<String> = report.corruptions.iter().map(ToString::to_string).collect();
    print(format!("{}\n", lines.join("\n")).as_bytes())?;
    Ok(Outcome::Damaged)
}

pub(crate) fn replay(args: &SpoolReplayArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let config = config(&args.spool, environment)?;
    let dir = config.agent.spool_dir();
    let _no_agent = control::AgentLock::acquire(&config.agent.control_socket())?;
    let (sink, no_progress) = (&args.sink, args.spool.no_progress);
    let text = if args.rejected {
        let files = dead_letter_files(&dir, sink);
        let progress = Progress::for_files(&[&files], no_progress, environment);
        let moved =
            requeue_dead_letters(&dir, sink, &config.spool, Arc::new(SystemClock), &progress);
        progress.finish();
        let (alerts, others) = moved?;
        format!(
            "{alerts} alerts that sink {sink} rejected are in the spool again; {others} other items \
             stay in the dead-letter file\n"
        )
    } else {
        let progress = Progress::for_files(&[&inspected_files(&dir)], no_progress, environment);
        let moved = rewind_cursor(&dir, sink, args.from, &progress);
        progress.finish();
        let (first, count) = moved?;
        format!("sink {sink} receives {count} alerts at the next start, from number {first} on\n")
    };
    print(text.as_bytes())
}

/// Inspects the whole spool, with a progress bar.
fn inspect(
    dir: &Path,
    args: &SpoolArgs,
    environment: &Environment,
) -> anyhow::Result<InspectionReport> {
    let progress = Progress::for_files(&[&inspected_files(dir)], args.no_progress, environment);
    let report: io::Result<InspectionReport> = InspectionReport::read(dir, &progress);
    progress.finish();
    report.with_context(|| dir.display().to_string())
}

/// Configuration of the agent that the spool belongs to.
fn config(args: &SpoolArgs, environment: &Environment) -> anyhow::Result<Config> {
    match &args.state {
        Some(state) => Ok(Config::embedded(std::path::absolute(state)?)?),
        None => Ok(config_of_agent(args.config.as_deref(), environment)?),
    }
}
