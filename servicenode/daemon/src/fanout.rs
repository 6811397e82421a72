//! One operation at many nodes: a window of nodes at a time, each with its own deadline, and exactly one
//! final event for each.
//!
//! When the master cancels or goes away, everything ends: commands on nodes are killed, BMC requests are
//! dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use link::{Exchange, LinkError, Receiver, Sender};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{debug, info};
use wire::op::{Event, Fault, NodeEvent, NodeOp};
use wire::rack::{FanOut, FanOutEvent, FanOutInput, ToRack};

use crate::echo::Echo;
use crate::{Core, nodeop};

/// A stream that brings no order by then is dropped.
const PATIENCE: Duration = Duration::from_secs(10);
/// Events on their way to the master; when it does not read, commands are slowed down.
const QUEUE: usize = 512;
/// Most nodes worked on at a time, whatever the master says.
const MAX_WINDOW: usize = 1_024;
/// Standard input kept for nodes whose turn has not come.
const MAX_INPUT: usize = 16 * 1024 * 1024;
/// A node's deadline when the master gives none.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(24 * 3600);
/// After a node's deadline its work gets this long to end in order before it is dropped.
const GRACE: Duration = Duration::from_secs(4);

/// Standard input for all nodes, from its beginning.
#[derive(Debug, Default)]
pub struct Input {
    pieces: Mutex<Pieces>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Pieces {
    list: Vec<Arc<Vec<u8>>>,
    bytes: usize,
    ended: bool,
}

impl Input {
    /// The piece with this number; waits for it. None at the end.
    pub async fn piece(&self, number: usize) -> Option<Arc<Vec<u8>>> {
        let mut changed = self.changed.subscribe();
        loop {
            {
                let pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(piece) = pieces.list.get(number) {
                    return Some(piece.clone());
                }
                if pieces.ended {
                    return None;
                }
            }
            if changed.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Adds a piece; false when there is no room for it.
    fn add(&self, bytes: Vec<u8>) -> bool {
        let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if pieces.bytes + bytes.len() > MAX_INPUT {
            return false;
        }
        pieces.bytes += bytes.len();
        pieces.list.push(Arc::new(bytes));
        drop(pieces);
        self.changed.send_modify(|count| *count += 1);
        true
    }

    fn end(&self) {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.changed.send_modify(|count| *count += 1);
    }
}

/// What the work at one node needs beside the operation.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The node.
    pub node: String,
    /// When it must be done.
    pub deadline: Instant,
    /// True when everything shall end; ends also with its sender.
    pub cancel: watch::Receiver<bool>,
    /// Standard input.
    pub input: Arc<Input>,
    /// Where output goes.
    pub events: mpsc::Sender<NodeEvent>,
    /// Asks machines whether they are there.
    pub echo: Arc<Echo>,
}

impl Turn {
    /// Waits until everything shall end.
    pub async fn cancelled(&self) {
        let _ = self.cancel.clone().wait_for(|cancel| *cancel).await;
    }

