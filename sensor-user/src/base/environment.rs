//! What of the machine a configuration depends on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// What of the process environment the configuration depends on; only `main` reads the real one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// `STATE_DIRECTORY`, which systemd sets for a unit that has one.
    pub state_directory: Option<OsString>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// `CREDENTIALS_DIRECTORY`, which systemd sets for a unit that has credentials.
    pub credentials_directory: Option<OsString>,
    /// `NOTIFY_SOCKET`, which systemd sets for a unit of `Type=notify`.
    pub notify_socket: Option<OsString>,
    /// `WATCHDOG_USEC`, which it sets for a unit with `WatchdogSec=`.
    pub watchdog_usec: Option<OsString>,
    /// `WATCHDOG_PID`: whose signs of life are meant.
    pub watchdog_pid: Option<OsString>,
    /// `JOURNAL_STREAM`: which stream is the journal.
    pub journal_stream: Option<OsString>,
    /// `TERM`: what the terminal is.
    pub term: Option<OsString>,
    /// `NO_COLOR`: the terminal shows plain text only (no-color.org).
    pub no_color: Option<OsString>,
}

impl Environment {
    /// As `variable` says by its name.
    pub fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
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

    /// How long the service manager waits between two signs of life of this process
    /// (`sd_watchdog_enabled(3)`); `None` where it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        let number = |text: &OsString| text.to_str()?.parse::<u64>().ok();
        let meant = match &self.watchdog_pid {
            Some(pid) => number(pid) == Some(u64::from(std::process::id())),
            None => true,
        };
        let limit = self.watchdog_usec.as_ref().filter(|_| meant).and_then(number);
        limit.filter(|limit| *limit > 0).map(Duration::from_micros)
    }

    /// The state directory where none is configured: systemd's, else `netsensor` in
    /// `$XDG_STATE_HOME`, else in `~/.local/state`. Relative values are ignored, as XDG says.
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
