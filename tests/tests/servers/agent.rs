//! From a TAXII server to the alerts of a running agent, and through the server's end and return.

use std::process::Stdio;
use std::time::Duration;

use sensor_tests::servers::{Medallion, stix_indicator};
use sensor_tests::{Agent, Netns, agent_command, skip_unless};
use serde_json::Value;
use tempfile::TempDir;

const REMOTE: &str = "203.0.113.99";
const SOON: Duration = Duration::from_secs(30);

/// What `netsensor` says with these words and the configuration in `home`.
fn said(home: &TempDir, words: &[&str]) -> String {
    let config = home.path().join("netsensor.toml");
    let words = [words, &["--config", config.to_str().unwrap()]].concat();
    let output = agent_command(home.path(), &words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Looks again and again until what `netsensor` says has `part` in it.
fn wait_until_said(home: &TempDir, words: &[&str], part: &str) {
    for _look in 0..100 {
        if said(home, words).contains(part) {
            return;
        }
        sensor_tests::run(std::process::Command::new("sleep").arg("0.3"));
    }
    panic!("no {part:?} in {}", said(home, words));
}

fn of_remote(alert: &Value) -> bool {
    alert["RemoteIp"] == REMOTE && alert["Direction"] == "outbound"
}

#[test]
fn an_agent_alerts_by_what_a_taxii_server_says_and_goes_on_without_it() {
    let is_root = nix::unistd::geteuid().is_root();
    if skip_unless(is_root, "loading BPF programs needs root") {
        return;
    }
    let server = Medallion::start();
    if skip_unless(server.is_some(), "medallion is not installed; run cargo xtask test") {
        return;
    }
    let mut server = server.unwrap();
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "[rows]\nenabled = false\n[[feed]]\nname = \"taxii\"\nkind = \"taxii2\"\nurl = {:?}\n\
         interval = \"1s\"\nuser = {:?}\npassword = {{ file = {:?} }}\n",
        server.url("taxii2/"),
        Medallion::USER,
        server.password_file(),
    );
    std::fs::write(home.path().join("netsensor.toml"), config).unwrap();
    let netns = Netns::new(&[REMOTE]);
    let mut peer = netns.command(env!("CARGO_BIN_EXE_peer"));
    let mut peer =
        peer.args(["serve", &format!("{REMOTE}:8080")]).stdout(Stdio::null()).spawn().unwrap();
    let connect = || {
        let mut curl = netns.command("curl");
        curl.args(["--silent", "--max-time", "1", "--retry", "3", "--retry-connrefused"]);
        curl.arg(format!("http://{REMOTE}:8080/")).stdout(Stdio::null()).status().unwrap();
    };

    let path = home.path().join("netsensor.toml");
    let words = ["run", "--config", path.to_str().unwrap()];
    let agent = Agent::spawn(agent_command(home.path(), &words));
    agent.wait_for_log(Duration::from_mins(1), "state: ");
    wait_until_said(&home, &["feeds"], "OK          taxii  taxii2, 0 indicators");
    connect();
    server.add(Medallion::ID, &[stix_indicator(1, REMOTE, 0, false)]);
    let (_, alert) = agent.wait_for_alert(SOON, of_remote);
    assert_eq!((&alert["AlertKind"], &alert["Feed"]), (&"retro".into(), &"taxii".into()));
    connect();
    agent.wait_for_alert(SOON, |alert| of_remote(alert) && alert["AlertKind"] == "new");

    server.stop();
    wait_until_said(&home, &["feeds"], "DEGRADED    taxii  taxii2, 1 indicators");
    assert!(said(&home, &["feeds"]).contains("no answer"), "{}", said(&home, &["feeds"]));
    assert!(said(&home, &["explain", REMOTE]).contains("\n    would alert\n"));
    server.restart();
    server.add(Medallion::ID, &[stix_indicator(1, REMOTE, 1, true)]);
    wait_until_said(&home, &["explain", REMOTE], ": 0 indicators cover it");
    wait_until_said(&home, &["feeds"], "OK          taxii  taxii2, 0 indicators");
    wait_until_said(&home, &["feeds", "--rejects"], "deleted or revoked");
    peer.kill().unwrap();
    peer.wait().unwrap();
    assert!(agent.stop().status.success());
}
