//! Responses and errors of the server, with advice for the operator. No text contains a secret, only
//! the path of one.

use std::error::Error;
use std::io;

use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{ConnectError, ConnectErrorKind};
use tokio::time::{Instant, timeout_at};

use super::{NatsConfig, NatsLogin};
use crate::base::error_chain::{causes, chain};
use crate::deliver::batch::{Accepted, ItemError};

/// Outcome of one message. Sets `has_stream` to false if no stream has its subject.
pub(super) async fn outcome(
    ack: PublishAckFuture,
    deadline: Instant,
    has_stream: &mut bool,
) -> Result<Accepted, ItemError> {
    match timeout_at(deadline, ack.into_future()).await {
        // The stream knows the id within its duplicate window, even if the message is purged.
        Ok(Ok(ack)) if ack.duplicate => Ok(Accepted::AlreadyStored),
        Ok(Ok(_stored)) => Ok(Accepted::Stored),
        Ok(Err(error)) if is_about_message(&error) => Err(ItemError::Rejected(chain(&error))),
        Ok(Err(error)) => {
            *has_stream &= error.kind() != PublishErrorKind::StreamNotFound;
            Err(ItemError::Retry(chain(&error)))
        }
        Err(_elapsed) => Err(timed_out()),
    }
}

/// True if the stream refuses this message: it exceeds the stream's `max_msg_size`. Other errors, such
/// as a full stream (`discard: new`), hold up all messages.
fn is_about_message(error: &PublishError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<jetstream::Error>());
    source.is_some_and(|it| it.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
}

pub(super) fn timed_out() -> ItemError {
    ItemError::Retry("no response in time".to_owned())
}

/// Reason why there is no connection.
pub(super) fn connect_error(error: &ConnectError, config: &NatsConfig) -> String {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => unauthorized(&config.login),
        ConnectErrorKind::Authentication => match &config.login {
            NatsLogin::Nkey(seed) => {
                format!("{seed}: holds no seed of an nkey; it is one line that begins with SU")
            }
            _ => format!("{}; check credentials", error.kind()),
        },
        _ if is_about_tls(error) => {
            format!("{}; check tls, ca_file, client_cert and client_key", short(error))
        }
        _ => short(error),
    }
}

fn unauthorized(login: &NatsLogin) -> String {
    match login {
        NatsLogin::None => {
            "the server requires credentials; set user and password, token, nkey or \
                            credentials"
                .to_owned()
        }
        NatsLogin::Password { user, password } => {
            format!("the server refuses user {user:?} with the password in {password}; check both")
        }
        NatsLogin::Token(token) => {
            format!("the server refuses the token in {token}; put the right one there")
        }
        NatsLogin::Nkey(seed) => format!(
            "the server refuses the nkey in {seed}; have the server list its public key, or put \
             another there"
        ),
        NatsLogin::Credentials(file) => format!(
            "the server refuses the credentials in {file}; are they of its operator, and neither \
             expired nor revoked?"
        ),
    }
}

/// True if client and server did not agree on certificates, or the server has no TLS.
fn is_about_tls(error: &ConnectError) -> bool {
    let is_tls = |cause: &(dyn Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.is_some() || cause.is::<rustls::Error>()
    };
    is_tls(error) || causes(error).any(is_tls)
}

/// The causes of the error: the text of the client's own error repeats them.
fn short(error: &ConnectError) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

/// Adds the required permissions to an error of the server about permissions.
pub(super) fn explain(error: &str, config: &NatsConfig) -> String {
    if !error.to_ascii_lowercase().contains("permission") {
        return error.to_owned();
    }
    let create = if config.create_stream.is_some() { ", to $JS.API.>" } else { "" };
    format!("{error}; let it publish to {}.>{create} and subscribe to _INBOX.>", config.prefix)
}
