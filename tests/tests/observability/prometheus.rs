//! Metric names in rules and dashboard, and a real Prometheus that evaluates them.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{
    Home, free_port, hit, page_at, page_of, skipped, skipped_without, tool, wait_for,
};

const RULES: &str = include_str!("../../../packaging/prometheus/netsensor.rules.yml");
const CASES: &str = include_str!("../../../packaging/prometheus/netsensor.rules.test.yml");
const DASHBOARD: &str = include_str!("../../../packaging/grafana/netsensor.json");

#[test]
fn every_rule_has_a_firing_and_a_non_firing_case() {
    if skipped_without("promtool") {
        return;
    }
    let rules: Vec<&str> =
        RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(rules.len() >= 15, "{rules:?}");
    for rule in &rules {
        for case in [format!("\"{rule} fires\""), format!("\"{rule} does not fire\"")] {
            assert!(CASES.contains(&case), "no case {case}");
        }
    }
    let file = "packaging/prometheus/netsensor.rules.test.yml";
    let (passed, output) = tool("promtool", &["test", "rules", file], "");
    assert!(passed, "{output}");
}

/// The metric names in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let is_metric = |word: &&str| word.starts_with("netsensor_") || word.starts_with("process_");
    words.filter(is_metric).collect()
}

#[test]
fn every_metric_of_rules_and_dashboard_is_exported_by_a_running_agent() {
    if skipped() {
        return;
    }
    // A sink that accepts nothing, so that an alert stays pending.
    let sink = format!(
        "[[sink]]\nname = \"down\"\nkind = \"http\"\nurl = \"http://127.0.0.1:{}/\"\n",
        free_port()
    );
    let home = Home::new("unix:HOME/metrics.sock", &sink);
    let socket = home.path("metrics.sock");
    let agent = home.run();
    hit();
    agent.signal(Signal::SIGHUP);
    let mut wanted = named(RULES);
    wanted.extend(named(DASHBOARD));
    assert!(wanted.len() > 30, "{wanted:?}");
    let missing = |page: &str| -> Vec<&str> {
        let is_exported = |name: &str| {
            let mut samples = page.lines().filter_map(|line| line.strip_prefix(name));
            samples.any(|rest| rest.starts_with(['{', ' ']))
        };
        wanted.iter().copied().filter(|name| !is_exported(name)).collect()
    };
    let mut last = Vec::new();
    for _attempt in 0..100 {
        last = missing(&page_of(&socket)).into_iter().map(str::to_owned).collect();
        if last.is_empty() {
            break;
        }
        sensor_tests::run(Command::new("sleep").arg("0.2"));
    }
    assert_eq!(last, [""; 0], "used, but not exported by a running agent");
    assert!(agent.stop().status.success());
}

#[test]
fn the_dashboard_is_valid() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "panels share an id");
    let mut queries = 0;
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["title"].as_str().unwrap().is_empty(), "{panel}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
            assert!(!named(target["expr"].as_str().unwrap()).is_empty(), "{panel}");
            queries += 1;
        }
    }
    assert!(queries > 20, "{queries}");
}

/// The test's own Prometheus; stopped when dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_real_prometheus_scrapes_the_agent_and_evaluates_rules_and_dashboard() {
    if skipped() || skipped_without("prometheus") || skipped_without("curl") {
        return;
    }
    let port = free_port();
    let home = Home::new(&format!("127.0.0.1:{port}"), "");
    let agent = home.run();
    hit();
    let own = free_port();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/prometheus/netsensor.rules.yml");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\n\
         scrape_configs:\n  - job_name: netsensor\n    static_configs:\n      \
         - targets: ['127.0.0.1:{port}']\n"
    );
    let file = home.path("prometheus.yml");
    std::fs::write(&file, config).unwrap();
    let _server = Server(
        Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{own}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let query_api = |path: &str, query: &str| -> Option<Value> {
        let url = format!("http://127.0.0.1:{own}/api/v1/{path}");
        let query = format!("query={query}");
        let arguments = ["-s", "-G", "--max-time", "5", &url, "--data-urlencode", &query];
        let output = Command::new("curl").args(arguments).output().unwrap();
        serde_json::from_slice(&output.stdout).ok()
    };
    let count = |query: &str| {
        let response = query_api("query", query)?;
        assert_eq!(response["status"], "success", "{query}: {response}");
        Some(response["data"]["result"].as_array()?.len())
    };
    wait_for("it is scraped", || (count("netsensor_alerts_raised_total > 0")? == 1).then_some(()));
    assert_eq!(count("up{job=\"netsensor\"} == 1"), Some(1));
    // Prometheus requests OpenMetrics, and checks its end marker.
    let (_, page) = page_at(port, "text/plain");
    assert!(page.contains("netsensor_metrics_scrapes_served_total "), "{page}");
    let response = wait_for("rules are evaluated", || {
        let response = query_api("rules", "")?;
        let rules = response["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] == "ok").then_some(rules)
    });
    assert!(response.len() >= 15, "{response:?}");
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let query = query.replace("$__rate_interval", "1m").replace("$__range", "1h");
            let query = query.replace("$job", ".*").replace("$instance", ".*");
            assert!(count(&query).is_some(), "{query}");
        }
    }
    assert!(agent.stop().status.success());
}
