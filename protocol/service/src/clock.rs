//! The clock: the real one, or one that a test moves by hand.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A source of time that can be handed around and cloned.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The machine's clock.
    #[default]
    Real,
    /// Stands still until a test moves it.
    Manual(Manual),
}

impl Clock {
    /// A point for deadlines.
    #[must_use]
    pub fn now(&self) -> Instant {
        match self {
            Self::Real => Instant::now(),
            Self::Manual(manual) => manual.start + manual.passed(),
        }
    }

    /// Seconds since 1970, for labels and for the wire.
    #[must_use]
    pub fn unix(&self) -> u64 {
        match self {
            Self::Real => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Self::Manual(manual) => manual.unix.load(Ordering::Relaxed) + manual.passed().as_secs(),
        }
    }

    /// Waits until the clock shows `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        match self {
            Self::Real => tokio::time::sleep_until(deadline.into()).await,
            Self::Manual(manual) => {
                let mut moved = manual.moved.lock().unwrap_or_else(PoisonError::into_inner).subscribe();
                // The sender lives in the clock that we hold: it cannot be gone.
                let _ = moved.wait_for(|passed| manual.start + *passed >= deadline).await;
            }
        }
    }

    /// Waits for `duration` of this clock, counted from the call and not from the first poll.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + '_ {
        self.sleep_until(self.now() + duration)
    }
}

/// A clock that a test moves.
#[derive(Debug, Clone)]
pub struct Manual {
    start: Instant,
    unix: Arc<AtomicU64>,
    moved: Arc<Mutex<watch::Sender<Duration>>>,
}

impl Manual {
    /// A clock that shows `unix` seconds since 1970 and stands still.
    #[must_use]
    pub fn new(unix: u64) -> Self {
        let moved = Arc::new(Mutex::new(watch::Sender::new(Duration::ZERO)));
        Self { start: Instant::now(), unix: Arc::new(AtomicU64::new(unix)), moved }
    }

    /// Somebody sets the date: the time of day jumps ahead, and no deadline comes nearer.
    pub fn jump(&self, by: Duration) {
        self.unix.fetch_add(by.as_secs(), Ordering::Relaxed);
    }

    /// Moves the clock and wakes whoever has slept long enough.
    pub fn advance(&self, by: Duration) {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).send_modify(|passed| *passed += by);
    }

    fn passed(&self) -> Duration {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner).borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_sleepers_when_it_is_moved_far_enough() {
        let manual = Manual::new(1_000);
        let clock = Clock::Manual(manual.clone());
        let sleeper = clock.sleep(Duration::from_secs(60));
        tokio::pin!(sleeper);
        manual.advance(Duration::from_secs(59));
        tokio::select! {
            biased;
            () = &mut sleeper => panic!("woke a second early"),
            () = std::future::ready(()) => {}
        }
        manual.advance(Duration::from_secs(1));
        sleeper.await;
        assert_eq!(clock.unix(), 1_060);
        let now = clock.now();
        manual.jump(Duration::from_secs(3_600));
        assert_eq!((clock.unix(), clock.now()), (4_660, now));
    }

    #[test]
    fn the_real_clock_knows_the_year() {
        assert!(Clock::Real.unix() > 1_700_000_000);
    }
}
