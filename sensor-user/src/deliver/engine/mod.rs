//! The delivery engine: per-sink task, queues, retry, acknowledgement.

pub mod ack_tracker;
pub mod backoff;
pub mod handle;
pub mod latency_histogram;
pub mod outbox;
pub mod retry_queue;
pub mod row_queue;
pub mod sink_status;
pub mod supervisor;
pub mod task;
