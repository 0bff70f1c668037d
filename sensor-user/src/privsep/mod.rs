//! Helpers: processes that do what the confined agent may not.
//!
//! They are this same executable, started before a program is loaded: `launcher` starts what reads
//! feeds and the canary's child, `keeper` starts the rest (`Kind`), again when one ended. The agent
//! asks each over a socketpair (`channel`), a question at a time (`helper`); a message is a number
//! and a socket, or [`postcard`] of one type. ARCHITECTURE.md has who may what.
//!
//! Invariants. A helper ends with the agent: the kernel kills it when who started it has ended, and
//! it ends itself where its socket does. A message has a maximum that both ends check. The pipeline
//! never waits for a helper longer than a limit, after which it does without the answer (counted).

pub mod sandbox;

mod client;
mod ipc;
mod launcher;
mod serve;
mod spawn;

pub use client::{Helper, HelperError};
pub use ipc::{Channel, Message};

pub use serve::serve;
pub use spawn::Starter;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::counters::Stats;
use crate::pipeline::{serve_looks, serve_translations};
use sandbox::{Role, confine_helper};

/// What is started by the launcher or the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Reads a feed, by the launcher.
    ReadFeed,
    /// Does nothing, by the launcher; an argument that no other process has.
    Canary(String),
    /// Lists open sockets, by the keeper.
    Looks,
    /// Asks the connection tracking, by the keeper.
    Translations,
    /// Reads /proc, by the keeper.
    Processes,
}

/// All helpers of an agent.
#[derive(Debug)]
pub struct Helpers {
    /// Starts what has no rights.
    pub launcher: Arc<Starter>,
    keeper: Arc<Starter>,
    /// Lists open sockets.
    pub looks: Arc<Helper>,
    /// Asks the connection tracking.
    pub translations: Arc<Helper>,
    /// Reads /proc.
    pub processes: Arc<Helper>,
}

impl Helpers {
    /// Starts them; `log` is their filter, and `feeds` is where the launcher's children may write.
    pub fn start(log: &str, feeds: Option<&Path>, stats: &Arc<Stats>) -> io::Result<Self> {
        let launcher = Arc::new(Starter::start("launcher", log, feeds)?);
        let keeper = Arc::new(Starter::start("keeper", log, None)?);
        let helper = |kind, most, limit| {
            let helper = Helper::start(kind, Arc::clone(&keeper), (most, limit), stats)?;
            Ok::<_, io::Error>(Arc::new(helper))
        };
        Ok(Self {
            looks: helper(Kind::Looks, LOOK_MAX, LOOK_LIMIT)?,
            translations: helper(Kind::Translations, BATCH_MAX, BATCH_LIMIT)?,
            processes: helper(Kind::Processes, PROCESS_MAX, PROCESS_LIMIT)?,
            launcher,
            keeper,
        })
    }

    /// How each helper is, by the name of its component: why not well, if so. One that has ended is
    /// started again.
    pub fn faults(&self) -> [(&'static str, Option<String>); 3] {
        [
            ("helper looks", self.looks.check()),
            ("helper translations", self.translations.check()),
            ("helper processes", self.processes.check()),
        ]
    }

    /// An error where a starter has ended, without which nothing can be started again.
    pub fn all_there(&self) -> anyhow::Result<()> {
        let ended = [&self.launcher, &self.keeper].into_iter().find(|it| it.has_ended());
        match ended.map(|it| it.name()) {
            None => Ok(()),
            Some(name) => anyhow::bail!(
                "the helper {name} ended, without which no feed is read or no other helper started"
            ),
        }
    }
}

/// Bytes of what a look finds at most: a hundred for each of the most sockets that are tracked.
const LOOK_MAX: usize = 256 << 20;
/// A look goes on for 20 seconds at most; its holders come on top.
const LOOK_LIMIT: Duration = Duration::from_mins(2);
/// Bytes of a batch of translations at most: the connections of one turn.
const BATCH_MAX: usize = 4 << 20;
const BATCH_LIMIT: Duration = Duration::from_secs(10);
/// Bytes of what /proc tells of a process at most: three paths and a command line.
const PROCESS_MAX: usize = 64 << 10;
/// How long the pipeline waits for it.
const PROCESS_LIMIT: Duration = Duration::from_millis(100);

/// The hidden command `helper`: what the process of this name does, until its socket ends. `folder`
/// is where the launcher's children may write, `log` its filter.
pub fn child(name: HelperName, folder: Option<&Path>, log: &str) -> io::Result<()> {
    let socket = serve::begin()?;
    let role = match name {
        HelperName::Launcher => Role::Launcher,
        HelperName::Keeper => Role::Keeper,
        HelperName::Looks => Role::Looks,
        HelperName::Translations => Role::Translations,
        HelperName::Processes => Role::Processes,
    };
    let launch = match name {
        HelperName::Launcher | HelperName::Keeper => {
            launcher::Launch::new(socket.try_clone()?, name, log).map(Some)?
        }
        _ => None,
    };
    confine_helper(role, folder)?;
    if let Some(launch) = launch {
        return launch.run();
    }
    match name {
        HelperName::Looks => serve_looks(Channel::new(socket, LOOK_MAX)),
        HelperName::Translations => serve_translations(Channel::new(socket, BATCH_MAX)),
        _ => crate::pipeline::enrich::proc_worker::answer(Channel::new(socket, PROCESS_MAX)),
    }
}

/// A helper by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum HelperName {
    /// See [`Kind`].
    Launcher,
    /// See [`Kind`].
    Keeper,
    /// See [`Kind`].
    Looks,
    /// See [`Kind`].
    Translations,
    /// See [`Kind`].
    Processes,
}
