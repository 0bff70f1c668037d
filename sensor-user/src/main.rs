//! The binary `netsensor`: flags in, exit status out, an error printed once.
#![forbid(unsafe_code)]

use std::env::var_os;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use sensor_user::cli::RawArgs;
use sensor_user::commands;
use sensor_user::config::Environment;

fn main() -> ExitCode {
    let args = match RawArgs::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            // Help goes to standard output; when nobody reads it, nobody is told.
            let _reader_gone = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment {
        state_directory: var_os("STATE_DIRECTORY"),
        xdg_state_home: var_os("XDG_STATE_HOME"),
        home: var_os("HOME"),
        credentials_directory: var_os("CREDENTIALS_DIRECTORY"),
        notify_socket: var_os("NOTIFY_SOCKET"),
        watchdog_usec: var_os("WATCHDOG_USEC"),
        watchdog_pid: var_os("WATCHDOG_PID"),
        journal_stream: var_os("JOURNAL_STREAM"),
        term: var_os("TERM"),
        no_color: var_os("NO_COLOR"),
    };
    match commands::call(args, &environment, None) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            let code = commands::error_exit_code(&error);
            if code != 0 {
                // A closed standard error leaves the status to tell.
                let _reader_gone = writeln!(std::io::stderr(), "netsensor: {error:#}");
            }
            ExitCode::from(code)
        }
    }
}
