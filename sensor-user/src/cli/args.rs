//! The command line: arguments and their help texts. Nothing here opens a file or runs a command.
#![expect(clippy::doc_markdown, reason = "the comments are the help texts, shown unchanged")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::privsep::{FEED_PARSER_COMMAND, WorkerKind};
use crate::telemetry::log::check_filter;

/// The command line of `netsensor`.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "netsensor",
    version,
    about = "Matches this host's connections against threat intelligence and alerts",
    after_help = "Exit status: 0 done, 1 failure at run time, 2 bad flags or configuration \
                  (nothing was started), 3 finished with rejected input, 4 --fail-on-alert and \
                  there was one."
)]
pub struct RawArgs {
    /// Log filter, for example "info" or "warn,sensor_user=debug"
    #[arg(long, global = true, value_name = "FILTER", value_parser = log_filter)]
    pub log: Option<String>,
    /// The command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// A command with its flags.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Watch this host and alert (without a configuration file: the example indicators, to the terminal)
    Run(RunArgs),
    /// Match recorded connections
    Replay(ReplayArgs),
    /// Write this host's connections to a file that `replay --live` reads
    Record(RecordArgs),
    /// Make one connection to a planted indicator and check that it alerts
    SelfTest,
    /// Show the status of the running agent (exit status 1: degraded, or not running)
    Status(StatusArgs),
    /// Show the feeds of the running agent (exit status 1: a feed is degraded)
    Feeds(FeedsArgs),
    /// Show the saved indicators that cover an address, and whether they would alert
    Explain(ExplainArgs),
    /// Inspect the alerts on disk, or deliver them to a sink again
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Check a configuration file, and show its effect or its errors
    CheckConfig(CheckConfigArgs),
    /// Print the columns of the tables, or the JSON Schema of the configuration file
    Schema(SchemaArgs),
    /// Canary process of a running agent: exits at once, and its probes must report that
    #[command(hide = true)]
    Canary {
        /// Argument that no other process has
        token: String,
    },
    /// Worker process of a running agent
    #[command(hide = true)]
    Worker {
        /// Kind of the worker
        #[arg(value_enum)]
        kind: WorkerKind,
        /// Directory that feed parsers may write to
        feeds: Option<PathBuf>,
    },
    /// Feed parser process of a running agent
    #[command(name = FEED_PARSER_COMMAND, hide = true)]
    FeedParser,
    /// Print a completion script for a shell
    Completions {
        /// Name of the shell
        shell: Shell,
    },
    /// Write the man pages and completion scripts that a package ships
    #[command(hide = true)]
    Manual {
        /// Existing directory
        folder: PathBuf,
    },
}

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Drop this share (0 to 1) of the kernel's records, to test how losses are reported
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    pub simulate_drops: u32,
}

/// `replay`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("mode").required(true).args(["at", "live"]))]
pub struct ReplayArgs {
    /// Recorded connections: JSON lines of VMConnection rows; - is standard input
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub connections: Vec<PathBuf>,
    /// Indicators; the format is detected from the content: STIX, MISP events, JSON lines of
    /// ThreatIntelligenceIndicator or ThreatIntelIndicators rows, or plain lists
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub indicators: Vec<PathBuf>,
    /// Evaluate the original rule at this time, for example 2026-11-24T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<Timestamp>,
    /// Run the input through the live pipeline, with the times of the input
    #[arg(long)]
    pub live: bool,
    /// Period before TIME from which connections count
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub lookback: Duration,
    /// Ignore indicator rows older than this
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = duration)]
    pub indicator_lookback: Duration,
    /// With --at: parse every row, not only those that may be hits
    #[arg(long, requires = "at")]
    pub strict: bool,
    /// Write alerts to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// With --live, for a recording: also write its rows, to a file as JSON lines, or to an existing
    /// directory as one Parquet file per table
    #[arg(long, value_name = "FILE|DIR", requires = "live")]
    pub rows: Option<PathBuf>,
    /// Show no progress bar (never shown without a terminal, with NO_COLOR, or with TERM=dumb)
    #[arg(long = "quiet")]
    pub no_progress: bool,
    /// Exit with status 4 if there is an alert
    #[arg(long)]
    pub fail_on_alert: bool,
}

/// `record`.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// Output file
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Stop after this time, or at a signal
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Drop this share (0 to 1) of the kernel's records, to test how losses are reported
    #[arg(long, value_name = "P", default_value = "0", value_parser = share)]
    pub simulate_drops: u32,
}

