//! OAuth: a token by client credentials (RFC 6749, 4.4), as Microsoft Entra ID gives it. Who asks
//! for it, and how often, is for others to say.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::{Deserialize, Deserializer};

use super::secret::Revealed;

/// A token and how long it is good.
#[derive(Clone)]
pub(crate) struct Grant {
    /// `Bearer TOKEN`.
    pub(crate) bearer: HeaderValue,
    /// From when it was asked for; a day at most.
    pub(crate) life: Duration,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grant for {:?}", self.life)
    }
}

#[derive(Deserialize)]
struct Given {
    access_token: String,
    #[serde(deserialize_with = "seconds")]
    expires_in: u64,
}

impl Grant {
    /// Out of the answer; `None` where it holds none. An error would show a part of it.
    pub(crate) fn read(answer: &[u8]) -> Option<Self> {
        let given: Given = serde_json::from_slice(answer).ok()?;
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", given.access_token)).ok()?;
        bearer.set_sensitive(true);
        let life = Duration::from_secs(given.expires_in.min(86_400));
        Some(Self { bearer, life })
    }
}

/// A number, or a number as text: the metadata service writes it so.
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

/// Where `tenant` gets its tokens at `login`; `None` where that is no base.
pub(crate) fn token_url(login: &Url, tenant: &str) -> Option<Url> {
    let mut url = login.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend([tenant, "oauth2", "v2.0", "token"]);
    Some(url)
}

/// The form that asks for a token for `scope`.
pub(crate) fn form(login: &Url, client_id: &str, secret: &Revealed, scope: &str) -> Vec<u8> {
    // Only its query is of use: it encodes as forms do.
    let mut form = login.clone();
    form.query_pairs_mut()
        .clear()
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", client_id)
        .append_pair("client_secret", secret.text())
        .append_pair("scope", scope);
    form.query().unwrap_or_default().as_bytes().to_vec()
}

/// What a form is.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_has_its_seconds_as_number_or_text() {
        for (answer, life) in [
            (r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#, Some(3599)),
            (r#"{"access_token":"t","expires_in":"86399","expires_on":"1"}"#, Some(86_399)),
            (r#"{"access_token":"t","expires_in":9999999}"#, Some(86_400)),
            (r#"{"access_token":"t\n","expires_in":1}"#, None),
            (r#"{"access_token":"t","expires_in":-1}"#, None),
            (r#"{"error":"invalid_client"}"#, None),
            ("", None),
        ] {
            let grant = Grant::read(answer.as_bytes());
            assert_eq!(grant.as_ref().map(|it| it.life.as_secs()), life, "{answer}");
            assert!(!format!("{grant:?}").contains("Bearer"));
        }
    }
}
