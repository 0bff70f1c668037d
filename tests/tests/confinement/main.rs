//! What a running agent may not do, tried in its own process; what it and its helpers hold, by
//! /proc; and that all of it works so.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a suite stops where its machinery fails"
)]

mod alerts;
mod harness;
mod helpers;
mod refusals;
