//! SIGHUP: the configuration is reloaded, and an invalid one changes nothing.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use nix::sys::signal::Signal;
use sensor_tests::{Agent, agent_command, run, wrap_command};
use serde_json::Value;

use crate::harness::{Home, SOON, START, skipped, text};

/// Prefix of loopback addresses that nothing else uses.
const ADDRESS: &str = "127.77.0.";

#[test]
fn a_valid_configuration_is_applied_and_an_invalid_one_refused() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let config = home.path("netsensor.toml");
    let first = std::fs::read_to_string(&config).unwrap();
    let agent = home.run();
    connect(1);

    // An additional feed and sink. The file is in the state directory, because no other directory
    // is writable unless the configuration named it at the start.
    let out = home.path("netsensor/alerts.jsonl");
    let more = format!(
        "{first}[[feed]]\nname = \"more\"\nkind = \"list\"\nurl = \"file:more.txt\"\n\
         allow_private = true\n[[sink]]\nname = \"out\"\nkind = \"stdout\"\n\
         [[sink]]\nname = \"kept\"\nkind = \"file\"\npath = {out:?}\n"
    );
    std::fs::write(home.path("more.txt"), format!("{ADDRESS}0/24\n")).unwrap();
    std::fs::write(&config, &more).unwrap();
    reload(&agent, "reloaded");
    connect(2);
    agent.wait_for_alert(SOON, |alert| alert["RemoteIp"] == format!("{ADDRESS}2"));
    // A retro alert: the connection was observed before the indicator was loaded.
    let (_, retro) = agent.wait_for_alert(SOON, |alert| alert["RemoteIp"] == format!("{ADDRESS}1"));
    assert_eq!((text(&retro, "AlertKind"), text(&retro, "Feed")), ("retro", "more"));
    assert_eq!(status(&home)["LastReload"]["Error"], "");

    // An invalid configuration.
    std::fs::write(&config, more.replace("kind = \"file\"", "kind = \"fiel\"")).unwrap();
    reload(&agent, "new configuration refused; the old one stays");
    connect(3);
    agent.wait_for_alert(SOON, |alert| alert["RemoteIp"] == format!("{ADDRESS}3"));
    let report = wait_for(&home, "DEGRADED");
    let error = text(&report["LastReload"], "Error");
    assert!(error.contains("netsensor.toml:") && error.contains("fiel"), "{error}");

    // A configuration with an allow list and without the file sink, which also needs a restart.
    let allowed = more.replace(
        "[capture]",
        "[allow]\nnetworks = [\"127.77.0.4\"]\n[rows]\nenabled = false\n[capture]",
    );
    std::fs::write(&config, allowed).unwrap();
    reload(&agent, "reloaded");
    let report = wait_for(&home, "OK");
    let waits = serde_json::json!(["rows.enabled"]);
    assert_eq!(report["LastReload"]["WaitsForRestart"], waits, "{report}");
    connect(4);
    connect(5);
    agent.wait_for_alert(SOON, |alert| alert["RemoteIp"] == format!("{ADDRESS}5"));
    assert!(status(&home)["Counters"]["hits_suppressed_allow_list"].as_u64() > Some(0));
    let alerts = agent.alerts();
    assert!(!alerts.iter().any(|alert| alert["RemoteIp"] == format!("{ADDRESS}4")), "{alerts:?}");

    // The first sink with rows is added: host rows begin after a restart, however often the
    // configuration is reloaded.
    let rows = more.replace("kind = \"file\"", "kind = \"file\"\ntakes = [\"alerts\", \"rows\"]");
    std::fs::write(&config, rows).unwrap();
    for _round in 0..2 {
        let before = status(&home)["LastReload"]["Time"].clone();
        agent.signal(Signal::SIGHUP);
        let waits = (0..100).find_map(|_attempt| {
            run(Command::new("sleep").arg("0.1"));
            let reload = status(&home)["LastReload"].clone();
            (reload["Time"] != before).then(|| reload["WaitsForRestart"].clone())
        });
        assert_eq!(waits, Some(serde_json::json!(["VMComputer rows"])));
    }
    assert!(agent.stop().status.success());
    let kept = std::fs::read_to_string(out).unwrap();
    for last in [1, 2, 3, 5] {
        let lines = kept.lines().filter(|line| line.contains(&format!("{ADDRESS}{last}\"")));
        assert!(lines.count() > 0, "{last}: {kept}");
    }
}

/// Without a configuration file there is nothing to reload, so SIGHUP keeps its default action.
#[test]
fn without_a_configuration_file_sighup_ends_the_agent() {
    if skipped() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The test runner may ignore SIGHUP (nohup), and a child inherits that.
    let mut env = Command::new("env");
    env.arg("--default-signal=HUP");
    let agent = Agent::spawn(wrap_command(env, &agent_command(folder.path(), &["run"])));
    agent.wait_for_log(START, "state: ");
    agent.signal(Signal::SIGHUP);
    let ended = agent.wait(SOON);
    let signal = std::os::unix::process::ExitStatusExt::signal(&ended.status);
    assert_eq!(signal, Some(Signal::SIGHUP as i32), "{ended:?}");
}

fn reload(agent: &Agent, message: &str) {
    agent.signal(Signal::SIGHUP);
    agent.wait_for_log(SOON, message);
}

/// Makes a connection to the address that ends in `last`.
fn connect(last: u8) {
    let listener = TcpListener::bind(format!("{ADDRESS}{last}:0")).unwrap();
    drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
}

fn status(home: &Home) -> Value {
    let output = home.command(&["status", "--json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// Polls the status until the agent has this state.
fn wait_for(home: &Home, state: &str) -> Value {
    for _attempt in 0..100 {
        // With a broken configuration file, the command does not know the socket's path.
        let socket = home.path("netsensor/netsensor.sock");
        let mut command = home.command(&["status", "--json"]);
        if state == "DEGRADED" {
            command = agent_command(
                home.path("").as_path(),
                &["status", "--json", "--socket", socket.to_str().unwrap()],
            );
        }
        let output = command.output().unwrap();
        if let Ok(report) = serde_json::from_slice::<Value>(&output.stdout)
            && report["State"] == state
        {
            return report;
        }
        run(Command::new("sleep").arg("0.2"));
    }
    panic!("not {state} within 20 s");
}
