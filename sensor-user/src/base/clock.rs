//! Clocks. Time is a parameter: the agent reads the wall clock, replay takes time from its input.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// Source of the current time. Only the start of a command chooses the system clock.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Returns the current time, UTC.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the only reader of the wall clock")]
        Timestamp::now()
    }
}

/// A clock with a fixed time, for `replay --at` and tests.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// Limit of the samples of both clocks that are tried for a close pair.
const SAMPLES: u32 = 4;
/// Boot time that may pass while the wall clock is read, in a close pair.
const CLOSE_ENOUGH_NS: u64 = 20_000;

/// Conversion of the kernel's boot time (`bpf_ktime_get_boot_ns`, `CLOCK_BOOTTIME`) to wall time.
///
/// The pipeline samples the offset before every drain, so a changed wall clock takes effect at the next
/// drain: events shortly before the change are reported in the new time too. Boot time includes
/// suspend, so suspend causes no shift.
#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    offset_ns: i128,
}

impl BootClock {
    /// Samples both clocks now: the wall clock between two reads of boot time, so that a preempted
    /// thread shifts no time.
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

    /// A conversion with a fixed offset (wall minus boot, ns), for tests.
    pub const fn with_offset_ns(offset_ns: i128) -> Self {
        Self { offset_ns }
    }

    /// Converts nanoseconds of boot time to wall time, saturating at the limits of `Timestamp`.
    pub fn wall(&self, boot_ns: u64) -> Timestamp {
        let ns = self.offset_ns + i128::from(boot_ns);
        Timestamp::from_nanosecond(ns).unwrap_or(if ns < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        })
    }
}

/// Converts a duration to jiff's type, saturating.
pub fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Returns nanoseconds since boot including suspend (`CLOCK_BOOTTIME`), the clock of kernel records.
pub fn boot_ns() -> u64 {
    clock_ns(ClockId::CLOCK_BOOTTIME)
}

/// Returns nanoseconds of `CLOCK_MONOTONIC`, which stops during suspend, the clock of datagrams.
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
