//! Runs a command on a pseudoterminal.
#![expect(clippy::unwrap_used, reason = "a test ends with a panic")]

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::process::{Command, Output};

use nix::pty::{Winsize, openpty};

/// Runs `command` with a pseudoterminal of 80 columns as its standard error. Returns its output and
/// the bytes written to the terminal. The environment has `TERM=xterm`, no `NO_COLOR`, and
/// `variable`.
pub fn run_on_pty(mut command: Command, variable: (&str, &str)) -> (Output, String) {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    command.env("TERM", "xterm").env_remove("NO_COLOR");
    command.env(variable.0, variable.1).stderr(terminal.slave);
    let output = command.output().unwrap();
    // Closes the slave side, so that a read of the master ends.
    drop(command);
    // On Linux, a read of the master after the slave is closed fails with EIO.
    let shown = BufReader::new(File::from(terminal.master)).bytes().map_while(Result::ok).collect();
    (output, String::from_utf8(shown).unwrap())
}
