//! The nats sink: publishes to `JetStream` and waits for what the server says to each message.
//!
//! Each message has its item's id as `Nats-Msg-Id`, so a stream keeps one that is sent again once, as
//! long as its window of duplicates lasts. A connection that is lost is made anew by the next batch,
//! which reads the secrets again.

mod errors;
mod subject;

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::last_error::Heard;
use crate::base::error_chain::chain;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Entry, Sent};
use crate::http::{AccessError, Secret, SecretError, TlsConfig};

/// Messages that wait for their answer at most: more than a batch has.
const IN_FLIGHT: usize = 1 << 15;

/// Who publishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NatsLogin {
    /// Anybody.
    #[default]
    None,
    /// Name and password.
    Password {
        /// Name.
        user: String,
        /// Password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// The seed of an nkey.
    Nkey(Secret),
    /// A file of credentials: a JWT and the seed of its nkey.
    Credentials(Secret),
}

/// A nats sink's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsConfig {
    /// Servers of one cluster, `host:port`.
    pub servers: Vec<String>,
    /// Who publishes.
    pub login: NatsLogin,
    /// TLS; `None`: as the server asks, with the authorities of the host.
    pub tls: Option<TlsConfig>,
    /// First part of each subject.
    pub prefix: String,
    /// Third part of each subject: where this host is.
    pub site: String,
    /// The stream that is made where none takes the subjects; `None`: none is made.
    pub create_stream: Option<String>,
    /// Limit of a connect, and of the answers to a batch.
    pub timeout: Duration,
}

impl NatsConfig {
    /// First part of each subject unless set.
    pub const PREFIX: &str = "netsensor";
    /// Third part of each subject unless set.
    pub const SITE: &str = "default";
    /// Name of a stream that is made.
    pub const STREAM: &str = "netsensor";
    /// Limit unless set.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// What a stream that is made keeps: messages of so long, and their ids for so long.
    const KEPT: Duration = Duration::from_hours(7 * 24);
    const WINDOW: Duration = Duration::from_mins(10);

    /// One server, and what is usual.
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

/// Publishes over one connection.
#[derive(Debug)]
pub(crate) struct NatsSink {
    config: NatsConfig,
    held: Mutex<Option<Held>>,
    heard: Arc<Heard>,
}

/// A connection, and what publishes over it.
#[derive(Debug)]
struct Held {
    client: Client,
    context: jetstream::Context,
}

/// A message that is under way, or why it is not.
type Published = Result<PublishAckFuture, Refusal>;

/// Why a message was not taken.
#[derive(Debug)]
enum Refusal {
    /// It never will be.
    Never(String),
    /// No stream takes its subject.
    NoStream,
    /// It may be, later.
    Later(String),
}

impl NatsSink {
    pub(crate) fn new(config: &NatsConfig) -> Self {
        Self { config: config.clone(), held: Mutex::new(None), heard: Arc::default() }
    }

    pub(crate) async fn send(&self, batch: &Batch) -> Result<Sent, DeliverError> {
        self.heard.clear();
        let context = Box::pin(self.context()).await?;
        let deadline = Instant::now() + self.config.timeout;
        let mut published = Vec::with_capacity(batch.len());
        for entry in batch.entries() {
            published.push(self.publish(&context, entry, deadline).await);
        }
        let mut outcome = Outcome::default();
        for (index, published) in published.into_iter().enumerate() {
            let answer = match published {
                Ok(waiting) => answered(waiting, deadline).await,
                Err(refusal) => Err(refusal),
            };
            outcome.add(index, answer);
        }
        self.settle(batch, outcome)
    }

    async fn publish(
        &self,
        context: &jetstream::Context,
        entry: &Entry,
        deadline: Instant,
    ) -> Published {
        let subject = subject::of(&self.config.prefix, &self.config.site, &entry.item);
        let message =
            PublishMessage::build().payload(entry.line.clone().into()).message_id(&entry.id);
        match timeout_at(deadline, context.send_publish(subject, message)).await {
            Ok(Ok(waiting)) => Ok(waiting),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(Refusal::Never(chain(&error)))
            }
            Ok(Err(error)) => Err(Refusal::Later(chain(&error))),
            Err(_elapsed) => Err(Refusal::Later("no answer in time".to_owned())),
        }
    }

    /// What the engine is told. Where nothing was taken it is told why, which goes to the log.
    fn settle(&self, batch: &Batch, outcome: Outcome) -> Result<Sent, DeliverError> {
        let Outcome { sent, no_stream, why } = outcome;
        if sent.again.len() < batch.len() || batch.len() == 0 {
            return Ok(sent);
        }
        let what = if no_stream {
            let subjects = format!("{}.>", self.config.prefix);
            format!("no stream takes {subjects}; make one, or set create_stream = true")
        } else {
            errors::explains(&self.heard, why.unwrap_or_default(), &self.config)
        };
        Err(self.error(what))
    }

