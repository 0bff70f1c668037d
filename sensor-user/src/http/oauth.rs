//! OAuth 2.0: an access token by client credentials (RFC 6749, 4.4), as Microsoft Entra ID issues it. The
//! callers send the request, and decide when to refresh.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Deserializer};

use super::secret::SecretText;

/// An access token and its lifetime.
#[derive(Clone)]
pub(crate) struct AccessToken {
    /// Value of the `Authorization` header.
    pub(crate) bearer: HeaderValue,
    /// Lifetime from the time of the request; at most a day.
    pub(crate) lifetime: Duration,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessToken for {:?}", self.lifetime)
    }
}

#[derive(Deserialize)]
struct TokenResponse {
    access_token: String,
    #[serde(deserialize_with = "seconds")]
    expires_in: u64,
}

impl AccessToken {
    /// Parses a token response; `None` where it has no token. An error would contain a part of it.
    pub(crate) fn parse(response: &[u8]) -> Option<Self> {
        let parsed: TokenResponse = serde_json::from_slice(response).ok()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", parsed.access_token)).ok()?;
        bearer.set_sensitive(true);
        let lifetime = Duration::from_secs(parsed.expires_in.min(86_400));
        Some(Self { bearer, lifetime })
    }
}

/// A number, or a number as text, which the metadata service returns.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// Token endpoint of `tenant` at `login`; `None` where that URL cannot be a base.
pub(crate) fn token_url(login: &Url, tenant: &str) -> Option<Url> {
    let mut url = login.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend([tenant, "oauth2", "v2.0", "token"]);
    Some(url)
}

/// Request body for a token for `scope`.
pub(crate) fn form(login: &Url, client_id: &str, secret: &SecretText, scope: &str) -> Vec<u8> {
    // Only the query is used: its encoding is that of forms.
    let mut form = login.clone();
    form.query_pairs_mut()
        .clear()
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("client_secret", secret.text())
        .append_pair("scope", scope);
    form.query().unwrap_or_default().as_bytes().to_vec()
}

/// Media type of the request body.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_or_text() {
        for (response, lifetime) in [
            (r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, Some(3599)),
            (r#"{"access_token":"t","expires_in":"86399","expires_on":"1"}"#, Some(86_399)),
            (r#"{"access_token":"t","expires_in":9999999}"#, Some(86_400)),
            (r#"{"access_token":"t\n","expires_in":1}"#, None),
            (r#"{"access_token":"t","expires_in":-1}"#, None),
            (r#"{"error":"invalid_client"}"#, None),
            ("", None),
        ] {
            let token = AccessToken::parse(response.as_bytes());
            assert_eq!(token.as_ref().map(|it| it.lifetime.as_secs()), lifetime, "{response}");
            assert!(!format!("{token:?}").contains("Bearer"));
        }
    }
}
