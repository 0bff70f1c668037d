//! Azure's instance metadata service (IMDS): one request, bounded in time and size.
//!
//! The service has a link-local address that only the machine itself can reach, so the request must
//! not go through a proxy. The service requires the `Metadata` header, so that a forwarding web server
//! cannot be made to send the request.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::azure::parse;
use super::error::{ImdsError, RESPONSE_MAX};
use crate::schema::Azure;

/// URL of the metadata service.
pub const IMDS_URL: &str = "http://169.254.169.254/metadata/instance?api-version=2021-02-01";

/// Condition under which the metadata service is queried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImdsMode {
    /// Queried if the firmware identifies a virtual machine of Azure.
    #[default]
    Auto,
    /// Queried on every machine.
    On,
    /// Never queried.
    Off,
}

/// Configuration section `[azure]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureConfig {
    /// Condition under which the service is queried.
    pub imds: ImdsMode,
    /// URL that replaces [`IMDS_URL`].
    pub imds_url: Option<Url>,
}

/// Timeout and retry delays of requests to the metadata service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImdsRetryPolicy {
    /// Time limit for the complete response.
    pub timeout: Duration,
    /// Delay after the first failure; doubled after each further failure.
    pub retry_first: Duration,
    /// Maximum delay after a failure.
    pub retry_max: Duration,
}

impl ImdsRetryPolicy {
    /// 5 s for a response, which comes from the same rack; retries after 10 s to an hour.
    pub const DEFAULT: Self = Self {
        timeout: Duration::from_secs(5),
        retry_first: Duration::from_secs(10),
        retry_max: Duration::from_hours(1),
    };
}

/// Client of the metadata service.
#[derive(Debug)]
pub struct Imds {
    client: Client,
    url: Url,
    pub(super) retry: ImdsRetryPolicy,
}

impl Imds {
    /// Creates the client for the URL of `config`, by default [`IMDS_URL`].
    pub fn new(config: &AzureConfig, retry: ImdsRetryPolicy) -> Result<Self, ImdsError> {
        let default = || IMDS_URL.parse().map_err(|_bad| ImdsError::Url(IMDS_URL));
        let url = config.imds_url.clone().map_or_else(default, Ok)?;
        crate::http::crypto_provider::install_provider();
        let client = Client::builder()
            .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(Policy::none())
            .timeout(retry.timeout)
            // An idle connection is of no use: there is one request per hour.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(ImdsError::Client)?;
        Ok(Self { client, url, retry })
    }

    /// Sends one request, and parses the response.
    pub async fn fetch(&self) -> Result<Azure, ImdsError> {
        let request = self.client.get(self.url.clone()).header("Metadata", "true");
        let mut response = request.send().await.map_err(ImdsError::Request)?;
        if response.status() != StatusCode::OK {
            return Err(ImdsError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ImdsError::Request)? {
            if body.len() + chunk.len() > RESPONSE_MAX {
                return Err(ImdsError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        parse(&body)
    }
}
