//! MPTCP: a connection of one subflow is one connection, and its own socket (which fires the same
//! tracepoint) is none. Its bytes are its subflow's: what MPTCP sends again (a large answer does not
//! arrive in one piece) is new to TCP.

use sensor_tests::skip_unless_kernel_has;

use super::case::{CALLED_V4, CALLED_V6, Case};
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
    converse(connection, number, subflow=True)
";

#[test]
fn an_mptcp_connection_is_one() {
    let enabled = std::fs::read_to_string("/proc/sys/net/mptcp/enabled");
    let enabled = enabled.is_ok_and(|enabled| enabled.trim() == "1");
    if skipped() || skip_unless_kernel_has(enabled, "MPTCP, or has it off") {
        return;
    }
    let mut case = Case::new();
    case.dialogue(MPTCP_SERVER, CALLED_V4, MPTCP_CLIENT, CALLED_V4);
    case.dialogue(MPTCP_SERVER, CALLED_V6, MPTCP_CLIENT, CALLED_V6);
    let (spoken, _) = case.kernel_counts("MPTcpExt: ", "MPCapableSYNACKRX");
    assert_eq!(spoken, 2000);
    // Its listener answers clients that do not speak it, too.
    case.dialogue(MPTCP_SERVER, CALLED_V4, BLOCKING, CALLED_V4);
    case.check();
}
