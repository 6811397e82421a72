//! Actions of this master: what runs now and what ended lately, with its output.
//!
//! The numbers and the fact that an action was begun and ended are in the replicated tables; the output is
//! here only, as long as it is kept. Invariant: a user has at most the allowed number of outstanding actions.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use commands::Output;
use tokio::sync::{mpsc, watch};
use wire::ids::{ActionId, RequestId};
use wire::rack::FanOutInput;

use crate::spool::{End, Spool};

/// Requests that a user can have outstanding for each action.
const REQUESTS: usize = 16;
/// Answers to changes that are remembered.
const ANSWERS: usize = 256;

/// What an action is, for those who list it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The request that made it.
    pub request: RequestId,
    /// Its number in the tables; none for a question that was not written down.
    pub id: Option<ActionId>,
    /// Whose.
    pub user: String,
    /// The command with its arguments, passwords masked.
    pub command: String,
    /// Unix seconds.
    pub started: u64,
}

/// An action that runs or ran here.
#[derive(Debug)]
pub struct Live {
    /// What it is.
    pub about: About,
    /// Its output.
    pub spool: Spool,
    cancel: watch::Sender<bool>,
    stdin: Mutex<Option<mpsc::Sender<FanOutInput>>>,
}

impl Live {
    /// Where standard input goes; the first who asks has it.
    #[must_use]
    pub fn take_stdin(&self) -> Option<mpsc::Sender<FanOutInput>> {
        self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Asks it to end.
    pub fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Whether it was asked to end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Waits until it is asked to end.
    pub async fn cancelled(&self) {
        // The sender lives in `self`: it cannot be gone.
        let _ = self.cancel.subscribe().wait_for(|cancelled| *cancelled).await;
    }
}

/// Why an action was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{user} has {limit} outstanding actions already; wait for one or cancel one (margay action list)")]
pub struct TooMany {
    user: String,
    limit: usize,
}

/// All actions of this master. Clones are the same.
#[derive(Debug, Clone)]
pub struct Actions {
    inner: Arc<Mutex<Inner>>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    per_user: usize,
    kept: usize,
    kept_for: Duration,
    per_node: usize,
    per_action: usize,
}

#[derive(Debug, Default)]
struct Inner {
    by_request: HashMap<RequestId, Arc<Live>>,
    by_id: BTreeMap<ActionId, RequestId>,
    running: BTreeMap<(Kind, String), usize>,
    ended: VecDeque<(RequestId, Instant)>,
    answers: VecDeque<(RequestId, Output)>,
}

/// What a user's seats are counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Work on nodes.
    Action,
    /// Anything that is being answered.
    Request,
}

/// A seat among what a user has outstanding, free again when dropped.
#[derive(Debug)]
pub struct Seat {
    inner: Arc<Mutex<Inner>>,
    key: (Kind, String),
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inner.running.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                inner.running.remove(&self.key);
            }
        }
    }
}

impl Actions {
    /// No actions yet.
    #[must_use]
    pub fn new(limits: &crate::config::Limits) -> Self {
        let limits = Limits {
            per_user: limits.actions_per_user,
            kept: limits.actions_kept,
            kept_for: Duration::from_secs(limits.output_kept),
            per_node: limits.output_per_node,
            per_action: limits.output_per_action,
        };
        Self { inner: Arc::default(), limits }
    }

