//! `Environment`: the process environment variables that the agent uses.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Environment variables that the agent uses. Only `main` reads the real environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `STATE_DIRECTORY`, which systemd sets for a unit with a state directory.
    pub state_directory: Option<OsString>,
    /// `XDG_STATE_HOME`, the base directory of user state.
    pub xdg_state_home: Option<OsString>,
    /// `HOME`, the home directory.
    pub home: Option<OsString>,
    /// `CREDENTIALS_DIRECTORY`, which systemd sets for a unit with credentials.
    pub credentials_directory: Option<OsString>,
    /// `NOTIFY_SOCKET`, which systemd sets for a unit of `Type=notify`.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`, which systemd sets for a unit with `WatchdogSec=`.
    pub watchdog_usec: Option<OsString>,
    /// `WATCHDOG_PID`: process that must send watchdog notifications.
    pub watchdog_pid: Option<OsString>,
    /// `JOURNAL_STREAM`: device and inode of the stream to the journal.
    pub journal_stream: Option<OsString>,
    /// `TERM`: type of the terminal.
    pub term: Option<OsString>,
    /// `NO_COLOR`: plain text only (no-color.org).
    pub no_color: Option<OsString>,
}

impl Environment {
    /// Builds the environment from `variable`, which returns a variable by name.
    pub fn from_fn(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        Self {
            state_directory: variable("STATE_DIRECTORY"),
            xdg_state_home: variable("XDG_STATE_HOME"),
            home: variable("HOME"),
            credentials_directory: variable("CREDENTIALS_DIRECTORY"),
            notify_socket: variable("NOTIFY_SOCKET"),
            watchdog_usec: variable("WATCHDOG_USEC"),
            watchdog_pid: variable("WATCHDOG_PID"),
            journal_stream: variable("JOURNAL_STREAM"),
            term: variable("TERM"),
            no_color: variable("NO_COLOR"),
        }
    }

    /// Returns the service manager's watchdog timeout for this process (`sd_watchdog_enabled(3)`), if
    /// it has one.
    pub fn watchdog(&self) -> Option<Duration> {
        let number = |text: &OsString| text.to_str()?.parse::<u64>().ok();
        let is_this_process = match &self.watchdog_pid {
            Some(pid) => number(pid) == Some(u64::from(std::process::id())),
            None => true,
        };
        let timeout = self.watchdog_usec.as_ref().filter(|_| is_this_process).and_then(number);
        timeout.filter(|timeout| *timeout > 0).map(Duration::from_micros)
    }

    /// Returns the default state directory: systemd's, else `netsensor` in `$XDG_STATE_HOME`, else in
    /// `~/.local/state`. Relative values are ignored, as XDG requires.
    pub fn state_dir(&self) -> Option<PathBuf> {
        let absolute = |value: &Option<OsString>| {
            value.as_ref().map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let systemd = self.state_directory.as_ref().and_then(|value| {
            std::env::split_paths(value).next().filter(|path| path.is_absolute())
        });
        systemd
            .or_else(|| absolute(&self.xdg_state_home).map(|dir| dir.join("netsensor")))
            .or_else(|| absolute(&self.home).map(|dir| dir.join(".local/state/netsensor")))
    }
}
