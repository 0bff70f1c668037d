//! MPTCP: a connection with one subflow is one connection; the MPTCP socket itself, which fires the
//! same tracepoint, is not recorded. The byte counts are the subflow's: data that MPTCP retransmits
//! (a large response does not arrive in one piece) is new data to TCP.

use sensor_tests::skip_unless_kernel_has;

use super::case::{Case, SERVER_V4, SERVER_V6};
use super::outbound::BLOCKING;
use crate::harness::skipped;

const MPTCP_SERVER: &str = "
listener = listen(ADDRESS, 0, protocol=262)
ready(listener.getsockname()[1])
run(lambda: accept_all(listener, listener=os.getpid(), subflow=True))
";

const MPTCP_CLIENT: &str = "
for number in range(COUNT):
    connection = socket.socket(family_of(ADDRESS), socket.SOCK_STREAM, 262)
    connection.connect((ADDRESS, PORT))
    exchange(connection, number, subflow=True)
";

#[test]
fn an_mptcp_connection_is_recorded_once() {
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled");
    let enabled = enabled.is_ok_and(|enabled| enabled.trim() == "1");
    if skipped() || skip_unless_kernel_has(enabled, "MPTCP, or has it off") {
        return;
    }
    let mut case = Case::new();
    case.exchanges(MPTCP_SERVER, SERVER_V4, MPTCP_CLIENT, SERVER_V4);
    case.exchanges(MPTCP_SERVER, SERVER_V6, MPTCP_CLIENT, SERVER_V6);
    let (count, _) = case.kernel_counts("MPTcpExt: ", "MPCapableSYNACKRX");
    assert_eq!(count, 2000);
    // The listener accepts clients without MPTCP too.
    case.exchanges(MPTCP_SERVER, SERVER_V4, BLOCKING, SERVER_V4);
    case.check();
}
