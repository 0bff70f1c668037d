//! Commands: one function per command, from its arguments to its output.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::args::{
    AgentArgs, CheckConfigArgs, Command, ExplainArgs, FeedsArgs, RawArgs, RecordArgs, ReplayArgs,
    RunArgs, SchemaArgs, SchemaFormat, SpoolCommand, StatusArgs,
};
use super::config_schema::config_schema;
use super::describe::describe;
use super::explain::explain;
use super::feeds_view::feeds_view;
use super::logging::{start_as_configured, start_log};
use super::man;
use super::outcome::{Outcome, config, config_of_agent, print};
use super::schema::{self as schema_text, Format};
use super::status_view::status_view;
use super::worker::{feed_parser, worker};
use crate::agent::{self, OnRunning, PreflightError, preflight, raise_descriptor_limit};
use crate::base::clock::{Clock as _, SystemClock, signed};
use crate::base::environment::Environment;
use crate::base::progress::Progress;
use crate::config::{Config, ConfigError, ConfigSource};
use crate::deliver::console_line;
use crate::intel::{FeedFolder, read_allowed};
use crate::pipeline::canary;
use crate::pipeline::capture::CaptureError;
use crate::pipeline::matcher::AllowList;
use crate::replay;
use crate::replay::{AtOptions, LiveOptions, ReplayError, RowChecks};
use crate::schema;
use crate::schema::health::HealthState;
use crate::telemetry::control;
use crate::telemetry::control::ControlError;
use crate::telemetry::log::LogTarget;

/// Exit status of an error: 2 for an invalid configuration, 0 for a closed standard output, else 1.
pub fn error_exit_code(error: &anyhow::Error) -> u8 {
    let broken_pipe = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    if error.chain().any(broken_pipe) {
        return 0;
    }
    let is_config = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<ConfigError>()
            || cause.is::<PreflightError>()
            || matches!(cause.downcast_ref(), Some(CaptureError::BadObject { .. }))
            || matches!(cause.downcast_ref(), Some(ControlError::Io { .. }))
    };
    if error.chain().any(is_config) { 2 } else { 1 }
}

/// Runs a command. `on_running` is a callback of tests, for `run`.
pub fn call(
    args: RawArgs,
    environment: &Environment,
    on_running: Option<OnRunning>,
) -> anyhow::Result<Outcome> {
    let log = args.log.as_deref();
    match args.command {
        Command::Run(args) => run(&args, log, environment, on_running),
        Command::Replay(args) => replay(&args, log, environment),
        Command::Record(args) => record(&args, log, environment),
        Command::SelfTest => self_test(log, environment),
        Command::Status(args) => status(&args, environment),
        Command::Feeds(args) => feeds(&args, environment),
        Command::Explain(args) => explain_address(&args, environment),
        Command::Spool(SpoolCommand::List(args)) => super::spool::list(&args, environment),
        Command::Spool(SpoolCommand::Verify(args)) => super::spool::verify(&args, environment),
        Command::Spool(SpoolCommand::Replay(args)) => super::spool::replay(&args, environment),
        Command::Schema(args) => print_schema(&args),
        Command::Canary { .. } => {
            canary::child();
            Ok(Outcome::Done)
        }
        Command::Worker { kind, feeds } => worker(kind, feeds.as_deref(), log, environment),
        Command::FeedParser => feed_parser(),
        Command::CheckConfig(args) => check_config(&args, environment),
        Command::Completions { shell } => print(&man::completions(shell.of_generator())),
        Command::Manual { folder } => {
            man::write(&folder).with_context(|| format!("write into {}", folder.display()))?;
            Ok(Outcome::Done)
        }
    }
}

