//! Settings of the nats sink.

use std::time::Duration;

use crate::http::{Secret, TlsConfig};

/// Credentials of the publisher.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NatsLogin {
    /// No credentials.
    #[default]
    None,
    /// User and password.
    Password {
        /// User name.
        user: String,
        /// Password of the user.
        password: Secret,
    },
    /// Authentication token.
    Token(Secret),
    /// Seed of an nkey.
    Nkey(Secret),
    /// Credentials file: a JWT and the seed of its nkey.
    Credentials(Secret),
}

/// Settings of `kind = "nats"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Servers of one cluster, `host:port`.
    pub servers: Vec<String>,
    /// Credentials of the publisher.
    pub login: NatsLogin,
    /// TLS settings; `None`: TLS if the server requires it, with the authorities of the host.
    pub tls: Option<TlsConfig>,
    /// First part of each subject.
    pub prefix: String,
    /// Third part of each subject: site of this host.
    pub site: String,
    /// Name of a stream to create if none has the subjects; `None`: none is created.
    pub create_stream: Option<String>,
    /// Time limit of connecting, and of the responses to a batch.
    pub timeout: Duration,
}

impl NatsConfig {
    /// Default of `prefix`.
    pub const PREFIX: &str = "netsensor";
    /// Default of `site`.
    pub const SITE: &str = "default";
    /// Default name of a stream that is created.
    pub const STREAM: &str = "netsensor";
    /// Default time limit.
    pub const TIMEOUT: Duration = Duration::from_secs(10);

    /// One server, with the defaults.
    pub fn new(server: String) -> Self {
        Self {
            servers: vec![server],
            login: NatsLogin::None,
            tls: None,
            prefix: Self::PREFIX.to_owned(),
            site: Self::SITE.to_owned(),
            create_stream: None,
            timeout: Self::TIMEOUT,
        }
    }
}
