//! The delivery engine: one task per sink with its queues, retries and acknowledgements.

mod ack_tracker;
mod backoff;
mod context;
mod latency_histogram;
mod outbox;
mod retry_queue;
mod row_queue;
mod sink_handle;
mod sink_health;
mod sink_task;
mod supervisor;

pub use backoff::RetryPolicy;
pub use latency_histogram::LatencyHistogram;
pub use outbox::Outbox;
pub use sink_health::SinkReport;
pub use supervisor::{Deliverer, Delivery, Leftover, Reloaded, StartError};
