//! Changes that are too large for one entry of the log: proposed in parts, applied by one last entry.
//!
//! Parts whose proposer is gone are swept away: by a member that begins to lead, and when they are overdue. A part
//! that is swept although it was wanted refuses its change, which is planned again; nothing is ever half done.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use state::{Content, Entry, Part, Precondition, RowChange, STAGE_LIFE, STAGED, State, Transaction, Whole};
use tracing::{info, warn};

use crate::core::{Core, Trouble};
use crate::machine::Answer;

/// Bytes of an entry, by the reckoning of [`RowChange::weight`].
const ENTRY: usize = 1024 * 1024;
/// How long the last entry may take: many rows are changed by it.
const APPLY: Duration = Duration::from_secs(60);
/// How often overdue parts are looked for.
const LOOK: Duration = Duration::from_secs(60);

/// Numbers of the changes that this member is about to propose.
#[derive(Debug, Default)]
pub struct Stages(Mutex<BTreeSet<u64>>);

/// A number that is in use until this is dropped.
struct Own<'a> {
    stages: &'a Stages,
    number: u64,
}

impl Stages {
    fn own(&self) -> Own<'_> {
        let number = service::random::number();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        Own { stages: self, number }
    }

    fn is_own(&self, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&number)
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        self.stages.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Whether a transaction does not fit into one entry.
#[must_use]
pub fn is_large(transaction: &Transaction) -> bool {
    let mut left = ENTRY;
    let weights = transaction.preconditions.iter().map(Precondition::weight);
    let mut weights = weights.chain(transaction.changes.iter().map(RowChange::weight));
    !weights.all(|weight| {
        let fits = weight <= left;
        left = left.saturating_sub(weight);
        fits
    })
}

/// Proposes a transaction in parts.
///
/// # Errors
/// [`Trouble`]; unless it is [`Trouble::Unknown`], nothing was changed.
pub async fn in_parts(core: &Core, mut transaction: Transaction) -> Result<Answer, Trouble> {
    let weight: usize = transaction.preconditions.iter().map(Precondition::weight).sum::<usize>()
        + transaction.changes.iter().map(RowChange::weight).sum::<usize>();
    if weight > STAGED {
        return Err(Trouble::Refused(format!(
            "a change of about {weight} bytes is larger than the limit of {STAGED}; nothing was done"
        )));
    }
    let own = core.stages.own();
    let preconditions = std::mem::take(&mut transaction.preconditions);
    let changes = std::mem::take(&mut transaction.changes);
    let preconditions = packed(preconditions, Precondition::weight).map(Content::Preconditions);
    let contents = preconditions.chain(packed(changes, RowChange::weight).map(Content::Changes));
    let mut parts = 0;
    for content in contents {
        let part = Part { stage: own.number, number: parts, time: core.clock.unix(), content };
        if let Err(trouble) = core.propose(&Entry::Part(part)).await {
            forget(core, vec![own.number]).await;
            // A part that may or may not be there has changed nothing; another leader begins anew.
            return Err(trouble);
        }
        parts += 1;
    }
    let whole = Entry::Whole(Whole { transaction, stage: own.number, parts });
    let bytes = wire::frame::encode(&whole).map_err(|error| Trouble::Refused(error.to_string()))?;
    Ok(core.group.propose_within(bytes, APPLY).await?.1)
}

/// Cuts a list into parts that fit into entries; one thing alone may be heavier.
fn packed<T>(list: Vec<T>, weight: impl Fn(&T) -> usize) -> impl Iterator<Item = Vec<T>> {
    let mut rest = list.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut part = vec![rest.next()?];
        let mut bytes = weight(&part[0]);
        while let Some(next) = rest.next_if(|next| bytes + weight(next) <= ENTRY) {
            bytes += weight(&next);
            part.push(next);
        }
        Some(part)
    })
}

/// Forgets parts that nobody will complete, while this member leads.
pub async fn sweep(core: Core) {
    let mut status = core.group.status();
    let mut led = false;
    loop {
        let leads = core.leads();
        if leads {
            let late = core.clock.unix().saturating_sub(STAGE_LIFE);
            let gone = |(number, time): (u64, u64)| {
                ((!led || time < late) && !core.stages.is_own(number)).then_some(number)
            };
            // What an earlier leader's log still holds must be seen first.
            let seen = led || core.barrier().await.is_ok();
            let left: Vec<u64> = core.read(|state: &State| state.stages().filter_map(gone).collect());
            if seen && !left.is_empty() {
                info!(changes = left.len(), "parts of changes that nobody completes are forgotten");
                forget(&core, left).await;
            }
            led = seen;
        } else {
            led = false;
        }
        let changed = async {
            let _ = status.wait_for(|status| (status.role == storage::Role::Leader) != leads).await;
        };
        tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            () = changed => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

async fn forget(core: &Core, stages: Vec<u64>) {
    match core.propose(&Entry::Forget(stages)).await {
        Ok(_) | Err(Trouble::NotLeader(_)) => {}
        Err(error) => warn!(%error, "parts of a change were not forgotten"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(count: usize, bytes: usize) -> Vec<RowChange> {
        let text = "x".repeat(bytes);
        (0..count).map(|number| RowChange::set("site", &[&number.to_string()], &[("value", &text)])).collect()
    }

    #[test]
    fn parts_hold_everything_in_order_and_fit_into_entries() {
        let changes = sets(1000, 5000);
        assert!(is_large(&Transaction { changes: changes.clone(), ..Transaction::default() }));
        assert!(!is_large(&Transaction { changes: sets(100, 5000), ..Transaction::default() }));
        let parts: Vec<Vec<RowChange>> = packed(changes.clone(), RowChange::weight).collect();
        assert!((5..10).contains(&parts.len()), "{} parts", parts.len());
        for part in &parts {
            let entry =
                Entry::Part(Part { stage: 1, number: 0, time: 0, content: Content::Changes(part.clone()) });
            assert!(wire::frame::encode(&entry).is_ok_and(|bytes| bytes.len() <= storage::MAX_ENTRY));
        }
        assert_eq!(parts.concat(), changes);
    }

    #[test]
    fn the_weight_of_a_change_is_not_below_its_bytes() {
        let guard = Precondition::Value {
            table: "nodelist".into(),
            key: vec!["n1".into(), String::new()],
            column: "groups".into(),
            value: "all".into(),
        };
        let restore =
            RowChange::Restore { table: "site".into(), id: u64::MAX, cells: vec![("a".into(), "b".into())] };
        let others = [
            RowChange::delete("switch", &["n1", "sw1", "12", ""]),
            RowChange::Clear { table: "mac".into() },
            RowChange::ForgetNode { node: "n1".into() },
            restore,
        ];
        for change in sets(3, 300).into_iter().chain(others) {
            assert!(
                wire::frame::encode(&change).is_ok_and(|bytes| bytes.len() <= change.weight()),
                "{change:?}"
            );
        }
        assert!(wire::frame::encode(&guard).is_ok_and(|bytes| bytes.len() <= guard.weight()));
    }
}
