//! From a TAXII server to the alerts of a running agent, over a stop and restart of the server.

use std::process::Stdio;
use std::time::Duration;

use sensor_tests::servers::{Medallion, stix_indicator};
use sensor_tests::{Agent, Netns, agent_command, skip_unless};
use serde_json::Value;
use tempfile::TempDir;

const REMOTE: &str = "203.0.113.99";
const SOON: Duration = Duration::from_secs(30);

/// The output of `netsensor` with these arguments and the configuration in `home`.
fn output_of(home: &TempDir, words: &[&str]) -> String {
    let config = home.path().join("netsensor.toml");
    let words = [words, &["--config", config.to_str().unwrap()]].concat();
    let output = agent_command(home.path(), &words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Polls until the output of `netsensor` contains `part`.
fn wait_for_output(home: &TempDir, words: &[&str], part: &str) {
    for _attempt in 0..100 {
        if output_of(home, words).contains(part) {
            return;
        }
        sensor_tests::run(std::process::Command::new("sleep").arg("0.3"));
    }
    panic!("no {part:?} in {}", output_of(home, words));
}

fn is_remote(alert: &Value) -> bool {
    alert["RemoteIp"] == REMOTE && alert["Direction"] == "outbound"
}

#[test]
fn an_agent_alerts_on_taxii_indicators_and_continues_without_the_server() {
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
    wait_for_output(&home, &["feeds"], "OK          taxii  taxii2, 0 indicators");
    connect();
    server.add(Medallion::ID, &[stix_indicator(1, REMOTE, 0, false)]);
    let (_, alert) = agent.wait_for_alert(SOON, is_remote);
    assert_eq!((&alert["AlertKind"], &alert["Feed"]), (&"retro".into(), &"taxii".into()));
    connect();
    agent.wait_for_alert(SOON, |alert| is_remote(alert) && alert["AlertKind"] == "new");

    server.stop();
    wait_for_output(&home, &["feeds"], "DEGRADED    taxii  taxii2, 1 indicators");
    assert!(
        output_of(&home, &["feeds"]).contains("no response"),
        "{}",
        output_of(&home, &["feeds"])
    );
    assert!(output_of(&home, &["explain", REMOTE]).contains("\n    would alert\n"));
    server.restart();
    server.add(Medallion::ID, &[stix_indicator(1, REMOTE, 1, true)]);
    wait_for_output(&home, &["explain", REMOTE], ": 0 indicators cover it");
    wait_for_output(&home, &["feeds"], "OK          taxii  taxii2, 0 indicators");
    wait_for_output(&home, &["feeds", "--rejects"], "deleted or revoked");
    peer.kill().unwrap();
    peer.wait().unwrap();
    assert!(agent.stop().status.success());
}
