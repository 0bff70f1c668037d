//! Azure's instance metadata service: one request, bounded in time and size.
//!
//! The service is on a link-local address that only the machine itself reaches; the request must
//! not go through a proxy, and its header keeps a forwarding web server from being made to ask.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::azure::parse;
use super::error::{ImdsError, RESPONSE_MAX};
use crate::schema::Azure;

/// Where the service is.
pub const IMDS_URL: &str = "http://169.254.169.254/metadata/instance?api-version=2021-02-01";

/// Whether the service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ImdsMode {
    /// Where the firmware says that the machine is Azure's.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// `[azure]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AzureConfig {
    /// Whether the service is asked.
    pub imds: ImdsMode,
    /// Where, in place of [`IMDS_URL`].
    pub imds_url: Option<Url>,
}

/// The waits of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImdsPace {
    /// Time for the whole answer.
    pub timeout: Duration,
    /// First wait after a failure; it doubles.
    pub retry_first: Duration,
    /// Longest such wait.
    pub retry_most: Duration,
}

impl ImdsPace {
    /// 5 s for an answer, which comes from the same rack; 10 s to an hour before asking again.
    pub const USUAL: Self = Self {
        timeout: Duration::from_secs(5),
        retry_first: Duration::from_secs(10),
        retry_most: Duration::from_hours(1),
    };
}

/// Asks the service.
#[derive(Debug)]
pub struct Imds {
    client: Client,
    url: Url,
    pub(super) pace: ImdsPace,
}

impl Imds {
    /// Asks where `config` says.
    pub fn new(config: &AzureConfig, pace: ImdsPace) -> Result<Self, ImdsError> {
        let usual = || IMDS_URL.parse().map_err(|_bad| ImdsError::Url(IMDS_URL));
        let url = config.imds_url.clone().map_or_else(usual, Ok)?;
        crate::http::crypto_provider::install_provider();
        let client = Client::builder()
            .user_agent(concat!("netsensor/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(Policy::none())
            .timeout(pace.timeout)
            // It is asked once an hour.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(ImdsError::Client)?;
        Ok(Self { client, url, pace })
    }

    /// Asks once.
    pub async fn ask(&self) -> Result<Azure, ImdsError> {
        let request = self.client.get(self.url.clone()).header("Metadata", "true");
        let mut response = request.send().await.map_err(ImdsError::Request)?;
        if response.status() != StatusCode::OK {
            return Err(ImdsError::Status(response.status()));
        }
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(ImdsError::Request)? {
            if answer.len() + chunk.len() > RESPONSE_MAX {
                return Err(ImdsError::TooLarge);
            }
            answer.extend_from_slice(&chunk);
        }
        parse(&answer)
    }
}
