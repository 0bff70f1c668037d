//! Confinement of a running agent: operations that must fail, tried in its own process; the
//! capabilities of all processes, from /proc; and a check that everything still works.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends with a panic"
)]

mod alerts;
mod harness;
mod refusals;
mod workers;
