//! Reports of racks on their way into the log: many at a time in one entry.
//!
//! One entry is outstanding; what arrives meanwhile goes into the next one. So a storm of a thousand
//! answers makes a few entries, and a single one waits for nobody. Each sender is answered when its event
//! is applied here, never before.

use state::Entry;
use state::discovery::{Outcome, RackEntry, RackEvent};
use tokio::sync::{mpsc, oneshot};
use wire::ids::Revision;

use crate::core::{Core, Trouble};

/// Events that wait for their entry; when it is full senders wait, and with them their streams.
pub(super) const QUEUE: usize = 4096;
/// Most events in one entry.
const EVENTS: usize = 512;
/// About the most bytes in one entry.
const BYTES: usize = 1024 * 1024;

/// An event and who wants to know what became of it.
#[derive(Debug)]
pub struct Waiting {
    pub(super) event: RackEvent,
    pub(super) answer: oneshot::Sender<Result<Answered, Trouble>>,
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The answer.
    pub outcome: Outcome,
    /// The revision that holds it.
    pub revision: Revision,
}

pub(super) async fn run(core: Core, mut queue: mpsc::Receiver<Waiting>) {
    let mut carried: Option<Waiting> = None;
    loop {
        let first = match carried.take() {
            Some(first) => first,
            None => tokio::select! {
                biased;
                () = core.drain.stopping() => return,
                next = queue.recv() => match next {
                    Some(first) => first,
                    None => return,
                },
            },
        };
        let mut size = weight(&first.event);
        let mut batch = vec![first];
        while batch.len() < EVENTS
            && let Ok(next) = queue.try_recv()
        {
            let more = weight(&next.event);
            if size + more > BYTES {
                carried = Some(next);
                break;
            }
            size += more;
            batch.push(next);
        }
        commit(&core, batch).await;
    }
}

async fn commit(core: &Core, batch: Vec<Waiting>) {
    let (events, answers): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|waiting| (waiting.event, waiting.answer)).unzip();
    let entry = RackEntry { time: core.clock.unix(), cluster_time: core.racks.time().now(core), events };
    match core.propose(&Entry::Rack(entry)).await {
        Ok(applied) => {
            let revision = Revision(applied.revision);
            for (answer, outcome) in answers.into_iter().zip(applied.rack) {
                // Who asked may be gone; the event is committed all the same.
                let _ = answer.send(Ok(Answered { outcome, revision }));
            }
        }
        Err(trouble) => {
            for answer in answers {
                let _ = answer.send(Err(trouble.clone()));
            }
        }
    }
}

/// How many bytes an event takes in the log.
fn weight(event: &RackEvent) -> usize {
    wire::frame::encode(event).map_or(BYTES, |bytes| bytes.len())
}
