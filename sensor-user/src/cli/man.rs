//! Manual: the command line in the forms that a package ships it in: man pages and completion scripts.
//!
//! Both come from the types of `cli`, so that they cannot say what the binary does not do. Hidden
//! commands are in neither.

use std::fs::File;
use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::RawArgs;

/// The shells, each with the name of the file that it looks for.
const SCRIPTS: [(Shell, &str); 3] =
    [(Shell::Bash, "netsensor.bash"), (Shell::Zsh, "_netsensor"), (Shell::Fish, "netsensor.fish")];

/// The completion script for a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), "netsensor", &mut script);
    script
}

/// Writes a man page for each command, and the completion scripts, into a folder that exists.
pub fn write(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(shown(), folder)?;
    for (shell, name) in SCRIPTS {
        io::Write::write_all(&mut File::create(folder.join(name))?, &completions(shell))?;
    }
    Ok(())
}

/// What people type: the generators offer hidden commands too.
fn shown() -> clap::Command {
    let whole = RawArgs::command();
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut shown = clap::Command::new("netsensor")
        .version(env!("CARGO_PKG_VERSION"))
        .args(whole.get_arguments().cloned())
        .subcommands(commands);
    if let Some(about) = whole.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(after) = whole.get_after_help() {
        shown = shown.after_help(after.clone());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_each_command_that_people_type_and_for_no_other() {
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
