//! The binary `netsensor`: flags in, exit status out, an error printed once.
#![forbid(unsafe_code)]

use std::env::var_os;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use sensor_user::base::environment::Environment;
use sensor_user::cli::args::RawArgs;
use sensor_user::cli::commands;

fn main() -> ExitCode {
    let args = match RawArgs::try_parse() {
        Ok(args) => args,
        Err(usage) => {
            // Help goes to standard output; a closed pipe is no error.
            let _reader_gone = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let environment = Environment::from_fn(|name| var_os(name));
    match commands::call(args, &environment, None) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            let code = commands::error_exit_code(&error);
            if code != 0 {
                // With standard error closed, the exit code is the only report.
                let _reader_gone = writeln!(std::io::stderr(), "netsensor: {error:#}");
            }
            ExitCode::from(code)
        }
    }
}
