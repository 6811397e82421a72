//! Patience that doubles, with full jitter: each wait is a random part of a growing ceiling, so that
//! a thousand callers who lost the same server do not come back at the same instant.
//!
//! Pure: the random number is an argument.

use std::time::Duration;

/// The growing ceiling of one caller's waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Starts with a ceiling of `base`, which doubles with each wait up to `cap`.
    #[must_use]
    pub fn new(base: Duration, cap: Duration) -> Self {
        let base = base.max(Duration::from_millis(1));
        Self { base, cap: cap.max(base), ceiling: base }
    }

    /// How long to wait now; `random` is any evenly spread number ([`crate::random::number`]).
    pub fn wait(&mut self, random: u64) -> Duration {
        let ceiling = self.ceiling;
        self.ceiling = ceiling.saturating_mul(2).min(self.cap);
        let micros = u64::try_from(ceiling.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(random % (micros + 1))
    }

    /// Called after a success: the next wait is short again.
    pub fn reset(&mut self) {
        self.ceiling = self.base;
    }

    /// The longest that the next wait can be.
    #[must_use]
    pub fn ceiling(&self) -> Duration {
        self.ceiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_cap_and_falls_back_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(450));
        let mut ceilings = Vec::new();
        for _ in 0..4 {
            ceilings.push(backoff.ceiling().as_millis());
            assert!(backoff.wait(u64::MAX) <= Duration::from_millis(450));
        }
        assert_eq!(ceilings, [100, 200, 400, 450]);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_millis(100));
    }

    #[test]
    fn a_wait_is_never_longer_than_its_ceiling() {
        for random in [0, 1, 99_999, 100_000, 100_001, u64::MAX] {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
            assert!(backoff.wait(random) <= Duration::from_millis(100));
        }
    }
}
