//! Outcome of a message.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;

use crate::base::error_chain::chain;
use crate::deliver::batch::{Accepted, ItemError};

/// Waits for the outcome of one message, up to its time limit.
pub(super) async fn outcome(delivery: DeliveryFuture) -> Result<Accepted, ItemError> {
    match delivery.await {
        Ok(Ok(_delivered)) => Ok(Accepted::Stored),
        Ok(Err((error, _message))) => Err(item_error(&error)),
        Err(_canceled) => Err(ItemError::Retry("the producer has ended".to_owned())),
    }
}

pub(super) fn item_error(error: &KafkaError) -> ItemError {
    match error.rdkafka_error_code() {
        // About the message, also for the topic's limit of a message's time.
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTimestamp,
        ) => ItemError::Rejected(chain(error)),
        _ => ItemError::Retry(chain(error)),
    }
}
