//! How a connection ended: by whom.

use super::super::change::ClosedBy;

/// Who ended a connection that went from `old_state` to CLOSE with `error`: the state tells whose
/// FIN came first, the error what came instead of one.
pub(super) const fn closed_by(old_state: u8, error: u32) -> ClosedBy {
    match (old_state, error) {
        (_, ETIMEDOUT) => ClosedBy::Timeout,
        (TCP_CLOSE_WAIT | TCP_LAST_ACK, _) | (_, ECONNRESET | EPIPE | ECONNREFUSED) => {
            ClosedBy::Remote
        }
        (_, 0) => ClosedBy::Local,
        _ => ClosedBy::Unknown,
    }
}

/// `include/net/tcp_states.h`.
pub(super) const TCP_SYN_SENT: u8 = 2;
const TCP_CLOSE_WAIT: u8 = 8;
const TCP_LAST_ACK: u8 = 9;

/// `include/uapi/asm-generic/errno.h`; what `sk_err` is at the end of a connection.
const EPIPE: u32 = 32;
const ECONNRESET: u32 = 104;
const ETIMEDOUT: u32 = 110;
const ECONNREFUSED: u32 = 111;
