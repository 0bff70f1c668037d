//! Outcome of a request to the Logs Ingestion API.

use crate::deliver::DeliverError;
use crate::deliver::sinks::http_client::SinkResponse;

pub(super) fn outcome(response: SinkResponse) -> Result<(), DeliverError> {
    let hint = match response.status {
        200..=299 if response.is_web_page() => return Err(response.into_web_page()),
        200..=299 => return Ok(()),
        401 => "the token is not for this endpoint; check cloud and endpoint",
        403 => {
            "give the application or machine the role Monitoring Metrics Publisher on the data \
             collection rule, which takes up to 30 minutes"
        }
        404 => "check endpoint, dcr and the streams of the rule",
        _ => "",
    };
    Err(response.into_error(hint))
}
