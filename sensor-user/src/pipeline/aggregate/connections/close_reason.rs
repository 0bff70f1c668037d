//! The end that closed a connection.

use super::super::change::ClosedBy;

/// The end that closed a connection which went from `old_state` to CLOSE with `error`. The state shows whose
/// FIN was first, the error what replaced a FIN.
pub(super) const fn closed_by(old_state: u8, error: u32) -> ClosedBy {
    match (old_state, error) {
        (_, ETIMEDOUT) => ClosedBy::Timeout,
        // After a timeout the kernel reports the last "unreachable" that was received in the meantime
        // (`tcp_write_err`); by itself that ends only a connect, not an established connection.
        (state, EHOSTUNREACH | ENETUNREACH) if was_established(state) => ClosedBy::Timeout,
        (TCP_CLOSE_WAIT | TCP_LAST_ACK, _) | (_, ECONNRESET | EPIPE | ECONNREFUSED) => {
            ClosedBy::Remote
        }
        (_, 0) => ClosedBy::Local,
        _ => ClosedBy::Unknown,
    }
}

/// True if the handshake was complete in the state before CLOSE. (With TCP Fast Open a FIN may be sent before
/// that; the connection counts as established then, since data has passed.)
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
