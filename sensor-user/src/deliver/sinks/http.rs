//! The http sink: one POST a batch.

use reqwest::Url;

use super::http_post::{Post, Poster, ServerConfig};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::batch::{Batch, Sent};

/// Posts to one URL.
#[derive(Debug)]
pub(crate) struct HttpSink {
    poster: Poster,
    url: Url,
    lines: bool,
}

/// `kind = "http"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where to post.
    pub url: Url,
    /// `application/x-ndjson` lines instead of one array.
    pub lines: bool,
    /// How it is reached.
    pub server: Box<ServerConfig>,
}

impl HttpConfig {
    /// Arrays to `url`.
    pub fn new(url: Url) -> Self {
        Self { url, lines: false, server: Box::new(ServerConfig::new(false)) }
    }
}

impl HttpSink {
    pub(crate) fn new(config: &HttpConfig) -> Self {
        let poster = Poster::new(&config.server);
        Self { poster, url: config.url.clone(), lines: config.lines }
    }

    pub(crate) async fn send(
        &self,
        batch: &Batch,
        clock: &dyn Clock,
    ) -> Result<Sent, DeliverError> {
        let (kind, body) = if self.lines {
            ("application/x-ndjson", batch.lines())
        } else {
            ("application/json", batch.array())
        };
        let post = Post::new(&self.url, kind, body.into_bytes())
            .with("idempotency-key", &batch.idempotency_key());
        let answer = self.poster.post(post, clock).await?;
        if answer.is_success() {
            return Ok(Sent::default());
        }
        if matches!(answer.status, 401 | 403) && self.poster.has_login() {
            return Err(answer.held("check user, password, token and certificate"));
        }
        Err(answer.refusal())
    }
}
