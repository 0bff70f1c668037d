//! `ClientLog`: errors of the connections of `librdkafka`. They are the reason for messages that were
//! not delivered in time, which have none of their own.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::base::escape::escaped;

/// Maximum length of an error or of a line of its log, characters.
const TEXT_MAX: usize = 300;

/// Keeps the last error of a client, escaped, with advice for the operator.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientLog(pub(super) Arc<ArcSwapOption<String>>);

impl ClientLog {
    fn record(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        // That all brokers are down follows from the error of each.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.0.load().is_some() {
            return;
        }
        let is_login = matches!(
            code,
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed)
        );
        let hint = if is_login {
            "; check user, password and sasl_mechanism"
        } else if code == Some(RDKafkaErrorCode::SSL) || reason.contains("SSL routines") {
            // A broker refuses the certificate after the handshake.
            "; check tls, ca_file, client_cert and client_key"
        } else {
            ""
        };
        self.0.store(Some(Arc::new(escaped(reason, TEXT_MAX) + hint)));
    }
}

impl ClientContext for ClientLog {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors are also passed to `error`.
        let text = escaped(message, TEXT_MAX);
        tracing::debug!(facility, text, "librdkafka log line");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.record(error.rdkafka_error_code(), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_follows_from_the_error_and_not_from_all_brokers_down() {
        let log = ClientLog::default();
        let last_error = || log.0.load_full().map(|error| error.to_string());
        assert_eq!(last_error(), None);
        log.record(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(last_error().unwrap(), "1/1 brokers are down");
        log.record(Some(RDKafkaErrorCode::SSL), "h:1: handshake\nfailed");
        log.record(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let text = last_error().unwrap();
        assert!(text.ends_with("failed; check tls, ca_file, client_cert and client_key"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        log.record(Some(RDKafkaErrorCode::Authentication), "h:1: refused");
        assert_eq!(last_error().unwrap(), "h:1: refused; check user, password and sasl_mechanism");
        log.0.store(None);
        assert_eq!(last_error(), None);
    }
}
