//! What the rack has to say to the masters: kept until a master has stored it.
//!
//! Reports of nodes wait in a queue, at most one of each kind for each node (a newer one takes the older
//! one's place and answers for it), and go up in batches. Everything else is said by whoever waits for the
//! answer. No master is no error: it is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use link::Connection;
use service::{Backoff, Counter, Drain};
use tokio::sync::{Semaphore, oneshot, watch};
use tracing::{debug, warn};
use wire::agent::Report;
use wire::ids::Revision;
use wire::rack::{FromRack, RackAnswer, RackReport};

/// A master that does not answer by then is asked again.
const ANSWER: Duration = Duration::from_secs(30);
/// Most node reports in one message, and most bytes of them.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 1024 * 1024;
/// Questions to the master at a time; it allows 64 streams, and fan-outs' answers need none of them.
const AT_A_TIME: usize = 32;
/// Longest wait before the same thing is said again.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// What became of a report: stored at a revision, or refused and why.
pub type Settled = Result<Revision, String>;

/// The way up. Clones are the same way.
#[derive(Debug, Clone)]
pub struct Reports {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    master: watch::Sender<Option<Connection>>,
    queue: Mutex<Queue>,
    filled: watch::Sender<u64>,
    seats: Semaphore,
    resent: Counter,
}

type Key = (String, u8);

#[derive(Debug, Default)]
struct Queue {
    count: u64,
    waiting: BTreeMap<Key, Waiting>,
    order: BTreeMap<u64, Key>,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    report: Report,
    at: u64,
    size: usize,
    tell: Vec<oneshot::Sender<Settled>>,
}

