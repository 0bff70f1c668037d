//! What `librdkafka` says of its connections. A message that was not delivered in time has no
//! reason of its own: this is it.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::super::last_error::Heard;
use crate::base::escape::escaped;

/// Characters of a line of its log that are kept.
const MOST_LOGGED: usize = 300;

/// Listens to a client, and keeps what it says last.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener(pub(super) Arc<Heard>);

impl Listener {
    fn note(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        // That all are away follows from what was said of each.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.0.last().is_some() {
            return;
        }
        let is_login = matches!(
            code,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
        );
        let hint = if is_login {
            "; check user, password and sasl_mechanism"
        } else if code == Some(RDKafkaErrorCode::SSL) || reason.contains("SSL routines") {
            // A broker says after the handshake that it wants another certificate.
            "; check tls, ca_file, client_cert and client_key"
        } else {
            ""
        };
        self.0.note(reason, hint);
    }
}

impl ClientContext for Listener {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error too.
        let said = escaped(message, MOST_LOGGED);
        tracing::debug!(facility, said, "librdkafka says");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.note(error.rdkafka_error_code(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_follows_from_the_error_and_not_from_that_all_are_away() {
        let listener = Listener::default();
        let heard = &listener.0;
        assert_eq!(heard.last(), None);
        listener.note(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(heard.last().unwrap(), "1/1 brokers are down");
        listener.note(Some(RDKafkaErrorCode::SSL), "h:1: handshake\nfailed");
        listener.note(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let told = heard.last().unwrap();
        assert!(told.ends_with("failed; check tls, ca_file, client_cert and client_key"), "{told}");
        assert!(!told.contains('\n'), "{told}");
        listener.note(Some(RDKafkaErrorCode::Authentication), "h:1: refused");
        assert_eq!(heard.last().unwrap(), "h:1: refused; check user, password and sasl_mechanism");
        heard.clear();
        assert_eq!(heard.last(), None);
    }
}
