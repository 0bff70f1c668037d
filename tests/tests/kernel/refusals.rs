//! Errors when the agent cannot run: one clear message, and the right exit status.

use std::process::{Command, Output};

use sensor_tests::agent_binary;

use crate::harness::{Home, skipped};

fn failure(mut command: Command) -> (i32, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    // The log has more; the message is the line with the program's name as prefix.
    let messages: Vec<&str> = text.lines().filter(|line| line.starts_with("netsensor: ")).collect();
    assert_eq!(messages.len(), 1, "one message: {text}");
    (status.code().unwrap(), messages[0].to_owned())
}

#[test]
fn self_test_detects_its_own_connection() {
    if skipped() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let output = sensor_tests::agent_command(home.path(), &["self-test"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("the path from kernel to alert works"), "{text}");
    assert!(text.contains("probes on: "), "{text}");
}

#[test]
fn an_invalid_bpf_object_is_named_in_the_error() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    // The header of an object for the BPF machine, and nothing else.
    let header = [&b"\x7fELF\x02\x01\x01"[..], &[0; 9], &[1, 0, 247, 0]].concat();
    let other = "is not a BPF object; set capture.object to";
    for (name, content, reason) in [
        ("empty", &b""[..], other),
        ("text", b"hello", other),
        ("elf", b"\x7fELF\x02\x01\x01", other),
        ("bpf", &header, "not a BPF object of netsensor"),
    ] {
        let object = home.path(name);
        std::fs::write(&object, content).unwrap();
        let config = home.path("object.toml");
        std::fs::write(&config, format!("[capture]\nobject = {:?}", object.to_str().unwrap()))
            .unwrap();
        let words = ["run", "--config", config.to_str().unwrap()];
        let (status, message) = failure(sensor_tests::agent_command(&home.path(""), &words));
        assert_eq!(status, 2, "{message}");
        assert!(message.contains(object.to_str().unwrap()), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    let config = home.path("object.toml");
    std::fs::write(&config, "[capture]\nobject = \"/nonexistent/x.o\"").unwrap();
    let words = ["run", "--config", config.to_str().unwrap()];
    let (status, message) = failure(sensor_tests::agent_command(&home.path(""), &words));
    assert_eq!(status, 2);
    assert!(message.contains("capture.object: /nonexistent/x.o: No such file"), "{message}");
}

/// A command that runs the agent as user nobody, with only these capabilities.
fn as_nobody(capabilities: &str, words: &[&str]) -> (Command, tempfile::TempDir) {
    // A copy in a world-readable directory: the build directory may be readable by root only.
    let home = tempfile::tempdir().unwrap();
    let program = home.path().join("netsensor");
    std::fs::copy(agent_binary(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(home.path(), open).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    for set in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
        command.arg(format!("{set}=-all{capabilities}"));
    }
    command.arg(&program).args(words).env_clear().env("HOME", home.path());
    (command, home)
}

#[test]
fn without_privileges_the_error_names_the_missing_capabilities() {
    if skipped() {
        return;
    }
    let (command, _home) = as_nobody("", &["run"]);
    let (status, message) = failure(command);
    assert_eq!(status, 1);
    assert!(message.contains("CAP_BPF") && message.contains("run as root"), "{message}");

    let (command, _home) = as_nobody(",+bpf", &["run"]);
    let (status, message) = failure(command);
    assert_eq!(status, 1);
    assert!(message.contains("CAP_PERFMON"), "{message}");
}

#[test]
fn two_capabilities_suffice_and_udp_needs_a_third() {
    if skipped() {
        return;
    }
    for (capabilities, udp) in [(",+bpf,+perfmon", false), (",+bpf,+perfmon,+net_admin", true)] {
        let (mut command, _home) = as_nobody(capabilities, &["self-test"]);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        assert!(text.contains("the path from kernel to alert works"), "{text}");
        assert!(text.contains(" user nobody "), "{text}");
        assert_eq!(text.contains("cgroup_skb egress"), udp, "{text}");
    }
}

#[test]
fn a_missing_hook_is_reported_with_each_attach_attempt() {
    if skipped() {
        return;
    }
    let home = Home::new(
        "disable = [\"inet_sock_set_state_btf\", \"inet_sock_set_state_raw\", \
         \"inet_sock_set_state_classic\"]",
        "",
    );
    let (status, message) = failure(home.command(&["run"]));
    assert_eq!(status, 1);
    assert!(
        message.contains("attach to inet_sock_set_state: not possible in this kernel"),
        "{message}"
    );
    for hook in ["tp_btf", "raw tracepoint", "tracepoint sock:"] {
        assert!(message.contains(hook), "{hook}: {message}");
    }
}

#[test]
fn without_btf_and_tracefs_the_error_names_both() {
    if skipped() {
        return;
    }
    let home = Home::new("btf = \"/nonexistent/btf\"", "");
    let script = "for f in /sys/kernel/tracing /sys/kernel/debug; do \
                  [ -d $f ] && mount -t tmpfs none $f; done; exec \"$@\"";
    let agent = home.command(&["run"]);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(agent.get_program());
    command.args(agent.get_args()).env("HOME", home.path(""));
    let (status, message) = failure(command);
    assert_eq!(status, 1);
    assert!(message.contains("needs BTF"), "{message}");
    assert!(message.contains("tracepoint sock:inet_sock_set_state"), "{message}");
}

#[test]
fn a_recording_on_a_full_disk_ends_with_the_path_in_the_error() {
    if skipped() {
        return;
    }
    let home = Home::new("", "");
    let mut command = home.command(&["record", "--out", "/dev/full", "--duration", "20s"]);
    // Own traffic: the first recorded line already overflows a full device.
    let traffic = std::thread::spawn(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..60 {
            drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            drop(listener.accept().unwrap());
            sensor_tests::run(Command::new("sleep").arg("0.25"));
        }
    });
    command.env("HOME", home.path(""));
    let (status, message) = failure(command);
    traffic.join().unwrap();
    assert_eq!(status, 1);
    assert!(message.contains("write /dev/full"), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
}
