//! Fallbacks for refused probes: each one alone observes a connection.

use std::process::Command;

use sensor_tests::{Agent, Netns, run};
use serde_json::Value;

use crate::harness::{CLIENT_V4, Home, SOON, START, Server, V4, peer, skipped, text};

/// Connects from one address of the list to another; returns the alert of each end.
fn both_ends_alert(capture: &str) -> (Agent, Value, Value, Server) {
    let home = Home::new(capture, "");
    let agent = home.run();
    alerts_of(agent)
}

fn alerts_of(agent: Agent) -> (Agent, Value, Value, Server) {
    let netns = Netns::new(&[V4, CLIENT_V4]);
    let (server, port) = Server::peer(&netns, V4);
    let client = "
import socket, sys
connection = socket.create_connection((sys.argv[2], int(sys.argv[3])), 5, (sys.argv[1], 0))
connection.sendall(b'hello')
connection.close()
";
    let words = ["-c", client, CLIENT_V4, V4, &port.to_string()];
    run(netns.command("/usr/bin/python3").args(words));
    let of = |direction: &'static str| move |alert: &Value| text(alert, "Direction") == direction;
    let (_, outbound) = agent.wait_for_alert(SOON, of("outbound"));
    let (_, inbound) = agent.wait_for_alert(SOON, of("inbound"));
    assert_eq!(text(&outbound, "RemoteIp"), V4);
    assert_eq!(text(&inbound, "RemoteIp"), CLIENT_V4);
    (agent, outbound, inbound, server)
}

fn log(agent: Agent) -> String {
    let ended = agent.stop();
    assert!(ended.status.success(), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.iter().map(|line| line.text.as_str()).collect();
    lines.join("\n")
}

#[test]
fn the_raw_tracepoint_replaces_tp_btf() {
    if skipped() {
        return;
    }
    let (agent, outbound, inbound, server) =
        both_ends_alert("disable = [\"inet_sock_set_state_btf\"]");
    assert!(text(&outbound, "ProcessPath").contains("python3"), "{outbound}");
    assert_eq!(inbound["ProcessId"], server.0.id());
    let log = log(agent);
    assert!(log.contains("probes on: raw tracepoint inet_sock_set_state"), "{log}");
    assert!(log.contains("tp_btf inet_sock_set_state (disabled by the configuration)"), "{log}");
}

#[test]
fn without_btf_the_classic_tracepoint_observes_connections() {
    if skipped() {
        return;
    }
    let home = Home::new("btf = \"/nonexistent/btf\"", "");
    // The classic tracepoint needs tracefs, which is not mounted on every host.
    let command = home.command(&["run"]);
    let mut mounted = Command::new("unshare");
    let script = "mount -t tracefs none /sys/kernel/tracing && exec \"$@\"";
    mounted.args(["--mount", "sh", "-c", script, "sh"]).arg(command.get_program());
    mounted.args(command.get_args()).env("HOME", home.path(""));
    let agent = Agent::spawn(mounted);
    agent.wait_for_log(START, "state: ");
    let (agent, outbound, inbound, server) = alerts_of(agent);
    assert_eq!(text(&outbound, "UserName"), "root");
    assert!(!text(&outbound, "ProcessName").is_empty(), "{outbound}");
    assert_eq!(inbound["ProcessId"], server.0.id());
    let log = log(agent);
    assert!(log.contains("probes on: tracepoint sock:inet_sock_set_state"), "{log}");
    assert!(log.contains("raw tracepoint sched_process_exec (needs BTF)"), "{log}");
    assert!(log.contains("kernel type information /nonexistent/btf: "), "{log}");
}

#[test]
fn the_first_read_of_data_identifies_the_owner() {
    if skipped() {
        return;
    }
    let disable = "disable = [\"socket_read\", \"socket_write\", \"sock_recv_length\", \
                   \"sock_send_length\", \
                   \"inet_csk_accept_fexit2\", \"inet_csk_accept_fexit4\", \
                   \"inet_csk_accept_kretprobe\"]";
    let (agent, _, inbound, server) = both_ends_alert(disable);
    assert_eq!(inbound["ProcessId"], server.0.id());
    let log = log(agent);
    assert!(log.contains("raw tracepoint tcp_rcv_space_adjust"), "{log}");
}

#[test]
fn without_accept_probes_the_closing_process_is_the_owner() {
    if skipped() {
        return;
    }
    let disable = "disable = [\"socket_read\", \"socket_write\", \"sock_recv_length\", \
                   \"sock_send_length\", \
                   \"inet_csk_accept_fexit2\", \"inet_csk_accept_fexit4\", \
                   \"inet_csk_accept_kretprobe\", \"tcp_rcv_space_adjust\"]";
    let (agent, _, inbound, server) = both_ends_alert(disable);
    assert_eq!(inbound["ProcessId"], server.0.id());
    assert!(agent.stop().status.success());
}

#[test]
fn without_process_probes_proc_is_read() {
    if skipped() {
        return;
    }
    let disable = "disable = [\"sched_process_exec\", \"sched_process_fork\"]";
    let netns = Netns::new(&[V4]);
    let home = Home::new(disable, "");
    let agent = home.run();
    // The client waits for a response that never comes, so it still exists when /proc is read.
    let (_server, port) = Server::peer(&netns, V4);
    let client = "
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
connection.settimeout(1)
try:
    connection.recv(1)
except TimeoutError:
    pass
";
    let words = ["-c", client, V4, &port.to_string()];
    let mut child = netns.command("/usr/bin/python3").args(words).spawn().unwrap();
    let (_, alert) = agent.wait_for_alert(SOON, |alert| text(alert, "Direction") == "outbound");
    assert_eq!(alert["ProcessId"], child.id());
    assert!(text(&alert, "CommandLine").starts_with("/usr/bin/python3 -c"), "{alert}");
    child.wait().unwrap();
    assert!(agent.stop().status.success());
    run(netns.command(peer()).args(["try", &format!("{V4}:{port}")]));
}
