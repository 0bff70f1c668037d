//! Processes that enter a container late: a container runtime moves them after they start.

use nix::sys::signal::Signal;

use super::case::{Case, SERVER_V4, python, ready};
use super::outbound::SERVER;
use crate::harness::{skipped, text};
use crate::process::Container;

/// Connects once at its start if COUNT is 2, and once after it has been moved.
const MOVED: &str = "
if COUNT == 2:
    exchange(socket.create_connection((ADDRESS, PORT)), 0)
ready(0)
signal.sigwait({signal.SIGTERM})
exchange(socket.create_connection((ADDRESS, PORT)), 1)
";

/// Connects `times` times; returns the containers of the connections, oldest first.
fn containers_of_moved(container: &Container, times: &str) -> Vec<String> {
    let mut case = Case::new();
    let server = python(&case.server_netns, SERVER, &[SERVER_V4]);
    let port = ready(&server);
    let program = python(&case.client_netns, MOVED, &[SERVER_V4, &port, times]);
    ready(&program);
    container.take(program.pid());
    program.signal(Signal::SIGTERM);
    case.finish(program);
    case.stop(server);
    let client_netns = case.client_netns.inode();
    let (lines, _) = case.check();
    let opened = lines
        .iter()
        .filter(|line| line["NetworkNamespace"] == client_netns && text(line, "Event") == "opened");
    opened.map(|line| text(line, "ContainerId").to_owned()).collect()
}

#[test]
fn a_process_moved_before_it_connects_has_the_container() {
    if skipped() {
        return;
    }
    let container = Container::new('c');
    assert_eq!(containers_of_moved(&container, "1"), [container.id.as_str()]);
}

#[test]
fn a_process_moved_between_two_connections_has_the_container_for_the_second() {
    if skipped() {
        return;
    }
    let container = Container::new('d');
    assert_eq!(containers_of_moved(&container, "2"), ["", container.id.as_str()]);
}