    /// Remembers the answer to a change, for a client that lost it and asks again.
    pub fn answered(&self, request: RequestId, output: &Output) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.answers.len() >= ANSWERS {
            inner.answers.pop_front();
        }
        inner.answers.push_back((request, output.clone()));
    }

    /// The answer to a change that was made before.
    #[must_use]
    pub fn answer(&self, request: RequestId) -> Option<Output> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.iter().rev().find(|(known, _)| *known == request).map(|(_, output)| output.clone())
    }

    /// Takes a seat for one thing of a user.
    ///
    /// # Errors
    /// [`TooMany`] when all are taken.
    pub fn seat(&self, kind: Kind, user: &str) -> Result<Seat, TooMany> {
        let limit = match kind {
            Kind::Action => self.limits.per_user,
            Kind::Request => self.limits.per_user.saturating_mul(REQUESTS),
        };
        let key = (kind, user.to_owned());
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inner.running.entry(key.clone()).or_default();
        if *count >= limit {
            return Err(TooMany { user: user.to_owned(), limit });
        }
        *count += 1;
        Ok(Seat { inner: self.inner.clone(), key })
    }

    /// Begins an action, or finds the one that this request began before.
    ///
    /// # Errors
    /// The action that is there already.
    pub fn begin(
        &self,
        about: About,
        stdin: Option<mpsc::Sender<FanOutInput>>,
    ) -> Result<Arc<Live>, Arc<Live>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(live) = inner.by_request.get(&about.request) {
            return Err(live.clone());
        }
        let spool = Spool::new(self.limits.per_node, self.limits.per_action);
        let live =
            Arc::new(Live { about, spool, cancel: watch::Sender::new(false), stdin: Mutex::new(stdin) });
        inner.by_request.insert(live.about.request, live.clone());
        if let Some(id) = live.about.id {
            inner.by_id.insert(id, live.about.request);
        }
        Ok(live)
    }

    /// Ends an action; its output is kept for a while.
    pub fn end(&self, live: &Live, end: End) {
        live.spool.finish(end);
        let now = Instant::now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ended.push_back((live.about.request, now));
        while inner.ended.len() > self.limits.kept
            || inner.ended.front().is_some_and(|(_, ended)| now.duration_since(*ended) > self.limits.kept_for)
        {
            let Some((request, _)) = inner.ended.pop_front() else { break };
            if let Some(id) = inner.by_request.remove(&request).and_then(|live| live.about.id) {
                inner.by_id.remove(&id);
            }
        }
    }

    /// The action that a request made.
    #[must_use]
    pub fn of_request(&self, request: RequestId) -> Option<Arc<Live>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).by_request.get(&request).cloned()
    }

    /// The action with this number.
    #[must_use]
    pub fn of_id(&self, id: ActionId) -> Option<Arc<Live>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_id.get(&id).and_then(|request| inner.by_request.get(request)).cloned()
    }

    /// Everything that runs now.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<Live>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.by_request.values().filter(|live| live.spool.end().is_none()).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn about(sequence: u64) -> About {
        About {
            request: RequestId { client: 1, sequence },
            id: Some(ActionId(sequence)),
            user: "ann".into(),
            command: "rpower n1 on".into(),
            started: 0,
        }
    }

    fn actions(per_user: usize, kept: usize) -> Actions {
        Actions::new(&crate::config::Limits {
            actions_per_user: per_user,
            actions_kept: kept,
            ..Default::default()
        })
    }

    #[test]
    fn a_request_that_is_sent_again_finds_its_action() {
        let actions = actions(4, 4);
        let first = actions.begin(about(1), None).unwrap();
        assert!(Arc::ptr_eq(&actions.begin(about(1), None).unwrap_err(), &first));
    }

    #[test]
    fn a_user_who_has_all_seats_waits_for_a_free_one() {
        let actions = actions(2, 4);
        let seat = actions.seat(Kind::Action, "ann").unwrap();
        let _other = actions.seat(Kind::Action, "ann").unwrap();
        assert!(actions.seat(Kind::Action, "ann").is_err());
        assert!(actions.seat(Kind::Action, "bob").is_ok());
        drop(seat);
        assert!(actions.seat(Kind::Action, "ann").is_ok());
    }

    #[test]
    fn only_so_many_ended_actions_are_kept() {
        let actions = actions(9, 2);
        for sequence in 1..=4 {
            let live = actions.begin(about(sequence), None).unwrap();
            actions.end(&live, End { status: 0, revision: 1 });
        }
        assert!(actions.of_id(ActionId(2)).is_none());
        assert!(actions.of_id(ActionId(3)).is_some() && actions.of_id(ActionId(4)).is_some());
    }
}
