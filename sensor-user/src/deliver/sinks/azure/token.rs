//! `TokenCache`: the access token, requested once, kept until shortly before it expires, and dropped
//! when it is refused.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{AzureLogin, LogsIngestionConfig};
use crate::base::clock::Clock;
use crate::deliver::DeliverError;
use crate::deliver::sinks::http_client::{ServerConfig, SinkClient, SinkRequest, SinkResponse};
use crate::http::{Access, AccessError, AccessToken, FORM, Proxy, form, token_url};

/// Metadata service, which gives a machine its tokens; only the machine itself can reach it.
const IMDS: &str = "http://169.254.169.254/";
/// Delays before retries, seconds; a service that is being updated is back within 70 s.
const RETRY_DELAYS: [u64; 4] = [2, 4, 8, 16];
/// Time limit of a response, which comes from the same rack.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response, bytes.
const RESPONSE_MAX: usize = 64 << 10;
/// Time before its expiry when a token is no longer used.
const MARGIN: Duration = Duration::from_mins(5);

/// Access token of one sink.
#[derive(Debug)]
pub(super) struct TokenCache {
    login: AzureLogin,
    audience: String,
    /// Without a proxy, which must not see the machine's token.
    imds_client: SinkClient,
    /// Locked during a request, so that concurrent batches share one request.
    token: Mutex<Option<CachedToken>>,
}

#[derive(Debug)]
struct CachedToken {
    bearer: HeaderValue,
    until: Instant,
}

impl TokenCache {
    pub(super) fn new(config: &LogsIngestionConfig, clock: &Arc<dyn Clock>) -> Self {
        let access = Access { proxy: Proxy::None, ..Access::default() };
        let direct = ServerConfig { access, timeout: TIMEOUT, compress: false };
        let imds_client = SinkClient::new(&direct, clock);
        let (login, audience) = (config.login.clone(), config.audience.clone());
        Self { login, audience, imds_client, token: Mutex::default() }
    }

    /// `Bearer TOKEN` with a valid token. `client` is that of the sink.
    pub(super) async fn bearer(&self, client: &SinkClient) -> Result<HeaderValue, DeliverError> {
        let mut cached = self.token.lock().await;
        if let Some(token) = cached.as_ref().filter(|token| Instant::now() < token.until) {
            return Ok(token.bearer.clone());
        }
        *cached = None;
        let requested = Instant::now();
        let response = match &self.login {
            AzureLogin::Application { login_url, tenant, client_id, client_secret } => {
                let url = token_url(login_url, tenant)
                    .ok_or(DeliverError::Setting("login_url is no base; set it to a server"))?;
                let secret = client_secret.clone();
                let secret = tokio::task::spawn_blocking(move || secret.read()).await;
                let secret = secret.map_err(|_stopped| AccessError::Stopped)?;
                let secret = secret.map_err(AccessError::from)?;
                let scope = format!("{}/.default", self.audience);
                application_token(client, &url, form(login_url, client_id, &secret, &scope)).await?
            }
            AzureLogin::ManagedIdentity { imds_url, client_id } => {
                self.machine_token(imds_url.as_ref(), client_id.as_deref()).await?
            }
        };
        let Some(token) = AccessToken::parse(&response.body) else {
            // The text of the response may contain the token.
            let response = SinkResponse { body: Vec::new(), ..response };
            let reason = "the response has no token; check login_url and any proxy before it";
            return Err(response.into_unexpected(reason));
        };
        let until = requested + token.lifetime.saturating_sub(MARGIN);
        Ok(cached.insert(CachedToken { bearer: token.bearer, until }).bearer.clone())
    }

    /// Drops the token, because it was refused.
    pub(super) async fn clear(&self) {
        *self.token.lock().await = None;
    }

    async fn machine_token(
        &self,
        server: Option<&Url>,
        client_id: Option<&str>,
    ) -> Result<SinkResponse, DeliverError> {
        let url = identity_url(server, &self.audience, client_id)
            .ok_or(DeliverError::Setting("imds_url is no base; set it to a server"))?;
        let mut delays = RETRY_DELAYS.into_iter();
        loop {
            let request = SinkRequest::get(&url).header("Metadata", "true");
            let request = SinkRequest { response_max: Some(RESPONSE_MAX), ..request };
            let result = self.imds_client.send(request).await;
            let is_temporary = match &result {
                Ok(response) if response.status == 200 => return result,
                Ok(response) => matches!(response.status, 404 | 410 | 429 | 500..=599),
                Err(_no_response) => true,
            };
            match delays.next() {
                Some(delay) if is_temporary => tokio::time::sleep(Duration::from_secs(delay)).await,
                _ => {
                    let hint = "the machine has no identity for this; assign one, or set client_id";
                    return Err(result?.into_error(hint));
                }
            }
        }
    }
}

async fn application_token(
    client: &SinkClient,
    url: &Url,
    form: Vec<u8>,
) -> Result<SinkResponse, DeliverError> {
    let request = SinkRequest {
        response_max: Some(RESPONSE_MAX),
        is_anonymous: true,
        ..SinkRequest::post(url, FORM, form)
    };
    let response = client.send(request).await?;
    let hint = match response.status {
        200 => return Ok(response),
        400 | 401 => "no token is given; check tenant, client_id and client_secret",
        _ => "no token is given; check login_url",
    };
    Err(response.into_error(hint))
}

/// URL of a machine's token for `audience`.
fn identity_url(server: Option<&Url>, audience: &str, client_id: Option<&str>) -> Option<Url> {
    let mut url = server.cloned().or_else(|| IMDS.parse().ok())?;
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
    fn the_url_has_the_parameters_of_the_service() {
        let audience = "https://monitor.azure.com";
        let usual = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
                     &resource=https%3A%2F%2Fmonitor.azure.com";
        assert_eq!(identity_url(None, audience, None).unwrap().as_str(), usual);
        let server = "http://127.0.0.1:9/metadata/instance?api-version=2021-02-01".parse().unwrap();
        let url = identity_url(Some(&server), audience, Some("c 1")).unwrap();
        assert_eq!(url.port(), Some(9));
        assert!(url.as_str().ends_with("&client_id=c+1"), "{url}");
    }
}
