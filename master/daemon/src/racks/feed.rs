//! Keeps the mirrors of service nodes fresh.
//!
//! One task follows the committed changes and notes for each revision which views it touched, for the last
//! changes. A session that is at one of these revisions gets only what was touched since; any other one
//! gets everything, in pieces. Views are computed when they are sent: many changes of one node between two
//! sends are one view.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use link::Sender;
use state::view::{self, Affected, Touch};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use wire::ids::Revision;
use wire::rack::Down;
use wire::view::{NodeView, ViewUpdate};

use super::session::Session;
use crate::core::Core;
use crate::machine::Committed;

/// Nodes named in the notes of past changes; more make the oldest notes go.
const NOTES: usize = 200_000;
/// Nodes whose views are computed while the state is held.
const AT_ONCE: usize = 128;
/// About the most bytes in one piece of an update.
const PIECE: usize = 512 * 1024;

/// What changed lately.
#[derive(Debug)]
pub(super) struct Feed {
    notes: Mutex<Notes>,
    /// The revision that the notes reach up to.
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Notes {
    /// Changes after this revision are noted.
    from: u64,
    touched: VecDeque<(u64, Affected)>,
    nodes: usize,
}

impl Default for Feed {
    fn default() -> Self {
        Self { notes: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl Feed {
    /// Nothing is known of what was before.
    fn restart(&self, revision: u64) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        *notes = Notes { from: revision, ..Notes::default() };
        drop(notes);
        self.latest.send_replace(revision);
    }

    fn note(&self, revision: u64, affected: Affected) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if !affected.is_nothing() {
            notes.nodes += affected.nodes.len() + 1;
            notes.touched.push_back((revision, affected));
        }
        while notes.nodes > NOTES
            && let Some((revision, gone)) = notes.touched.pop_front()
        {
            notes.from = revision;
            notes.nodes -= gone.nodes.len() + 1;
        }
        drop(notes);
        self.latest.send_replace(revision);
    }

    /// What was touched after a revision; none when the notes do not reach back that far, or when it is of
    /// a future that never came.
    fn since(&self, revision: u64) -> Option<Affected> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        if revision < notes.from || revision > *self.latest.borrow() {
            return None;
        }
        let mut all = Affected::default();
        for (_, affected) in notes.touched.iter().filter(|(at, _)| *at > revision) {
            all.merge(affected.clone());
        }
        Some(all)
    }
}

/// Notes every committed change.
pub(super) async fn follow(core: Core) {
    let mut committed = core.committed();
    let feed = core.racks.feed();
    feed.restart(core.read(state::State::revision));
    loop {
        let next = tokio::select! {
            biased;
            () = core.drain.stopping() => return,
            next = committed.recv() => next,
        };
        match next {
            // The whole state was replaced.
            Ok(change) if change.events.is_empty() => feed.restart(change.revision),
            Ok(change) => {
                if change.revision > *feed.latest.borrow() {
                    let affected = affected(&core, &change);
                    feed.note(change.revision, affected);
                }
            }
            Err(RecvError::Lagged(_)) => feed.restart(core.read(state::State::revision)),
            Err(RecvError::Closed) => return,
        }
    }
}

fn affected(core: &Core, change: &Committed) -> Affected {
    let mut all = Affected::default();
    for events in change.events.chunks(AT_ONCE) {
        core.read(|state| {
            for event in events {
                if !view::shows(event.table_name()) || event.is_unseen() {
                    continue;
                }
                let (old, new) = event.rows();
                let touch = Touch { table: event.table_name(), old: old.as_ref(), new: new.as_ref() };
                all.merge(view::affected(state, touch));
            }
        });
    }
    all
}

/// Sends a session what its mirror lacks, for ever.
///
/// # Errors
/// When the service node can no longer be reached.
pub(super) async fn feed(
    core: &Core,
    session: &Session,
    sender: &mut Sender,
    mirror: Revision,
) -> Result<(), link::LinkError> {
    let masters = core.config.members().into_iter().map(|member| member.address).collect();
    sender.send(&Down::Masters(masters)).await?;
    let mut latest = core.racks.feed().latest.subscribe();
    // What is known already is noted first: it would be sent twice otherwise.
    let known = core.read(state::State::revision);
    if latest.wait_for(|noted| *noted >= known).await.is_err() {
        return Ok(());
    }
    let mut sent = mirror.0;
    let mut greeted = false;
    loop {
        let now = *latest.borrow_and_update();
        let changed = core.racks.feed().since(sent).filter(|_| sent > 0);
        match changed {
            Some(changed) if changed.is_nothing() && greeted => {}
            Some(changed) => update(core, session, sender, now, Some(changed)).await?,
            None => update(core, session, sender, now, None).await?,
        }
        greeted = true;
        sent = now;
        // The sender lives in the core, which lives as long as this session.
        if latest.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Sends views, all of them without `changed`.
async fn update(
    core: &Core,
    session: &Session,
    sender: &mut Sender,
    revision: u64,
    changed: Option<Affected>,
) -> Result<(), link::LinkError> {
    let rack = session.name();
    let full = changed.is_none();
    let changed = changed.unwrap_or(Affected { site: true, all: true, ..Affected::default() });
    let names: Vec<String> = match changed.all {
        true => {
            let mut names = core.read(|state| state.node_names().map(str::to_owned).collect::<Vec<_>>());
            // Those that are gone must be named, too.
            names.extend(changed.nodes);
            names
        }
        false => changed.nodes.into_iter().collect(),
    };
    let mut piece = ViewUpdate { revision: Revision(revision), full, more: true, ..ViewUpdate::default() };
    if changed.site {
        piece.site = Some(core.read(|state| view::site_view(state, &core.config.cluster, rack)));
    }
    let mut size = 0;
    for names in names.chunks(AT_ONCE) {
        let views: Vec<Result<NodeView, &String>> = core.read(|state| {
            let mine = |name: &String| state.is_node(name) && view::in_scope(state, name, rack);
            names
                .iter()
                .map(|name| if mine(name) { Ok(view::node_view(state, name)) } else { Err(name) })
                .collect()
        });
        for view in views {
            match view {
                Ok(view) => {
                    size += weight(&view);
                    piece.nodes.push(view);
                }
                Err(_) if full => {}
                Err(gone) => {
                    size += gone.len();
                    piece.removed.push(gone.clone());
                }
            }
            if size > PIECE {
                let next = ViewUpdate { revision: piece.revision, more: true, ..ViewUpdate::default() };
                sender.send(&Down::View(std::mem::replace(&mut piece, next))).await?;
                size = 0;
            }
        }
    }
    piece.more = false;
    sender.send(&Down::View(piece)).await
}

/// About how many bytes a view takes.
fn weight(view: &NodeView) -> usize {
    wire::frame::encode(view).map_or(PIECE, |bytes| bytes.len())
}
