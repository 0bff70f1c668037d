//! Links that another user planted, and pipes in the position of files.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Output;

use nix::sys::stat::Mode;
use sensor_tests::{Agent, agent_command};

use crate::harness::{START, skipped};

/// `nobody`, who owns the folder of the feed.
const OTHER_USER: u32 = 65534;
/// First line of a file that only root may read.
const SECRET_LINE: &str = "root:$y$j9T$example$hash:19000:0:99999:7:::";

fn checked(folder: &Path, config: &Path) -> Output {
    // A check that waits would never end.
    let mut command = std::process::Command::new("timeout");
    command.arg("10").arg(sensor_tests::agent_binary()).arg("check-config").arg(config);
    command.env_clear().env("HOME", folder).env("PATH", "/usr/bin:/bin").output().unwrap()
}

#[test]
fn a_planted_link_reads_no_file_of_root() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, format!("{SECRET_LINE}\n")).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).unwrap();
    chown(&shared, Some(OTHER_USER), None).unwrap();
    symlink(&secret, shared.join("list.txt")).unwrap();
    symlink(folder.path().join("made"), shared.join("alerts.jsonl")).unwrap();
    let config = folder.path().join("netsensor.toml");
    let text = format!(
        "[agent]\nstate_dir = \"{root}/state\"\n[health]\ncanary_interval = \"1s\"\n\
         [[feed]]\nname = \"planted\"\nkind = \"list\"\nurl = \"file:shared/list.txt\"\n\
         [[sink]]\nname = \"planted\"\nkind = \"file\"\npath = \"{root}/shared/alerts.jsonl\"\n\
         takes = [\"health\"]\n[[sink]]\nname = \"out\"\nkind = \"stdout\"\ntakes = [\"health\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let agent = Agent::spawn(agent_command(folder.path(), &["run", "--config", config]));
    agent.wait_for_log(START, "state: ");
    agent.wait_for_log(START, "is a link, in a directory that others can write");
    let status = agent_command(folder.path(), &["status", "--config", config]).output().unwrap();
    let exit = agent.stop();
    let shown = format!("{}{exit:?}", String::from_utf8_lossy(&status.stdout));
    assert!(shown.contains("is a link, in a directory"), "{shown}");
    assert!(!shown.contains("$y$j9T"), "{shown}");
    assert!(!folder.path().join("made").exists(), "the link of the sink was followed");
}

#[test]
fn a_pipe_in_the_position_of_a_file_is_refused_at_once() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().display();
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let config = folder.path().join("netsensor.toml");
    let is = "is not a regular file (but a pipe, device, socket or directory); use one";
    for (text, expected) in [
        (format!("[allow]\nfiles = [\"{root}/pipe\"]\n"), is),
        ("[allow]\nfiles = [\"/dev/zero\"]\n".to_owned(), is),
        (format!("[capture]\nobject = \"{root}/pipe\"\n"), "is not a file"),
    ] {
        let text = format!("[agent]\nstate_dir = \"{root}/state\"\n{text}");
        std::fs::write(&config, &text).unwrap();
        let output = checked(folder.path(), &config);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}{error}");
        assert!(error.contains(expected), "{text}{error}");
    }
    // The configuration itself.
    let output = checked(folder.path(), &pipe);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(is), "{error}");
    assert_eq!(output.status.code(), Some(2), "{error}");
}
