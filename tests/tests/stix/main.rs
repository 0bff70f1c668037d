//! Suite `stix`: the reader of patterns beside two others, `stix2-matcher` (OASIS) and `rstix`, and
//! the reader of objects on what `misp-stix` makes of public MISP events.
//!
//! Each deliberate difference is named in docs/stix.md and counted here.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test: what is not there fails it"
)]

mod events;
mod generate;
mod matcher;
mod rstix_ast;

use fastrand::Rng;
use generate::Pattern;

/// The same patterns in every test.
fn patterns(count: usize) -> Vec<Pattern> {
    let mut rng = Rng::with_seed(0x5719);
    (0..count).map(|_| generate::pattern(&mut rng)).collect()
}