fn run(
    args: &RunArgs,
    log: Option<&str>,
    environment: &Environment,
    on_running: Option<OnRunning>,
) -> anyhow::Result<Outcome> {
    let source = ConfigSource { path: args.config.clone(), environment: environment.clone() };
    let mut config = source.read()?;
    config.capture.drops_per_million = args.simulate_drops;
    raise_descriptor_limit()?;
    preflight(&config)?;
    let log = start_as_configured(&mut config, log, environment)?;
    agent::run(&config, &source, log, on_running)?;
    Ok(Outcome::Done)
}

fn replay(
    args: &ReplayArgs,
    log: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let _log = start_log(log, "warn", LogTarget::Auto, environment)?;
    let inputs: [&[_]; 2] = [&args.indicators, &args.connections];
    let progress = Progress::for_files(&inputs, args.no_progress, environment);
    let mut rejects = progress.stderr_writer();
    let mut out = alerts_out(args.out.as_deref())?;
    let named = |error| match (error, &args.out) {
        (ReplayError::WriteAlerts(source), Some(path)) => {
            anyhow::Error::new(source).context(format!("write {}", path.display()))
        }
        (error, _) => error.into(),
    };
    let (rejected, lost, alerts) = if let Some(at) = args.at {
        let options = AtOptions {
            connections: args.connections.clone(),
            indicators: args.indicators.clone(),
            at,
            lookback: signed(args.lookback),
            indicator_lookback: signed(args.indicator_lookback),
            checks: if args.strict { RowChecks::Strict } else { RowChecks::Hits },
            progress: progress.clone(),
        };
        let summary = replay::at::run(&options, &mut out, &mut rejects).map_err(named)?;
        (summary.rows_rejected + summary.indicators_rejected, summary.lost, summary.alerts)
    } else {
        let options = LiveOptions {
            connections: args.connections.clone(),
            indicators: args.indicators.clone(),
            indicator_lookback: signed(args.indicator_lookback),
            window: signed(DEFAULT_WINDOW),
            rows: args.rows.clone(),
            progress: progress.clone(),
        };
        let summary = replay::live::run(&options, &mut out, &mut rejects).map_err(named)?;
        (summary.rejected, summary.lost, summary.alerts)
    };
    progress.finish();
    if lost > 0 {
        tracing::warn!(lost, "input contains losses of the agent that recorded it");
    }
    Ok(replayed(rejected, alerts, args.fail_on_alert))
}

/// Dedup window of `replay --live`: that of an agent without a configuration file.
const DEFAULT_WINDOW: Duration = Duration::from_hours(1);

/// Output of a replay's alerts.
fn alerts_out(path: Option<&Path>) -> anyhow::Result<Box<dyn io::Write>> {
    let Some(path) = path else { return Ok(Box::new(BufWriter::new(io::stdout().lock()))) };
    let file = File::create(path).with_context(|| format!("write {}", path.display()))?;
    Ok(Box::new(BufWriter::new(file)))
}

fn record(
    args: &RecordArgs,
    log: Option<&str>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let mut config = config(args.config.as_deref(), environment)?;
    config.capture.drops_per_million = args.simulate_drops;
    let _log = start_as_configured(&mut config, log, environment)?;
    let lines = agent::record::record(&config, &args.out, args.duration)?;
    tracing::info!(lines, path = %args.out.display(), "recorded");
    Ok(Outcome::Done)
}

fn self_test(log: Option<&str>, environment: &Environment) -> anyhow::Result<Outcome> {
    let mut config = config(None, environment)?;
    let _log = start_as_configured(&mut config, log.or(Some("warn")), environment)?;
    let seen = agent::self_test::self_test(&config).context("self-test failed")?;
    let text = format!(
        "probes on: {}\n{}\nalert {:.1} ms after the connection: the path from kernel to alert works\n",
        seen.probes.join(", "),
        console_line(&seen.alert),
        seen.latency.as_secs_f64() * 1000.0,
    );
    print(text.as_bytes())
}

fn status(args: &StatusArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let report = request(&args.agent, environment, control::request_status)?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&report)?)
    } else {
        status_view(&report, SystemClock.now())
    };
    print(text.as_bytes())?;
    Ok(if report.state == HealthState::Ok { Outcome::Done } else { Outcome::Degraded })
}

