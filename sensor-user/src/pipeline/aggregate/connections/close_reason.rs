//! How a connection ended: by whom.

use super::super::change::ClosedBy;

/// Who ended a connection that went from `old_state` to CLOSE with `error`: the state tells whose
/// FIN came first, the error what came instead of one.
pub(super) const fn closed_by(old_state: u8, error: u32) -> ClosedBy {
    match (old_state, error) {
        (_, ETIMEDOUT) => ClosedBy::Timeout,
        // Who waits in vain leaves with the last "unreachable" that came meanwhile, if one did
        // (`tcp_write_err`): by itself it ends no connection, only an attempt.
        (state, EHOSTUNREACH | ENETUNREACH) if was_established(state) => ClosedBy::Timeout,
        (TCP_CLOSE_WAIT | TCP_LAST_ACK, _) | (_, ECONNRESET | EPIPE | ECONNREFUSED) => {
            ClosedBy::Remote
        }
        (_, 0) => ClosedBy::Local,
        _ => ClosedBy::Unknown,
    }
}

/// Whether the handshake was complete in the state before CLOSE. (With Fast Open a FIN may be sent
/// before that, and the connection counts as established then: data has passed.)
pub(super) const fn was_established(old_state: u8) -> bool {
    !matches!(old_state, TCP_SYN_SENT | TCP_SYN_RECV)
}

/// `include/net/tcp_states.h`.
pub(super) const TCP_SYN_SENT: u8 = 2;
const TCP_SYN_RECV: u8 = 3;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;

/// `include/uapi/asm-generic/errno.h`; what `sk_err` is at the end of a connection.
const EPIPE: u32 = 32;
const ENETUNREACH: u32 = 101;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
const EHOSTUNREACH: u32 = 113;
