//! What `librdkafka` says of its connections. A message that was not delivered in time has no
//! reason of its own: this is it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::deliver::escaped;

/// Characters of it that are kept.
const MOST_KEPT: usize = 300;

/// The last that was said, with what to do about it.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Option<String>>>);

impl Heard {
    /// Why nothing was delivered, as far as it is known.
    pub(super) fn last(&self) -> Option<String> {
        self.lock().clone()
    }

    /// Forgets what was said before.
    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    fn note(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        let mut last = self.lock();
        // That all are away follows from what was said of each.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && last.is_some() {
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
        *last = Some(format!("{}{hint}", escaped(reason, MOST_KEPT)));
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Heard {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // What matters comes as an error too.
        let said = escaped(message, MOST_KEPT);
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
        let heard = Heard::default();
        assert_eq!(heard.last(), None);
        heard.note(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(heard.last().unwrap(), "1/1 brokers are down");
        heard.note(Some(RDKafkaErrorCode::SSL), "h:1: handshake\nfailed");
        heard.note(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let told = heard.last().unwrap();
        assert!(told.ends_with("failed; check tls, ca_file, client_cert and client_key"), "{told}");
        assert!(!told.contains('\n'), "{told}");
        heard.note(Some(RDKafkaErrorCode::Authentication), "h:1: refused");
        assert_eq!(heard.last().unwrap(), "h:1: refused; check user, password and sasl_mechanism");
        heard.clear();
        assert_eq!(heard.last(), None);
    }
}