/// Sends a request to the running agent.
fn request<T>(
    agent: &AgentArgs,
    environment: &Environment,
    send: impl FnOnce(&Path) -> io::Result<T>,
) -> anyhow::Result<T> {
    let path = match &agent.socket {
        Some(path) => path.clone(),
        None => config_of_agent(agent.config.as_deref(), environment)?.agent.control_socket(),
    };
    send(&path).with_context(|| {
        format!("no agent responds at {}; is it running, with this configuration?", path.display())
    })
}

fn feeds(args: &FeedsArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let send = |path: &Path| control::request_feeds(path, args.rejects);
    let mut feeds = request(&args.agent, environment, send)?;
    if let Some(name) = &args.name {
        let names: Vec<String> = feeds.iter().map(|feed| feed.name.clone()).collect();
        feeds.retain(|feed| feed.name == *name);
        anyhow::ensure!(
            !feeds.is_empty(),
            "feed {name:?}: not configured; configured are {}",
            names.join(", ")
        );
    }
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&feeds)?)
    } else {
        feeds_view(&feeds, SystemClock.now())
    };
    print(text.as_bytes())?;
    let is_well = feeds.iter().all(|feed| feed.state == HealthState::Ok);
    Ok(if is_well { Outcome::Done } else { Outcome::Degraded })
}

fn explain_address(args: &ExplainArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let config = config_of_agent(args.config.as_deref(), environment)?;
    let folder = FeedFolder::at(&config.agent.state_dir);
    let files = read_allowed(&config.allow.files)?;
    let allow = AllowList::new(config.allow.networks.iter().copied().chain(files.networks));
    let now = args.at.unwrap_or_else(|| SystemClock.now());
    print(explain(args.address, &config.feeds, &folder, &allow, now).as_bytes())
}

/// Outcome of a replay that has read all its input.
pub const fn replayed(rejected: u64, alerts: u64, fail_on_alert: bool) -> Outcome {
    if fail_on_alert && alerts > 0 {
        Outcome::Alerted
    } else if rejected > 0 {
        Outcome::Rejected
    } else {
        Outcome::Done
    }
}

fn check_config(args: &CheckConfigArgs, environment: &Environment) -> anyhow::Result<Outcome> {
    let path = args.file.as_deref().or(args.config.as_deref());
    let (config, warning) = match path {
        Some(path) => Config::inspect(path, environment)?,
        None => (config(None, environment)?, None),
    };
    preflight(&config)?;
    let name = path.map_or_else(|| "no configuration file".to_owned(), |p| p.display().to_string());
    let text = format!("{name}: good\n{}", describe(&config));
    print(text.as_bytes())?;
    if let Some(warning) = warning {
        // A warning only: the file may be copied elsewhere before it is used.
        let written = writeln!(io::stderr(), "netsensor: not usable at this path: {warning}");
        written.context("write standard error")?;
    }
    Ok(Outcome::Done)
}

fn print_schema(args: &SchemaArgs) -> anyhow::Result<Outcome> {
    let format = match args.format {
        SchemaFormat::Json => Format::Json,
        SchemaFormat::Kql => Format::Kql,
        SchemaFormat::Azure => Format::Azure,
        SchemaFormat::Dcr => Format::Dcr,
        SchemaFormat::Sql => Format::Sql,
        SchemaFormat::Parquet => Format::Parquet,
    };
    if args.name.as_deref() == Some("config") {
        anyhow::ensure!(format == Format::Json, "the schema of the configuration is JSON only");
        return print(format!("{:#}\n", config_schema()).as_bytes());
    }
    let table = args.name.as_deref().and_then(schema::table);
    let text = match &table {
        Some(table) => schema_text::print(&[table], format)?,
        None => schema_text::print(schema::TABLES, format)?,
    };
    print(text.as_bytes())
}
