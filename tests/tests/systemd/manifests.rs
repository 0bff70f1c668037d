//! The Kubernetes manifest, compared with the systemd unit and the agent's needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use sensor_tests::{python_with, run, skip_unless};
use serde_json::{Value, json};

const UNIT: &str = include_str!("../../../packaging/systemd/netsensor.service");
/// Prints the documents of a file as JSON, each validated with the published schemas.
const VALIDATE: &str = "import json, sys, yaml, kubernetes_validate
documents = list(yaml.safe_load_all(open(sys.argv[1])))
for document in documents:
    kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
print(json.dumps(documents))";

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

/// The capabilities that the unit grants, without `CAP_`.
fn granted() -> Vec<String> {
    let line = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let names = line.unwrap().split(' ').map(|name| name.strip_prefix("CAP_").unwrap().to_owned());
    names.collect()
}

#[test]
fn the_unit_bounds_its_granted_capabilities() {
    let granted = UNIT.lines().find_map(|line| line.strip_prefix("AmbientCapabilities="));
    let bound = UNIT.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    assert_eq!(granted, bound);
    // @privileged has bpf(2), and later lines win.
    let calls: Vec<&str> =
        UNIT.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    assert!(calls.last().unwrap().starts_with("bpf perf_event_open"), "{calls:?}");
}

#[test]
fn the_daemonset_has_the_units_capabilities_and_the_nodes_namespaces() {
    let python = python_with("yaml, kubernetes_validate");
    if skip_unless(
        python.is_some(),
        "kubernetes-validate is not installed; cargo xtask test does it",
    ) {
        return;
    }
    let mut read = Command::new(python.unwrap());
    let read = run(read.args(["-c", VALIDATE]).arg(packaging("kubernetes/daemonset.yaml")));
    let documents: Vec<Value> = serde_json::from_slice(&read.stdout).unwrap();
    let set = documents.iter().find(|it| it["kind"] == "DaemonSet").unwrap();
    let pod = &set["spec"]["template"]["spec"];
    assert_eq!((&pod["hostNetwork"], &pod["hostPID"]), (&json!(true), &json!(true)));
    let container = &pod["containers"][0];
    let security = &container["securityContext"];
    assert_eq!(security["privileged"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["capabilities"]["drop"], json!(["ALL"]));
    let mut wanted = granted();
    // Pods have their own network namespaces.
    wanted.push("SYS_ADMIN".to_owned());
    assert_eq!(security["capabilities"]["add"], json!(wanted));

    let mounts = container["volumeMounts"].as_array().unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    assert_eq!(mounts.len(), volumes.len());
    for (path, read_only) in [
        ("/var/lib/netsensor", false),
        ("/tmp", false),
        ("/etc/netsensor", true),
        ("/etc/netsensor-secrets", true),
        ("/sys/fs/cgroup", true),
        ("/sys/kernel/tracing", true),
    ] {
        let mount = mounts.iter().find(|mount| mount["mountPath"] == path).expect(path);
        assert_eq!(mount["readOnly"].as_bool().unwrap_or_default(), read_only, "{path}");
        assert!(volumes.iter().any(|volume| volume["name"] == mount["name"]), "{path}");
    }

    let maps = documents.iter().find(|it| it["kind"] == "ConfigMap").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("netsensor.toml");
    std::fs::write(&config, maps["data"]["netsensor.toml"].as_str().unwrap()).unwrap();
    run(sensor_tests::agent_command(folder.path(), &["check-config"]).arg(&config));
}

#[test]
fn the_shipped_configurations_are_valid() {
    let home = tempfile::tempdir().unwrap();
    for name in ["packaging/netsensor.toml", "examples/netsensor.toml"] {
        let text = std::fs::read_to_string(packaging("..").join(name)).unwrap();
        let config = home.path().join("netsensor.toml");
        std::fs::write(&config, text).unwrap();
        run(sensor_tests::agent_command(home.path(), &["check-config"]).arg(&config));
    }
}
