//! A command at a terminal.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::process::{Command, Output};

use nix::pty::{Winsize, openpty};

/// What `command` answers, and what a terminal of 80 columns at its standard error is sent. With
/// `variable` in its environment, else that of a terminal that shows all.
pub fn run_on_pty(mut command: Command, variable: (&str, &str)) -> (Output, String) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.env(variable.0, variable.1).stderr(terminal.slave);
    let output = command.output().unwrap();
    // The slave is closed with it, so that its reader comes to an end.
    drop(command);
    // The end of a terminal is an error (EIO).
    let shown = BufReader::new(File::from(terminal.master)).bytes().map_while(Result::ok).collect();
    (output, String::from_utf8(shown).unwrap())
}
