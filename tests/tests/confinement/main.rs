//! What a running agent may not do, tried in its own process; what it and its helpers hold, by
//! /proc; and that all of it works so.

mod alerts;
mod harness;
mod helpers;
mod refusals;
