//! Time as a parameter: the agent reads the wall clock, replay takes it from its input.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Source of "now". Only `main` picks the real one.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The present instant, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
        Timestamp::now()
    }
}

/// A clock that stands where it is put: `replay --at`, and tests.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Samples of the two clocks at most, to find a close pair.
const SAMPLES: u32 = 4;
/// Boot time that may pass while the wall clock is read, for a close pair.
const CLOSE_ENOUGH_NS: u64 = 20_000;

/// Turns the kernel's boot time (`bpf_ktime_get_boot_ns`, `CLOCK_BOOTTIME`) into wall time.
///
/// The pipeline samples the offset before every drain. A wall clock that is set is followed from
/// the next drain on: what happened shortly before that is told in the new time too. The machine's
/// sleep is in boot time, so it shifts nothing.
#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    offset_ns: i128,
}

impl BootClock {
    /// Samples both clocks now: the wall clock between two looks at the other, so that a thread
    /// that is held up between them shifts no time.
    pub fn sample(clock: &dyn Clock) -> Self {
        let try_once = || {
            let before = boot_ns();
            let wall = clock.now().as_nanosecond();
            let after = boot_ns();
            (after.saturating_sub(before), wall - i128::from(before.midpoint(after)))
        };
        let mut best = try_once();
        for _again in 1..SAMPLES {
            if best.0 <= CLOSE_ENOUGH_NS {
                break;
            }
            best = best.min(try_once());
        }
        Self { offset_ns: best.1 }
    }

    /// A conversion with a known offset (wall minus boot, ns), for tests.
    pub const fn with_offset_ns(offset_ns: i128) -> Self {
        Self { offset_ns }
    }

    /// The wall time of a boot-time instant in nanoseconds; saturates at the ends of time.
    pub fn wall(&self, boot_ns: u64) -> Timestamp {
        let ns = self.offset_ns + i128::from(boot_ns);
        Timestamp::from_nanosecond(ns).unwrap_or(if ns < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

/// A duration as jiff counts it; the longest one where it does not fit.
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Nanoseconds since boot, suspend included (`CLOCK_BOOTTIME`): the clock of kernel records.
pub fn boot_ns() -> u64 {
    clock_ns(ClockId::CLOCK_BOOTTIME)
}

/// Nanoseconds of `CLOCK_MONOTONIC`, which stands still in a suspend: the clock of datagrams.
pub fn monotonic_ns() -> u64 {
    clock_ns(ClockId::CLOCK_MONOTONIC)
}

fn clock_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |now| {
        let secs = u64::try_from(now.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec()).unwrap_or(0);
        secs.saturating_mul(1_000_000_000).saturating_add(nanos)
    })
}
