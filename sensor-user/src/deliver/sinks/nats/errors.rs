//! What a server says of who publishes, and what to do about it. No secret is in these words, only
//! where one stands.

use std::error::Error;
use std::io;

use async_nats::{ConnectError, ConnectErrorKind, Event};

use super::super::last_error::Heard;
use super::{NatsConfig, NatsLogin};
use crate::base::error_chain::{causes, chain};

/// Why there is no connection, and what to do.
pub(super) fn not_connected(error: &ConnectError, config: &NatsConfig) -> String {
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation => refused(&config.login),
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

/// The server knows nobody of that login.
fn refused(login: &NatsLogin) -> String {
    match login {
        NatsLogin::None => "the server asks who publishes; set user and password, token, nkey or \
                            credentials"
            .to_owned(),
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

/// Whether the two did not agree on certificates, or the server speaks no TLS.
fn is_about_tls(error: &ConnectError) -> bool {
    let of_tls = |cause: &(dyn Error + 'static)| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        inner.is_some() || cause.is::<rustls::Error>()
    };
    of_tls(error) || causes(error).any(of_tls)
}

/// Its words once: the client's errors have those of their causes too.
fn short(error: &ConnectError) -> String {
    error.source().map_or_else(|| error.to_string(), chain)
}

/// Keeps what the server says beside its answers, such as which right is missing.
pub(super) fn note(heard: &Heard, event: &Event) {
    if let Event::ServerError(error) = event {
        heard.note(&error.to_string(), "");
    }
}

/// Why there was no answer, as far as the server said.
pub(super) fn explains(heard: &Heard, otherwise: String, config: &NatsConfig) -> String {
    let Some(said) = heard.last() else { return otherwise };
    if !said.to_ascii_lowercase().contains("permission") {
        return said;
    }
    let making = if config.create_stream.is_some() { ", to $JS.API.>" } else { "" };
    format!("{said}; let it publish to {}.>{making} and subscribe to _INBOX.>", config.prefix)
}
