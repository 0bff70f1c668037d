//! `ClientLog`: errors of the connections of `librdkafka`. They are the reason for messages that were
//! not delivered in time, which have none of their own.

use std::sync::Arc;

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::base::escape::escaped;
use crate::deliver::sinks::last_error::LastError;

/// Maximum length of a line of its log, characters.
const LINE_MAX: usize = 300;

/// Keeps the last error of a client.
#[derive(Debug, Clone, Default)]
pub(super) struct ClientLog(pub(super) Arc<LastError>);

impl ClientLog {
    fn record(&self, code: Option<RDKafkaErrorCode>, reason: &str) {
        // That all brokers are down follows from the error of each.
        if code == Some(RDKafkaErrorCode::AllBrokersDown) && self.0.get().is_some() {
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
        self.0.set(reason, hint);
    }
}

impl ClientContext for ClientLog {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Errors are also passed to `error`.
        let text = escaped(message, LINE_MAX);
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
        let last_error = &log.0;
        assert_eq!(last_error.get(), None);
        log.record(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(last_error.get().unwrap(), "1/1 brokers are down");
        log.record(Some(RDKafkaErrorCode::SSL), "h:1: handshake\nfailed");
        log.record(Some(RDKafkaErrorCode::AllBrokersDown), "1/1 brokers are down");
        let text = last_error.get().unwrap();
        assert!(text.ends_with("failed; check tls, ca_file, client_cert and client_key"), "{text}");
        assert!(!text.contains('\n'), "{text}");
        log.record(Some(RDKafkaErrorCode::Authentication), "h:1: refused");
        assert_eq!(
            last_error.get().unwrap(),
            "h:1: refused; check user, password and sasl_mechanism"
        );
        last_error.clear();
        assert_eq!(last_error.get(), None);
    }
}