    /// The connection at hand while it is well, else a new one.
    async fn context(&self) -> Result<jetstream::Context, DeliverError> {
        let mut held = self.held.lock().await;
        if let Some(Held { client, context }) = &*held
            && client.connection_state() == State::Connected
        {
            return Ok(context.clone());
        }
        *held = None;
        let config = self.config.clone();
        let options = tokio::task::spawn_blocking(move || options(&config)).await;
        let heard = Arc::clone(&self.heard);
        let options =
            options.map_err(|_ended| AccessError::Stopped)??.event_callback(move |event| {
                errors::note(&heard, &event);
                std::future::ready(())
            });
        let connecting = Box::pin(options.connect(self.config.servers.clone()));
        let connected = tokio::time::timeout(self.config.timeout, connecting).await;
        let client = connected
            .map_err(|_elapsed| self.error("no connection in time".to_owned()))?
            .map_err(|error| self.error(errors::not_connected(&error, &self.config)))?;
        let context = ContextBuilder::new()
            .max_ack_inflight(IN_FLIGHT)
            .timeout(self.config.timeout)
            .build(client.clone());
        self.make_stream(&context).await?;
        Ok(held.insert(Held { client, context }).context.clone())
    }

    /// Makes the stream that is asked for, unless it is there.
    async fn make_stream(&self, context: &jetstream::Context) -> Result<(), DeliverError> {
        let Some(name) = &self.config.create_stream else { return Ok(()) };
        let stream = stream::Config {
            name: name.clone(),
            subjects: vec![format!("{}.>", self.config.prefix)],
            max_age: NatsConfig::KEPT,
            duplicate_window: NatsConfig::WINDOW,
            ..stream::Config::default()
        };
        let made = context.get_or_create_stream(stream).await;
        made.map(drop).map_err(|error| {
            let why = errors::explains(&self.heard, chain(&error), &self.config);
            self.error(format!("stream {name}: {why}"))
        })
    }

    fn error(&self, what: String) -> DeliverError {
        DeliverError::Peer { server: self.config.servers.join(","), what }
    }
}

/// Reads the secrets and certificates. It blocks.
fn options(config: &NatsConfig) -> Result<ConnectOptions, AccessError> {
    crate::http::crypto_provider::install_provider();
    let mut options = ConnectOptions::new()
        .name("netsensor")
        .connection_timeout(config.timeout)
        // Each server once; the next batch connects again, with what the secrets are then.
        .max_reconnects(config.servers.len());
    options = match &config.login {
        NatsLogin::None => options,
        NatsLogin::Password { user, password } => {
            options.user_and_password(user.clone(), password.read()?.text().to_owned())
        }
        NatsLogin::Token(token) => options.token(token.read()?.text().to_owned()),
        NatsLogin::Nkey(seed) => options.nkey(seed.read()?.text().to_owned()),
        NatsLogin::Credentials(file) => {
            let what = "holds no credentials of nats; name a file that `nsc` made";
            let content = || SecretError::Content { path: file.path().unwrap_or_default(), what };
            let text = file.read_lines()?;
            options.credentials(text.text()).map_err(|_broken| content())?
        }
    };
    if let Some(tls) = &config.tls {
        options = options.require_tls(true).tls_client_config(tls.client()?);
    }
    Ok(options)
}

/// What the server says to one message.
async fn answered(waiting: PublishAckFuture, deadline: Instant) -> Result<(), Refusal> {
    match timeout_at(deadline, waiting.into_future()).await {
        Ok(Ok(_taken)) => Ok(()),
        Ok(Err(error)) if error.kind() == PublishErrorKind::StreamNotFound => {
            Err(Refusal::NoStream)
        }
        Ok(Err(error)) => Err(Refusal::Later(chain(&error))),
        Err(_elapsed) => Err(Refusal::Later("no answer in time".to_owned())),
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
struct Outcome {
    sent: Sent,
    no_stream: bool,
    /// Why the first was not taken.
    why: Option<String>,
}

impl Outcome {
    fn add(&mut self, index: usize, answer: Result<(), Refusal>) {
        match answer {
            Ok(()) => {}
            Err(Refusal::Never(why)) => self.sent.rejected.push((index, why)),
            Err(Refusal::NoStream) => {
                self.no_stream = true;
                self.sent.again.push(index);
            }
            Err(Refusal::Later(why)) => {
                self.why.get_or_insert(why);
                self.sent.again.push(index);
            }
        }
    }
}
