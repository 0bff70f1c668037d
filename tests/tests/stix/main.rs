//! Suite `stix`: compares the pattern reader with `stix2-matcher` (OASIS) and `rstix`, and the
//! object reader with `misp-stix` exports of public MISP events.
//!
//! Each deliberate difference is described in docs/stix.md and counted here.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends with a panic")]

mod events;
mod generate;
mod matcher;
mod rstix_ast;

use fastrand::Rng;
use generate::Pattern;

/// The same patterns for every test.
fn patterns(count: usize) -> Vec<Pattern> {
    let mut rng = Rng::with_seed(0x5719);
    (0..count).map(|_| generate::pattern(&mut rng)).collect()
}
