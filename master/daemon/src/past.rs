//! Reads the past from the store: what changed, which revision was the newest at a time, how everything was then.
//!
//! The state lock is held only to share tables; reading and rewinding go on beside the cluster's work.

use commands::notice;
use commands::when::When;
use state::history::{Query, Reading, Revision, Rewind};
use state::{Entry, Past, State, history_key};

use crate::core::{Core, Trouble};

/// An applied revision reaches the store a moment after the state; it is looked for so often.
const TRIES: usize = 8;

/// The state at a point of the past.
///
/// # Errors
/// A sentence for the user.
pub async fn state_at(core: &Core, text: &str) -> Result<State, String> {
    let number = match When::parse(text, core.clock.unix())? {
        When::Revision(number) => number,
        When::Now => core.read(State::revision),
        When::Time(time) => revision_at(core, time).await?,
    };
    for _ in 0..TRIES {
        let (newest, oldest) = core.read(|state| (state.revision(), state.oldest()));
        if number > newest {
            return Err(format!("There is no revision {number}; the newest is {newest}"));
        }
        if number < oldest {
            return Err(format!("Revision {number} is not kept any more; the oldest is {oldest}"));
        }
        let core_too = core.clone();
        let made = blocking(move || rewound(&core_too, number)).await?;
        if let Some(state) = made {
            return Ok(state);
        }
        core.barrier().await.map_err(|error| error.to_string())?;
    }
    Err(format!("The state at revision {number} cannot be put together now; try again"))
}

/// None when the store lags behind the state, or has let the oldest revisions go meanwhile.
fn rewound(core: &Core, number: u64) -> Result<Option<State>, String> {
    let now = core.read(State::derived);
    let (from, to) = (number + 1, now.revision());
    let mut rewind = Rewind::default();
    scan(core, from, to, false, |revision, past| {
        rewind.add(revision, past);
        true
    })?;
    Ok(rewind.covers(from, to).then(|| now.rewound(rewind, number)))
}

/// The newest revision that was made not after this unix second.
///
/// # Errors
/// A sentence for the user.
pub async fn revision_at(core: &Core, time: u64) -> Result<u64, String> {
    let core = core.clone();
    blocking(move || {
        let (mut after, mut before) = core.read(|state| (state.oldest(), state.revision() + 1));
        while before - after > 1 {
            let middle = after + (before - after) / 2;
            let mut found = None;
            scan(&core, middle, before - 1, false, |_, past| {
                found = Some(past.time);
                false
            })?;
            match found.is_some_and(|made| made <= time) {
                true => after = middle,
                false => before = middle,
            }
        }
        Ok(after)
    })
    .await
}

/// Answers a question about the past.
///
/// # Errors
/// A sentence for the user.
pub async fn read(core: &Core, query: Query) -> Result<(Query, Reading), String> {
    core.barrier().await.map_err(|error| error.to_string())?;
    let core = core.clone();
    blocking(move || {
        let mut reading = Reading::default();
        scan(&core, query.from, query.to, true, |revision, past| reading.add(&query, revision, past))?;
        Ok((query, reading))
    })
    .await
}

/// Revisions that [`forward`] reads at once.
const REVISIONS: u64 = 256;
/// Rows after which it takes no further revision.
const ROWS: usize = 10_000;

/// Whole revisions in their order, without a gap.
#[derive(Debug, Clone, Default)]
pub struct Forward {
    /// With all their rows.
    pub revisions: Vec<Revision>,
    /// The first revision that was not read.
    pub reached: u64,
}

/// Reads on from a revision, at most to another; nothing when the store does not have the first one.
///
/// # Errors
/// A sentence for the user.
pub async fn forward(core: &Core, from: u64, to: u64) -> Result<Forward, String> {
    let core = core.clone();
    blocking(move || {
        let mut read = Forward { revisions: Vec::new(), reached: from };
        let mut rows = 0;
        scan(&core, from, to.min(from.saturating_add(REVISIONS)), false, |number, past| {
            let known = read.revisions.last_mut().filter(|last| last.number == number);
            match known {
                Some(last) => {
                    rows += past.rows.len();
                    last.rows.extend(past.rows);
                }
                None if number != read.reached || rows > ROWS => return false,
                None => {
                    read.reached = number + 1;
                    rows += past.rows.len();
                    read.revisions.push(Revision {
                        number,
                        author: past.author,
                        command: past.command,
                        time: past.time,
                        rows: past.rows,
                    });
                }
            }
            true
        })?;
        Ok(read)
    })
    .await
}

/// Forgets the past up to a revision, in entries that each take a moment; gives the oldest revision that is left.
///
/// # Errors
/// [`Trouble`].
pub async fn forget(core: &Core, upto: u64) -> Result<u64, Trouble> {
    let passes = core.read(|state| notice::passes(state, upto));
    if !passes.is_empty() {
        core.propose(&Entry::Notify(passes)).await?;
    }
    loop {
        let oldest = core.read(State::oldest);
        if oldest >= upto {
            return Ok(oldest);
        }
        core.propose(&Entry::Compact(upto)).await?;
        if core.read(State::oldest) == oldest {
            return Ok(oldest);
        }
    }
}

/// Pieces of the revisions from one to another, both included.
fn scan(
    core: &Core,
    from: u64,
    to: u64,
    backwards: bool,
    mut each: impl FnMut(u64, Past) -> bool,
) -> Result<(), String> {
    if from > to {
        return Ok(());
    }
    let (first, end) = (history_key(from, 0), history_key(to.saturating_add(1), 0));
    let mut fault = None;
    let look = |key: &[u8], value: &[u8]| {
        let revision = key.get(2..10).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        match (revision, wire::frame::decode::<Past>(value)) {
            (Some(revision), Ok(past)) => each(revision, past),
            (_, past) => {
                let reason = past.err().map_or_else(String::new, |error| format!(": {error}"));
                fault = Some(format!("the history cannot be read{reason}"));
                false
            }
        }
    };
    core.group.scan(&first, &end, backwards, look).map_err(|error| error.to_string())?;
    fault.map_or(Ok(()), Err)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let gone = |_| Err("reading the past came to an end by an internal error".to_owned());
    tokio::task::spawn_blocking(work).await.unwrap_or_else(gone)
}
