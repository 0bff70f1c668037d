//! Both ends over `io_uring`.

use sensor_tests::{Agent, skip_unless_kernel_has};

use super::case::{CALLED_V4, Case, ready};
use crate::harness::{peer, skipped};

#[test]
fn connected_and_accepted_over_io_uring() {
    // 0 is for everybody, 1 for some, 2 for nobody; a kernel without io_uring has no such file.
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let allowed = disabled.is_ok_and(|disabled| disabled.trim() != "2");
    if skipped() || skip_unless_kernel_has(allowed, "io_uring, or forbids it") {
        return;
    }
    let mut case = Case::new();
    let mut server = case.called.command(peer());
    let server = {
        server.args(["uring-serve", &format!("{CALLED_V4}:0")]);
        Agent::spawn(server)
    };
    let port = ready(&server);
    let mut client = case.caller.command(peer());
    let words = ["uring-connect", &format!("{CALLED_V4}:{port}"), "1000"];
    let client = {
        client.args(words);
        Agent::spawn(client)
    };
    case.finish(client);
    case.settle();
    case.claims.extend(server.alerts().iter().map(super::claim::Claim::of));
    case.check();
}
