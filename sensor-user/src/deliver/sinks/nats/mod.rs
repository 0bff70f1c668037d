//! The sink `nats`: publishes to `JetStream` and waits for the acknowledgement of each message.
//!
//! Each message has its item's id as `Nats-Msg-Id`, so a stream stores a retried message once within
//! its duplicate window. After a lost connection the next batch connects again, and reads the secrets
//! again.

mod config;
mod encode;
mod response;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_nats::connection::State;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, ConnectOptions, Event};
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::Sink;
use crate::base::error_chain::chain;
use crate::base::escape::escaped;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, BatchItem, ItemError, SendOutcome};
use crate::http::{AccessError, SecretError};

pub use config::{NatsConfig, NatsLogin};

/// Maximum number of unacknowledged messages: more than a batch has.
const IN_FLIGHT_MAX: usize = 1 << 15;
/// Maximum length of an error of the server, characters.
const TEXT_MAX: usize = 300;
/// Retention of the messages of a created stream, and of their ids.
const STREAM_MAX_AGE: Duration = Duration::from_hours(7 * 24);
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);

/// Publishes over one connection.
#[derive(Debug)]
pub(super) struct NatsSink {
    config: NatsConfig,
    connection: Mutex<Option<NatsConnection>>,
    /// Last error that the server reported outside of a response, escaped.
    last_error: Arc<ArcSwapOption<String>>,
}

#[derive(Debug)]
struct NatsConnection {
    client: Client,
    context: jetstream::Context,
}

impl NatsSink {
    pub(super) fn new(config: &NatsConfig) -> Self {
        Self { config: config.clone(), connection: Mutex::default(), last_error: Arc::default() }
    }

    async fn publish(
        &self,
        context: &jetstream::Context,
        item: &BatchItem,
        deadline: Instant,
    ) -> Result<PublishAckFuture, ItemError> {
        let subject = encode::subject(&self.config, &item.item);
        match timeout_at(deadline, context.send_publish(subject, encode::message(item))).await {
            Ok(Ok(ack)) => Ok(ack),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(ItemError::Rejected(chain(&error)))
            }
            Ok(Err(error)) => Err(ItemError::Retry(chain(&error))),
            Err(_elapsed) => Err(response::timed_out()),
        }
    }

    /// The open connection, or a new one.
    async fn context(&self) -> Result<jetstream::Context, DeliverError> {
        let mut connection = self.connection.lock().await;
        if let Some(NatsConnection { client, context }) = &*connection
            && client.connection_state() == State::Connected
        {
            return Ok(context.clone());
        }
        *connection = None;
        let config = self.config.clone();
        let options = tokio::task::spawn_blocking(move || connect_options(&config)).await;
        let options = options.map_err(|_stopped| AccessError::Stopped)??;
        let last_error = Arc::clone(&self.last_error);
        let options = options.event_callback(move |event| {
            // Such as a missing permission; no response contains it.
            if let Event::ServerError(error) = event {
                last_error.store(Some(Arc::new(escaped(&error.to_string(), TEXT_MAX))));
            }
            std::future::ready(())
        });
        // On the heap: the future of a connect is several kilobytes large.
        let connecting = Box::pin(options.connect(self.config.servers.clone()));
        let client = tokio::time::timeout(self.config.timeout, connecting)
            .await
            .map_err(|_elapsed| self.error("no connection in time".to_owned()))?
            .map_err(|error| self.error(response::connect_error(&error, &self.config)))?;
        let context = ContextBuilder::new()
            .max_ack_inflight(IN_FLIGHT_MAX)
            .timeout(self.config.timeout)
            .build(client.clone());
        self.create_stream(&context).await?;
        Ok(connection.insert(NatsConnection { client, context }).context.clone())
    }

    /// Creates the configured stream unless it exists.
    async fn create_stream(&self, context: &jetstream::Context) -> Result<(), DeliverError> {
        let Some(name) = &self.config.create_stream else { return Ok(()) };
        let stream = stream::Config {
            name: name.clone(),
            // Not `PREFIX.>`: the stream would store and acknowledge requests below the prefix too.
            subjects: encode::stream_subjects(&self.config.prefix),
            max_age: STREAM_MAX_AGE,
            duplicate_window: DUPLICATE_WINDOW,
            ..stream::Config::default()
        };
        let created = context.get_or_create_stream(stream).await;
        created
            .map(drop)
            .map_err(|error| self.error(format!("stream {name}: {}", self.explain(chain(&error)))))
    }

    /// The last error of the server with advice for the operator, or `reason` if there is none.
    fn explain(&self, reason: String) -> String {
        self.last_error.load().as_ref().map_or(reason, |it| response::explain(it, &self.config))
    }

    fn error(&self, reason: String) -> DeliverError {
        DeliverError::Unavailable { receiver: self.config.servers.join(","), reason }
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn send(&self, batch: &Batch) -> Result<SendOutcome, DeliverError> {
        self.last_error.store(None);
        let context = Box::pin(self.context()).await?;
        let deadline = Instant::now() + self.config.timeout;
        let mut acks = Vec::with_capacity(batch.len());
        for item in &batch.items {
            acks.push(self.publish(&context, item, deadline).await);
        }
        let (mut outcome, mut has_stream) = (SendOutcome::default(), true);
        for (index, ack) in acks.into_iter().enumerate() {
            let result = match ack {
                Ok(ack) => response::outcome(ack, deadline, &mut has_stream).await,
                Err(error) => Err(error),
            };
            outcome.record(index, result);
        }
        match outcome.failure(batch.len()) {
            None => Ok(outcome),
            Some(reason) if has_stream => Err(self.error(self.explain(reason))),
            Some(_) => Err(self.error(format!(
                "no stream has the subjects {}; create one, or set create_stream = true",
                encode::stream_subjects(&self.config.prefix).join(", ")
            ))),
        }
    }
}

/// Reads the secrets and certificates. Blocks.
fn connect_options(config: &NatsConfig) -> Result<ConnectOptions, AccessError> {
    crate::http::crypto_provider::install_provider();
    let mut options = ConnectOptions::new()
        .name("netsensor")
        .connection_timeout(config.timeout)
        // Each server once; the next batch connects again, with the secrets of that time.
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
