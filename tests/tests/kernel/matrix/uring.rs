//! Both ends over `io_uring`.

use sensor_tests::{Agent, skip_unless_kernel_has};

use super::case::{Case, SERVER_V4, ready};
use crate::harness::{peer, skipped};

#[test]
fn io_uring_connects_and_accepts_are_recorded() {
    // 0: allowed for all, 1: for some, 2: for none; a kernel without io_uring has no such file.
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let allowed = disabled.is_ok_and(|disabled| disabled.trim() != "2");
    if skipped() || skip_unless_kernel_has(allowed, "io_uring, or forbids it") {
        return;
    }
    let mut case = Case::new();
    let mut server = case.server_netns.command(peer());
    let server = {
        server.args(["uring-serve", &format!("{SERVER_V4}:0")]);
        Agent::spawn(server)
    };
    let port = ready(&server);
    let mut client = case.client_netns.command(peer());
    let words = ["uring-connect", &format!("{SERVER_V4}:{port}"), "1000"];
    let client = {
        client.args(words);
        Agent::spawn(client)
    };
    case.finish(client);
    case.wait_until_closed();
    case.expectations.extend(server.alerts().iter().map(super::expectation::Expectation::of));
    case.check();
}
