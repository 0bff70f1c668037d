//! Processes that enter a container late: a runtime moves them after they have started.

use nix::sys::signal::Signal;

use super::case::{CALLED_V4, Case, python, ready};
use super::outbound::SERVER;
use crate::harness::{skipped, text};
use crate::process::Container;

/// Connects when it starts, if told to, and when it has been moved.
const MOVED: &str = "
if COUNT == 2:
    converse(socket.create_connection((ADDRESS, PORT)), 0)
ready(0)
signal.sigwait({signal.SIGTERM})
converse(socket.create_connection((ADDRESS, PORT)), 1)
";

/// `times` is how often it connects; gives the containers of its connections, oldest first.
fn containers_of_moved(container: &Container, times: &str) -> Vec<String> {
    let mut case = Case::new();
    let server = python(&case.called, SERVER, &[CALLED_V4]);
    let port = ready(&server);
    let program = python(&case.caller, MOVED, &[CALLED_V4, &port, times]);
    ready(&program);
    container.take(program.pid());
    program.signal(Signal::SIGTERM);
    case.finish(program);
    case.stop(server);
    let caller = case.caller.number();
    let (lines, _) = case.check();
    let opened = lines
        .iter()
        .filter(|line| line["NetworkNamespace"] == caller && text(line, "Event") == "opened");
    opened.map(|line| text(line, "ContainerId").to_owned()).collect()
}

#[test]
fn moved_before_it_connects() {
    if skipped() {
        return;
    }
    let container = Container::new('c');
    assert_eq!(containers_of_moved(&container, "1"), [container.id.as_str()]);
}

#[test]
fn moved_between_two_connections() {
    if skipped() {
        return;
    }
    let container = Container::new('d');
    assert_eq!(containers_of_moved(&container, "2"), ["", container.id.as_str()]);
}
