//! Tokens: asked for once, kept until shortly before they end, and forgotten when one is refused.

use std::time::Duration;

use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{AzureLogin, LogsIngestionConfig, MARGIN};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::sinks::http_post::{Answer, Post, Poster};
use crate::http::{AccessError, AccessToken, FORM, form, redacted_url, token_url};

/// The service of Azure that gives a machine its tokens; only the machine itself reaches it.
const IMDS: &str = "http://169.254.169.254/";
/// Waits before it is asked again; a service that is being updated is back within 70 s.
const WAITS: [u64; 4] = [2, 4, 8, 16];
/// An answer comes from the same rack.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of an answer at most.
const MOST: usize = 64 << 10;

/// The tokens of one sink.
#[derive(Debug)]
pub(super) struct Tokens {
    login: AzureLogin,
    audience: String,
    /// Not for a proxy to see.
    direct: Client,
    /// The lock is held while one is asked for, so that it is asked for once.
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug, Clone)]
struct Kept {
    bearer: HeaderValue,
    until: Instant,
}

impl Tokens {
    pub(super) fn new(config: &LogsIngestionConfig) -> Result<Self, DeliverError> {
        crate::http::crypto_provider::install_provider();
        let direct = Client::builder()
            .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(Policy::none())
            .timeout(TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()
            .map_err(AccessError::Client)?;
        let (login, audience) = (config.login.clone(), config.audience.clone());
        Ok(Self { login, audience, direct, kept: Mutex::default() })
    }

    /// `Bearer TOKEN`, as it is good now.
    pub(super) async fn bearer(
        &self,
        poster: &Poster,
        clock: &dyn Clock,
    ) -> Result<HeaderValue, DeliverError> {
        let mut kept = self.kept.lock().await;
        if let Some(good) = kept.as_ref().filter(|kept| Instant::now() < kept.until) {
            return Ok(good.bearer.clone());
        }
        *kept = None;
        let asked = Instant::now();
        let answer = match &self.login {
            AzureLogin::Application { .. } => self.log_in(poster, clock).await?,
            AzureLogin::ManagedIdentity { imds_url, client_id } => {
                self.ask_machine(imds_url.as_ref(), client_id.as_deref()).await?
            }
        };
        let Some(grant) = AccessToken::parse(&answer.body) else {
            // What was answered may hold the token.
            let url = answer.url;
            let what = "answers with no token; check login_url and what stands between";
            return Err(DeliverError::Odd { url, what, text: String::new() });
        };
        let life = grant.lifetime.saturating_sub(MARGIN);
        let fresh = Kept { bearer: grant.bearer, until: asked + life };
        Ok(kept.insert(fresh).bearer.clone())
    }

    /// The token was refused.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    async fn log_in(&self, poster: &Poster, clock: &dyn Clock) -> Result<Answer, DeliverError> {
        let AzureLogin::Application { login_url, tenant, client_id, client_secret } = &self.login
        else {
            return Err(DeliverError::Setting("there is no application; set client_id"));
        };
        let secret = client_secret.clone();
        let secret = tokio::task::spawn_blocking(move || secret.read()).await;
        let secret = secret.map_err(|_stopped| AccessError::Stopped)?.map_err(AccessError::from)?;
        let url = token_url(login_url, tenant)
            .ok_or(DeliverError::Setting("login_url is no base; set it to a server"))?;
        let body = form(login_url, client_id, &secret, &format!("{}/.default", self.audience));
        let post = Post::new(&url, FORM, body).without_login().needs(MOST);
        let answer = poster.post(post, clock).await?;
        match answer.status {
            200 => Ok(answer),
            400 | 401 => {
                Err(answer.held("no token is given; check tenant, client_id and client_secret"))
            }
            _ => Err(answer.held("no token is given; check login_url")),
        }
    }

    async fn ask_machine(
        &self,
        at: Option<&Url>,
        client_id: Option<&str>,
    ) -> Result<Answer, DeliverError> {
        let url = identity_url(at, &self.audience, client_id)
            .ok_or(DeliverError::Setting("imds_url is no base; set it to a server"))?;
        let mut waits = WAITS.into_iter();
        loop {
            let asked = self.ask_machine_once(&url).await;
            let may_pass = match &asked {
                Ok(answer) if answer.status == 200 => return asked,
                Ok(answer) => matches!(answer.status, 404 | 410 | 429 | 500..=599),
                Err(_no_answer) => true,
            };
            match waits.next() {
                Some(wait) if may_pass => tokio::time::sleep(Duration::from_secs(wait)).await,
                _ => {
                    let hint = "the machine has no identity for this; assign one, or set client_id";
                    return Err(asked?.held(hint));
                }
            }
        }
    }

    async fn ask_machine_once(&self, url: &Url) -> Result<Answer, DeliverError> {
        let failed = |source: reqwest::Error| DeliverError::Post {
            url: redacted_url(url),
            source: source.without_url(),
        };
        let request = self.direct.get(url.clone()).header("Metadata", "true");
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MOST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { url: redacted_url(url), status, retry_after: None, body })
    }
}

/// Where a machine gets its token for `audience`.
fn identity_url(at: Option<&Url>, audience: &str, client_id: Option<&str>) -> Option<Url> {
    let mut url = at.cloned().or_else(|| IMDS.parse().ok())?;
    url.set_path("/metadata/identity/oauth2/token");
    url.query_pairs_mut()
        .clear()
        .append_pair("api-version", "2018-02-01")
        .append_pair("resource", audience);
    if let Some(client_id) = client_id {
        url.query_pairs_mut().append_pair("client_id", client_id);
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::identity_url;

    #[test]
    fn a_machine_is_asked_as_the_service_wants_it() {
        let audience = "https://monitor.azure.com";
        let usual = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
                     &resource=https%3A%2F%2Fmonitor.azure.com";
        assert_eq!(identity_url(None, audience, None).unwrap().as_str(), usual);
        let at = "http://127.0.0.1:9/metadata/instance?api-version=2021-02-01".parse().unwrap();
        let url = identity_url(Some(&at), audience, Some("c 1")).unwrap();
        assert_eq!(url.port(), Some(9));
        assert!(url.as_str().ends_with("&client_id=c+1"), "{url}");
    }
}
