//! Which waits this master sees to: each one once in its term, whoever opened it and whoever joins.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use state::discovery::waits::{self, Stage};
use state::view::{Tables, column};

use crate::core::Core;

/// See the module. Invariant: a node has at most one entry.
#[derive(Debug, Default)]
pub struct Claims(Mutex<Claimed>);

#[derive(Debug, Default)]
struct Claimed {
    term: u64,
    /// The revision that opened the wait of each node.
    waits: HashMap<String, String>,
}

impl Claims {
    /// Those of these nodes that wait and that nobody sees to yet; from now on the caller does.
    pub(super) fn take<'n>(&self, core: &Core, nodes: impl Iterator<Item = &'n str>) -> Vec<(String, Stage)> {
        let term = core.group.status().borrow().term;
        let waiting: Vec<(String, String, Stage)> = core.read(|state| {
            nodes
                .filter_map(|node| Some((node, state.row("taskstate", &[node, waits::COMMAND])?)))
                .filter(|(_, row)| waits::is_waiting(row))
                .map(|(node, row)| (node.to_owned(), column(&row, "opened").to_owned(), waits::stage(&row)))
                .collect()
        });
        self.claim(term, waiting)
    }

    fn claim(&self, term: u64, waiting: Vec<(String, String, Stage)>) -> Vec<(String, Stage)> {
        let mut claimed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Another master led meanwhile: what it saw to must be looked at anew.
        if claimed.term != term {
            *claimed = Claimed { term, waits: HashMap::new() };
        }
        let fresh = |(node, opened, stage): (String, String, Stage)| {
            (claimed.waits.insert(node.clone(), opened.clone()) != Some(opened)).then_some((node, stage))
        };
        waiting.into_iter().filter_map(fresh).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_seen_to_once_in_a_term_and_the_next_wait_again() {
        let claims = Claims::default();
        let stage = Stage::Opened { force: false };
        let take = |term, opened: &str| claims.claim(term, vec![("n1".into(), opened.into(), stage)]).len();
        assert_eq!((take(1, "7"), take(1, "7")), (1, 0));
        assert_eq!(take(1, "9"), 1, "another wait");
        assert_eq!((take(2, "9"), take(2, "9")), (1, 0), "another term");
    }
}