/// Address of a running agent.
#[derive(Debug, Clone, Args)]
pub struct AgentArgs {
    /// Configuration file of the agent (TOML), which contains its socket
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// Control socket of the agent
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

/// `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    /// Address of the agent.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Print one JSON document with all counters
    #[arg(long)]
    pub json: bool,
}

/// `feeds`.
#[derive(Debug, Clone, Args)]
pub struct FeedsArgs {
    /// Show this feed only
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Also show the first rejected entries, with position and reason
    #[arg(long)]
    pub rejects: bool,
    /// Address of the agent.
    #[command(flatten)]
    pub agent: AgentArgs,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// IPv4 or IPv6 address
    #[arg(value_name = "ADDRESS")]
    pub address: std::net::IpAddr,
    /// Evaluate at this time instead of now, for example 2026-11-24T10:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<Timestamp>,
    /// Configuration file of the agent (TOML), which contains its feeds and its state directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `spool`.
#[derive(Debug, Clone, Subcommand)]
pub enum SpoolCommand {
    /// List the segments, and the position of each sink
    List(SpoolArgs),
    /// Read the whole spool (exit status 1: it is damaged)
    Verify(SpoolArgs),
    /// Deliver alerts to a sink again; the agent must not be running
    Replay(SpoolReplayArgs),
}

/// Location of the spool.
#[derive(Debug, Clone, Args)]
pub struct SpoolArgs {
    /// Configuration file of the agent (TOML), which contains its state directory
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// State directory of the agent
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub state: Option<PathBuf>,
    /// Show no progress bar (never shown without a terminal, with NO_COLOR, or with TERM=dumb)
    #[arg(long = "quiet")]
    pub no_progress: bool,
}

/// `spool replay`.
#[derive(Debug, Clone, Args)]
pub struct SpoolReplayArgs {
    /// Name of the sink
    #[arg(long, value_name = "NAME")]
    pub sink: String,
    /// Alerts raised at this time or later, for example 2026-11-24T10:00:00Z; without it, all retained
    /// alerts
    #[arg(long, value_name = "TIME", value_parser = time, conflicts_with = "rejected")]
    pub from: Option<Timestamp>,
    /// Alerts that the sink has rejected; they are delivered to all sinks, with the same ids
    #[arg(long)]
    pub rejected: bool,
    /// Location of the spool.
    #[command(flatten)]
    pub spool: SpoolArgs,
}

/// `check-config`.
#[derive(Debug, Clone, Args)]
pub struct CheckConfigArgs {
    /// Configuration file (TOML); without it, the built-in configuration
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
    /// The same file, as an option of `run`
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `schema`.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Name of a table, or "config" for the configuration file; all tables without it
    #[arg(value_name = "NAME", value_parser = schema_name())]
    pub name: Option<String>,
    /// Output format: a listing, a command for Azure Data Explorer, the body that creates a custom table of
    /// Log Analytics, its stream in a data collection rule, DuckDB's DDL, or the schema of the
    /// Parquet files
    #[arg(long, value_enum, default_value = "json")]
    pub format: SchemaFormat,
}

/// Output format of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaFormat {
    /// JSON document.
    Json,
    /// Management command of Azure Data Explorer.
    Kql,
    /// Log Analytics: a custom table.
    Azure,
    /// Log Analytics: the stream of a data collection rule.
    Dcr,
    /// DDL of `DuckDB`.
    Sql,
    /// Schema of the Parquet files.
    Parquet,
}

fn schema_name() -> clap::builder::PossibleValuesParser {
    let tables = crate::schema::TABLES.iter().map(|table| table.name);
    tables.chain(["config"]).collect::<Vec<_>>().into()
}

/// Shells with a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// fish.
    Fish,
}

impl Shell {
    /// The same shell in `clap_complete`.
    pub const fn of_generator(self) -> clap_complete::Shell {
        match self {
            Self::Bash => clap_complete::Shell::Bash,
            Self::Zsh => clap_complete::Shell::Zsh,
            Self::Fish => clap_complete::Shell::Fish,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; use one such as 30s, 1h or 14d"))
}

/// A share in parts per million.
fn share(text: &str) -> Result<u32, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    let share =
        share.ok_or_else(|| "not a share; use a number from 0 to 1 such as 0.01".to_owned())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
    Ok((share * 1_000_000.0).round() as u32)
}

fn time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error| format!("{error}; use one such as 2026-11-24T10:00:00Z"))
}

fn log_filter(text: &str) -> Result<String, String> {
    check_filter(text).map(|()| text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn flags_are_consistent() {
        RawArgs::command().debug_assert();
    }
}
