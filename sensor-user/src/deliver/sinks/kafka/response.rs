//! Outcome of a message.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::future_producer::DeliveryFuture;

use crate::base::error_chain::chain;
use crate::deliver::batch::ItemError;

/// Waits for the outcome of one message, up to its time limit.
pub(super) async fn outcome(delivery: DeliveryFuture) -> Result<(), ItemError> {
    match delivery.await {
        Ok(Ok(_delivered)) => Ok(()),
        Ok(Err((error, _message))) => Err(item_error(&error)),
        Err(_canceled) => Err(ItemError::Retry("the producer has ended".to_owned())),
    }
}

pub(super) fn item_error(error: &KafkaError) -> ItemError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidRecord) => {
            ItemError::Rejected(chain(error))
        }
        _ => ItemError::Retry(chain(error)),
    }
}
