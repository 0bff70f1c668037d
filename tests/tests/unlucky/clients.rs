//! Clients of the control socket that never send a request.

use std::os::unix::net::UnixStream;
use std::path::Path;

use sensor_tests::{Agent, agent_command};

use crate::harness::{START, skipped};

const SILENT_CLIENTS: usize = 2000;

fn configured(folder: &Path, more: &str) -> String {
    let path = folder.join("netsensor.toml");
    let state = folder.join("state");
    let text = format!("[agent]\nstate_dir = \"{}\"\n{more}", state.display());
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn silent_clients_keep_no_request_away() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), "");
    let agent = Agent::spawn(agent_command(folder.path(), &["run", "--config", &config]));
    agent.wait_for_log(START, "state: ");
    let socket = folder.path().join("state/netsensor.sock");
    raise_descriptors();
    let silent: Vec<UnixStream> =
        (0..SILENT_CLIENTS).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let status = agent_command(folder.path(), &["status", "--json", "--config", &config]);
    let output = { status }.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let evicted = find(&report, "control_clients_evicted").unwrap();
    assert!(evicted >= SILENT_CLIENTS as u64 - 64, "{evicted}");
    drop(silent);
    assert!(agent.stop().status.success());
}

/// The test has a descriptor for each client.
fn raise_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// The number with this name, anywhere in `value`.
fn find(value: &serde_json::Value, name: &str) -> Option<u64> {
    match value {
        serde_json::Value::Object(members) => {
            let own = members.get(name).and_then(serde_json::Value::as_u64);
            own.or_else(|| members.values().find_map(|it| find(it, name)))
        }
        serde_json::Value::Array(items) => items.iter().find_map(|it| find(it, name)),
        _ => None,
    }
}
