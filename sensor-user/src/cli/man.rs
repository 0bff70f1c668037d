//! Man pages and completion scripts, as packages ship them.
//!
//! Both are generated from `cli::args`, so that they match the binary. Hidden commands are in neither.

use std::fs::File;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::RawArgs;

/// The shells, each with the file name that it expects.
const SCRIPTS: [(Shell, &str); 3] =
    [(Shell::Bash, "netsensor.bash"), (Shell::Zsh, "_netsensor"), (Shell::Fish, "netsensor.fish")];

/// Completion script of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible_command(), "netsensor", &mut script);
    script
}

/// Writes a man page for each command, and the completion scripts, into an existing directory.
pub fn write(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(visible_command(), folder)?;
    for (shell, name) in SCRIPTS {
        io::Write::write_all(&mut File::create(folder.join(name))?, &completions(shell))?;
    }
    Ok(())
}

/// The command line without hidden commands, which the generators would include.
fn visible_command() -> clap::Command {
    let whole = RawArgs::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut visible = clap::Command::new("netsensor")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(commands);
    if let Some(about) = whole.get_about() {
        visible = visible.about(about.clone());
    }
    if let Some(after) = whole.get_after_help() {
        visible = visible.after_help(after.clone());
    }
    visible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_visible_command_has_a_page_and_hidden_ones_have_none() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path()).unwrap();
        let page = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert!(page("netsensor.1").contains("Exit status: 0 done"));
        assert!(page("netsensor-run.1").contains("simulate"));
        assert!(page("netsensor-spool-replay.1").contains(".SH SYNOPSIS"));
        assert!(page("_netsensor").starts_with("#compdef netsensor"));
        for name in ["netsensor.bash", "netsensor.fish"] {
            assert!(page(name).contains("check-config"), "{name}");
            assert!(!page(name).contains("parse-feed"), "{name}");
        }
        for hidden in ["canary", "parse-feed", "manual"] {
            assert!(!folder.path().join(format!("netsensor-{hidden}.1")).exists(), "{hidden}");
        }
    }
}