impl Reports {
    /// Nothing waits and no master is there.
    #[must_use]
    pub fn new(health: &service::Health) -> Self {
        let inner = Inner {
            master: watch::Sender::new(None),
            queue: Mutex::default(),
            filled: watch::Sender::new(0),
            seats: Semaphore::new(AT_A_TIME),
            resent: health.counter("reports_resent"),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The master that takes reports now, or that there is none.
    pub fn set_master(&self, master: Option<Connection>) {
        self.inner.master.send_replace(master);
    }

    /// Whether a master takes reports.
    #[must_use]
    pub fn has_master(&self) -> bool {
        self.inner.master.borrow().is_some()
    }

    /// Tells when a master comes or goes.
    #[must_use]
    pub fn master_changes(&self) -> watch::Receiver<Option<Connection>> {
        self.inner.master.subscribe()
    }

    /// Queues a node's report. The receiver gets what became of it; it may be dropped.
    pub fn node(&self, node: &str, report: Report, at: u64) -> oneshot::Receiver<Settled> {
        let (tell, told) = oneshot::channel();
        let size = wire::frame::encode(&report).map_or(usize::MAX, |bytes| bytes.len());
        if size > BATCH_BYTES {
            let _ = tell.send(Err(format!("a report of {size} bytes, the limit is {BATCH_BYTES}")));
            return told;
        }
        let mut queue = self.queue();
        queue.count += 1;
        let number = queue.count;
        let key = (node.to_owned(), kind(&report));
        let mut fresh = Waiting { number, report, at, size, tell: vec![tell] };
        if let Some(old) = queue.waiting.remove(&key) {
            queue.order.remove(&old.number);
            fresh.tell.extend(old.tell);
        }
        queue.order.insert(number, key.clone());
        queue.waiting.insert(key, fresh);
        drop(queue);
        self.inner.filled.send_replace(number);
        told
    }

    /// How many node reports wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue().waiting.len()
    }

    /// Says something until a master has answered for good; `Again` and lost connections are repeated.
    pub async fn deliver(&self, report: RackReport) -> RackAnswer {
        let Ok(_seat) = self.inner.seats.acquire().await else {
            return RackAnswer::Denied { reason: "this service node is stopping".to_owned() };
        };
        let message = FromRack::Report(report);
        let mut backoff = Backoff::new(Duration::from_millis(100), MAX_WAIT);
        loop {
            let mut master = self.inner.master.subscribe();
            let connection = match master.wait_for(Option::is_some).await {
                Ok(connection) => connection.clone(),
                Err(_) => None,
            };
            let Some(connection) = connection else { continue };
            match ask(&connection, &message).await {
                Ok(RackAnswer::Again(reason)) => debug!(%reason, "to be said again"),
                Ok(RackAnswer::NotLeader(_)) => {
                    // The uplink finds the leader; this connection is of no more use.
                    connection.close(link::close::DONE, "not the leader");
                }
                Ok(answer) => return answer,
                Err(error) => debug!(%error, "a report got no answer"),
            }
            self.inner.resent.one();
            tokio::time::sleep(backoff.wait(service::random::number())).await;
        }
    }

    /// Sends the queue up, batch after batch, until the drain stops.
    pub async fn carry(self, drain: Drain) {
        let mut filled = self.inner.filled.subscribe();
        loop {
            let batch = self.take();
            if batch.is_empty() {
                tokio::select! {
                    biased;
                    () = drain.stopping() => return,
                    changed = filled.changed() => if changed.is_err() { return },
                }
                continue;
            }
            tokio::select! {
                biased;
                () = drain.stopping() => return,
                () = self.settle(batch) => {}
            }
        }
    }

    async fn settle(&self, batch: Vec<(String, Waiting)>) {
        let one = |(node, waiting): &(String, Waiting)| (node.clone(), waiting.report.clone(), waiting.at);
        let answer = self.deliver(RackReport::Nodes(batch.iter().map(one).collect())).await;
        match answer {
            RackAnswer::Stored(revision) => {
                for (_, waiting) in batch {
                    tell(waiting, &Ok(revision));
                }
            }
            // One bad report must not take the others with it.
            RackAnswer::Denied { .. } if batch.len() > 1 => {
                for (node, waiting) in batch {
                    let report = waiting.report.clone();
                    let alone = RackReport::Node { node: node.clone(), report, at: waiting.at };
                    let answer = self.deliver(alone).await;
                    tell(waiting, &settled(&node, answer));
                }
            }
            answer => {
                for (node, waiting) in batch {
                    tell(waiting, &settled(&node, answer.clone()));
                }
            }
        }
    }

    /// Takes the oldest reports out, as many as fit into a message.
    fn take(&self) -> Vec<(String, Waiting)> {
        let mut queue = self.queue();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some((number, key)) = queue.order.first_key_value() {
            let (number, key) = (*number, key.clone());
            let size = queue.waiting.get(&key).map_or(0, |waiting| waiting.size + key.0.len() + 32);
            if batch.len() >= BATCH || (bytes > 0 && bytes + size > BATCH_BYTES) {
                break;
            }
            bytes += size;
            queue.order.remove(&number);
            if let Some(waiting) = queue.waiting.remove(&key) {
                batch.push((key.0, waiting));
            }
        }
        batch
    }

    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(connection: &Connection, message: &FromRack) -> Result<RackAnswer, link::LinkError> {
    let mut exchange = link::within(ANSWER, connection.open()).await?;
    exchange.ask(message, ANSWER).await
}

fn settled(node: &str, answer: RackAnswer) -> Settled {
    match answer {
        RackAnswer::Stored(revision) | RackAnswer::Admitted { revision, .. } => Ok(revision),
        RackAnswer::Denied { reason } | RackAnswer::Pending { reason } => {
            warn!(%node, %reason, "a report was not taken");
            Err(reason)
        }
        RackAnswer::NotLeader(_) | RackAnswer::Again(_) => Err("no answer".to_owned()),
    }
}

fn tell(waiting: Waiting, settled: &Settled) {
    for tell in waiting.tell {
        // Who asked may be gone; the report is stored all the same.
        let _ = tell.send(settled.clone());
    }
}

fn kind(report: &Report) -> u8 {
    match report {
        Report::Hardware(_) => 0,
        Report::Adapters(_) => 1,
        Report::Status(_) => 2,
        Report::NextDestiny { .. } => 3,
        Report::Booted(_) => 4,
        Report::HostKeys(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_newer_report_of_a_kind_answers_for_the_older_one() {
        let reports = Reports::new(&service::Health::new());
        let mut first = reports.node("n1", Report::Status("a".to_owned()), 1);
        let mut second = reports.node("n1", Report::Status("b".to_owned()), 2);
        let _other = reports.node("n2", Report::Status("c".to_owned()), 3);
        assert_eq!(reports.waiting(), 2);
        let mut batch = reports.take();
        assert_eq!(batch.len(), 2);
        assert_eq!(batch[0].1.report, Report::Status("b".to_owned()));
        tell(batch.remove(0).1, &Ok(Revision(7)));
        assert_eq!(first.try_recv().unwrap(), Ok(Revision(7)));
        assert_eq!(second.try_recv().unwrap(), Ok(Revision(7)));
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_bytes_and_keeps_the_order() {
        let reports = Reports::new(&service::Health::new());
        for i in 0..250 {
            drop(reports.node(&format!("n{i}"), Report::Status(String::new()), i));
        }
        let sizes: Vec<_> = (0..4).map(|_| reports.take().len()).collect();
        assert_eq!(sizes, [100, 100, 50, 0]);
        let mut big = reports.node("n1", Report::Status("x".repeat(2 * 1024 * 1024)), 1);
        assert!(big.try_recv().unwrap().is_err());
        for node in ["n1", "n2"] {
            drop(reports.node(node, Report::Status("x".repeat(900_000)), 1));
        }
        assert_eq!(reports.take().len(), 1);
        assert_eq!(reports.take().len(), 1);
    }
}