    /// A piece of output.
    pub async fn output(&self, event: Event) {
        // When nobody reads any more the whole fan-out is being dropped.
        let _ = self.events.send(NodeEvent { node: self.node.clone(), event }).await;
    }
}

/// Serves one stream that the master opened.
pub async fn serve(core: Arc<Core>, mut exchange: Exchange) {
    let fan_out = match exchange.expect::<ToRack>(PATIENCE).await {
        Ok(ToRack::FanOut(fan_out)) => fan_out,
        Err(error) => {
            core.health.counter("fanout_malformed").one();
            return debug!(%error, "no order came");
        }
    };
    let (action, nodes) = (fan_out.action, fan_out.nodes.len());
    // An order may overtake the first view of this connection; without it we would not know the nodes.
    let _ = tokio::time::timeout(PATIENCE, core.live.subscribe().wait_for(|live| *live)).await;
    let (sender, receiver) = exchange.split();
    let began = Instant::now();
    match run(&core, fan_out, sender, receiver).await {
        Ok(()) => info!(%action, nodes, millis = began.elapsed().as_millis(), "fan-out done"),
        Err(error) => info!(%action, nodes, %error, "fan-out ended early"),
    }
}

async fn run(
    core: &Arc<Core>,
    fan_out: FanOut,
    mut sender: Sender,
    mut receiver: Receiver,
) -> Result<(), LinkError> {
    let FanOut { action: _, op, nodes, window, deadline } = fan_out;
    let window = if window == 0 { core.config.window } else { window };
    let window = usize::try_from(window).unwrap_or(MAX_WINDOW).clamp(1, MAX_WINDOW).min(nodes.len().max(1));
    let limit = if deadline == 0 { DEFAULT_DEADLINE } else { Duration::from_millis(deadline) };
    let op = Arc::new(op);
    let input = Arc::new(Input::default());
    let queue = Arc::new(Mutex::new(nodes.into_iter().collect::<VecDeque<_>>()));
    let (cancel, cancelled) = watch::channel(false);
    let (events, mut happened) = mpsc::channel(QUEUE);
    let echo = Arc::new(Echo::default());
    for _ in 0..window {
        let worker = Worker {
            core: core.clone(),
            op: op.clone(),
            queue: queue.clone(),
            limit,
            cancel: cancelled.clone(),
            input: input.clone(),
            events: events.clone(),
            echo: echo.clone(),
        };
        core.drain.spawn("fan-out worker", worker.work());
    }
    drop((events, cancelled, echo));
    let mut listening = true;
    loop {
        tokio::select! {
            biased;
            () = core.drain.stopping() => return Err(LinkError::Ended),
            message = receiver.recv::<FanOutInput>(), if listening => match message {
                Ok(Some(FanOutInput::Stdin(bytes))) => {
                    if !input.add(bytes) {
                        let _ = cancel.send(true);
                    }
                }
                Ok(Some(FanOutInput::StdinEnd)) => input.end(),
                Ok(Some(FanOutInput::Cancel)) => {
                    let _ = cancel.send(true);
                }
                Ok(None) => {
                    input.end();
                    listening = false;
                }
                // `cancel` is dropped with us, and that ends all workers.
                Err(error) => return Err(error),
            },
            event = happened.recv() => match event {
                Some(event) => sender.send(&FanOutEvent::Node(event)).await?,
                None => break,
            },
        }
    }
    sender.send(&FanOutEvent::End).await?;
    sender.flush(PATIENCE).await
}

struct Worker {
    core: Arc<Core>,
    op: Arc<NodeOp>,
    queue: Arc<Mutex<VecDeque<String>>>,
    limit: Duration,
    cancel: watch::Receiver<bool>,
    input: Arc<Input>,
    events: mpsc::Sender<NodeEvent>,
    echo: Arc<Echo>,
}

impl Worker {
    /// Takes node after node.
    async fn work(self) {
        loop {
            let next = self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(node) = next else { return };
            let turn = Turn {
                node,
                deadline: Instant::now() + self.limit,
                cancel: self.cancel.clone(),
                input: self.input.clone(),
                events: self.events.clone(),
                echo: self.echo.clone(),
            };
            let event = self.end(&turn).await;
            if self.events.send(NodeEvent { node: turn.node, event }).await.is_err() {
                return;
            }
        }
    }

    /// The final event of one node.
    async fn end(&self, turn: &Turn) -> Event {
        let failed = |fault, text: String| Event::Failed { fault, text };
        let cancelled = || failed(Fault::Cancelled, "cancelled".to_owned());
        if *turn.cancel.borrow() || turn.cancel.has_changed().is_err() {
            return cancelled();
        }
        let late = async {
            turn.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            event = nodeop::run(&self.core, &self.op, turn) => event,
            () = tokio::time::sleep_until(turn.deadline + GRACE) => {
                failed(Fault::Timeout, format!("timeout: no answer within {:.0?}", self.limit))
            }
            () = late => cancelled(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn every_reader_of_the_input_gets_all_of_it_from_the_beginning() {
        let input = Input::default();
        assert!(input.add(b"a".to_vec()));
        assert_eq!(*input.piece(0).await.unwrap(), b"a");
        let wait = input.piece(1);
        tokio::pin!(wait);
        tokio::select! {
            biased;
            _ = &mut wait => panic!("there is nothing yet"),
            () = std::future::ready(()) => {}
        }
        assert!(input.add(b"b".to_vec()));
        assert_eq!(*wait.await.unwrap(), b"b");
        input.end();
        assert!(input.piece(2).await.is_none());
        assert_eq!(*input.piece(0).await.unwrap(), b"a");
        assert!(!input.add(vec![0; MAX_INPUT]));
    }
}
