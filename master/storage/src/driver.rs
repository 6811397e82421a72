//! The consensus thread: requests, messages and ticks in; disk writes, messages and answers out.
//!
//! One turn takes everything that waits (group commit: one fsync for all of it) and keeps the order that
//! safety rests on: a leader's messages, entries and hard state to the disk, then what may only be said
//! after that, then committed entries applied with the commit index and the applied index in one batch.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, error, info, warn};

use crate::db::{Batch, Position};
use crate::group::{ProposeError, Role, Status};
use crate::highwater::Mark;
use crate::install::{self, Arrived};
use crate::log::Log;
use crate::peers::{PeerEvent, Peers};
use crate::{EXIT_DISK, EXIT_PANIC, Machine, OnFault, Options, StorageError, Writes};

/// At most so much is taken into one turn.
const TURN: usize = 1024;
/// Proposals that wait for their commit; more are refused.
const WAITING: usize = 65_536;
/// A read that no majority confirmed is asked again after this.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How often the free space is looked at.
const LOOK_AT_DISK: Duration = Duration::from_secs(1);
/// How often the high-water file follows the log.
const MARK: Duration = Duration::from_secs(1);
/// Limits of the consensus library, in bytes.
const MESSAGE_BYTES: u64 = 1024 * 1024;
const UNCOMMITTED_BYTES: u64 = 64 * 1024 * 1024;
const COMMITTED_BYTES: u64 = 4 * 1024 * 1024;

/// Where a proposer waits for its answer.
type Tell<A> = oneshot::Sender<Result<(u64, A), ProposeError>>;

/// What a handle of the group asks.
pub(crate) enum Request<A> {
    /// Commit and apply this.
    Propose { entry: Vec<u8>, tell: Tell<A> },
    /// Say when everything committed by now is applied.
    Barrier { tell: oneshot::Sender<u64> },
    /// Let another member lead.
    HandOver,
    /// End.
    Stop,
}

/// The consensus thread's property.
pub(crate) struct Driver<M: Machine> {
    options: Options,
    node: RawNode<Log>,
    machine: Arc<RwLock<M>>,
    requests: mpsc::Receiver<Request<M::Answer>>,
    events: mpsc::Receiver<PeerEvent>,
    peers: Peers,
    /// Where the log on the disk ends, for the transport's greeting.
    last: Arc<AtomicU64>,
    status: watch::Sender<Status>,
    mark: Mark,
    marked: Instant,
    /// Tells this run's proposals from those of an earlier run of the same member.
    run: u64,
    next_proposal: u64,
    waiting: HashMap<u64, Tell<M::Answer>>,
    /// The term in which the waiting proposals were made.
    waiting_term: u64,
    reads: Reads,
    arrived: Option<Arrived>,
    disk_full: bool,
    disk_looked: Option<Instant>,
}

impl<M: Machine> Driver<M> {
    pub(crate) fn new(
        options: Options,
        log: Log,
        machine: Arc<RwLock<M>>,
        requests: mpsc::Receiver<Request<M::Answer>>,
        (events, peers, last): (mpsc::Receiver<PeerEvent>, Peers, Arc<AtomicU64>),
        (status, mark): (watch::Sender<Status>, Mark),
    ) -> Result<Self, StorageError> {
        let config = Config {
            id: options.id,
            election_tick: options.timing.election_ticks,
            heartbeat_tick: options.timing.heartbeat_ticks,
            applied: log.applied.index,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            read_only_option: ReadOnlyOption::Safe,
            batch_append: true,
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: COMMITTED_BYTES,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Fuse(ToTracing), slog::o!());
        let refused = |error: raft::Error| StorageError::Raft(error.to_string());
        let mut node = RawNode::new(&config, log, &logger).map_err(refused)?;
        if options.members.len() == 1 {
            // Nobody else can lead: no reason to wait for the election time.
            node.campaign().map_err(refused)?;
        }
        Ok(Self {
            options,
            node,
            machine,
            requests,
            events,
            peers,
            last,
            status,
            mark,
            marked: Instant::now(),
            run: service::random::number(),
            next_proposal: 0,
            waiting: HashMap::new(),
            waiting_term: 0,
            reads: Reads::default(),
            arrived: None,
            disk_full: false,
            disk_looked: None,
        })
    }

    fn run(&mut self) -> Result<(), StorageError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|source| {
                StorageError::System { attempt: "make the consensus thread's clock", source }
            })?;
        let tick = self.options.timing.tick;
        let mut next_tick = Instant::now() + tick;
        let mut requests = Vec::with_capacity(TURN);
        let mut events = Vec::with_capacity(TURN);
        self.work()?;
        loop {
            runtime.block_on(async {
                let pause = tokio::time::sleep_until(next_tick.into());
                tokio::select! {
                    biased;
                    () = pause => {}
                    _ = self.events.recv_many(&mut events, TURN) => {}
                    _ = self.requests.recv_many(&mut requests, TURN) => {}
                }
            });
            while events.len() < TURN {
                let Ok(event) = self.events.try_recv() else { break };
                events.push(event);
            }
            while requests.len() < TURN {
                match self.requests.try_recv() {
                    Ok(request) => requests.push(request),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    // The last handle is gone.
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        requests.push(Request::Stop);
                        break;
                    }
                }
            }
            for event in events.drain(..) {
                self.event(event)?;
            }
            let mut stop = false;
            for request in requests.drain(..) {
                stop |= self.request(request);
            }
            let now = Instant::now();
            if now >= next_tick {
                self.tick(now)?;
                // After a long stall (a slow disk) time is not made up for: silence that this member
                // slept through proves nothing about the others.
                next_tick = (next_tick + tick).max(now);
            }
            if let Some(context) = self.reads.ask() {
                self.node.read_index(context);
            }
            self.work()?;
            if stop {
                return self.mark.write(self.node.store().high_water());
            }
        }
    }

    /// Does what the consensus library wants done, until it wants nothing more.
    fn work(&mut self) -> Result<(), StorageError> {
        while self.node.has_ready() {
            self.ready()?;
        }
        self.forget_lost_proposals();
        self.publish();
        Ok(())
    }

    fn event(&mut self, event: PeerEvent) -> Result<(), StorageError> {
        match event {
            PeerEvent::Message(mut message) => {
                let last = self.node.store().last().index;
                if message.get_msg_type() == MessageType::MsgHeartbeat && message.commit > last {
                    // The leader knows of entries that were on this disk: it was emptied or replaced. The
                    // greeting tells the leader; the library would panic.
                    warn!(leader = message.from, commit = message.commit, last, "this master's log was lost");
                    message.commit = last;
                }
                if let Err(error) = self.node.step(message) {
                    debug!(%error, "a message of another member was not taken");
                }
            }
            PeerEvent::Snapshot(arrived) => {
                let message = arrived.message.clone();
                self.arrived = Some(arrived);
                if let Err(error) = self.node.step(message) {
                    debug!(%error, "a snapshot was not taken");
                }
                // Install it now, or learn that it is not needed: the place is free afterwards.
                while self.node.has_ready() {
                    self.ready()?;
                }
                self.arrived = None;
            }
            PeerEvent::Greeting { from, last } => self.greeting(from, last),
            PeerEvent::Unreachable(id) => self.node.report_unreachable(id),
            PeerEvent::SnapshotSent { to, ok } => {
                let status = if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure };
                self.node.report_snapshot(to, status);
            }
        }
        Ok(())
    }

    /// A member whose log ends before what it once confirmed has lost its disk. It gets everything anew;
    /// until then its confirmations do not count.
    fn greeting(&mut self, from: u64, last: u64) {
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        if let Some(progress) = self.node.raft.mut_prs().get_mut(from)
            && progress.matched > last
        {
            error!(member = from, confirmed = progress.matched, last, "a master has lost its log");
            progress.matched = 0;
            progress.become_probe();
        }
    }

    /// True when the thread shall end.
    fn request(&mut self, request: Request<M::Answer>) -> bool {
        match request {
            Request::Propose { entry, tell } => {
                if let Err((error, tell)) = self.propose(entry, tell) {
                    let _ = tell.send(Err(error));
                }
            }
            Request::Barrier { tell } => self.reads.add(tell),
            Request::HandOver => self.hand_over(),
            Request::Stop => return true,
        }
        false
    }

    fn propose(
        &mut self,
        entry: Vec<u8>,
        tell: Tell<M::Answer>,
    ) -> Result<(), (ProposeError, Tell<M::Answer>)> {
        if self.node.raft.state != StateRole::Leader {
            return Err((ProposeError::NotLeader { leader: self.leader() }, tell));
        }
        if self.disk_full() {
            return Err((ProposeError::DiskFull, tell));
        }
        if self.waiting.len() >= WAITING {
            return Err((ProposeError::Busy, tell));
        }
        let number = self.next_proposal;
        let mut context = self.run.to_le_bytes().to_vec();
        context.extend_from_slice(&number.to_le_bytes());
        if let Err(error) = self.node.propose(context, entry) {
            debug!(%error, "proposal dropped");
            return Err((ProposeError::Busy, tell));
        }
        self.next_proposal += 1;
        self.waiting_term = self.node.raft.term;
        self.waiting.insert(number, tell);
        Ok(())
    }

    fn tick(&mut self, now: Instant) -> Result<(), StorageError> {
        self.node.tick();
        self.reads.tick(now);
        if self.status.borrow().disk_full {
            self.disk_full();
        }
        if now.duration_since(self.marked) >= MARK {
            self.marked = now;
            self.mark.write(self.node.store().high_water())?;
        }
        Ok(())
    }

    /// Asks the member that has most of the log to lead.
    fn hand_over(&mut self) {
        if self.node.raft.state != StateRole::Leader {
            return;
        }
        let others = self.node.raft.prs().iter().filter(|(id, _)| **id != self.options.id);
        let best = others
            .filter(|(_, progress)| progress.recent_active)
            .max_by_key(|(_, progress)| progress.matched);
        if let Some(id) = best.map(|(id, _)| *id) {
            info!(to = id, "handing over");
            self.node.transfer_leader(id);
        }
    }

    fn ready(&mut self) -> Result<(), StorageError> {
        let mut ready = self.node.ready();
        self.send(ready.take_messages());
        self.install(&ready)?;
        self.persist(&mut ready)?;
        self.send(ready.take_persisted_messages());
        for read in ready.take_read_states() {
            self.reads.confirmed(&read.request_ctx, read.index);
        }
        let committed = ready.take_committed_entries();
        self.apply(committed)?;
        let mut light = self.node.advance_append(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().hard_state.commit = commit;
        }
        self.send(light.take_messages());
        self.apply(light.take_committed_entries())?;
        self.node.advance_apply();
        self.compact()
    }

    fn install(&mut self, ready: &Ready) -> Result<(), StorageError> {
        let snapshot = ready.snapshot();
        if snapshot.is_empty() {
            return Ok(());
        }
        let index = snapshot.get_metadata().index;
        let slot = match &self.arrived {
            Some(arrived) if arrived.message.get_snapshot().get_metadata().index == index => arrived.slot,
            _ => return Err(StorageError::Damaged(format!("no rows for the snapshot at {index}"))),
        };
        let log = self.node.mut_store();
        install::install(log, snapshot, slot, ready.hs())?;
        self.last.store(log.last().index, Ordering::Relaxed);
        let (db, current) = (log.db.clone(), log.current);
        let mut fault = None;
        let mut machine = self.machine.write().unwrap_or_else(PoisonError::into_inner);
        machine.load(&mut db.rows(current, &mut fault));
        drop(machine);
        info!(index, "installed a snapshot");
        self.reads.applied(index);
        fault.map_or(Ok(()), Err)
    }

    fn persist(&mut self, ready: &mut Ready) -> Result<(), StorageError> {
        let entries = ready.take_entries();
        let sync = ready.must_sync();
        let log = self.node.mut_store();
        let mut batch = Batch::default();
        log.append(&mut batch, &entries);
        if let Some(hard_state) = ready.hs() {
            let commit = hard_state.commit.max(log.hard_state.commit);
            log.hard_state = hard_state.clone();
            log.hard_state.commit = commit;
            batch.hard_state(&log.db, &log.hard_state);
        }
        if batch.is_empty() {
            return Ok(());
        }
        log.db.write(batch, sync, "append to the log")?;
        log.appended(entries);
        self.last.store(log.last().index, Ordering::Relaxed);
        // A vote is remembered here too before anybody hears of it.
        let high_water = log.high_water();
        if self.mark.is_behind(high_water) {
            self.mark.write(high_water)?;
        }
        Ok(())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), StorageError> {
        let Some(last) = entries.last().map(|entry| Position { index: entry.index, term: entry.term }) else {
            return Ok(());
        };
        let log = self.node.mut_store();
        let mut batch = Batch::default();
        let mut writes = Writes::default();
        let mut answers = Vec::new();
        let mut machine = self.machine.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            match entry.get_entry_type() {
                // The first entry of a new leader is empty and has no proposer.
                EntryType::EntryNormal if entry.context.is_empty() => {}
                EntryType::EntryNormal => {
                    let answer = machine.apply(entry.index, &entry.data, &mut writes);
                    for (key, value) in writes.drain() {
                        batch.row(&log.db, log.current, &key, value.as_deref());
                    }
                    if let Some(tell) = own(self.run, &entry.context).and_then(|id| self.waiting.remove(&id))
                    {
                        answers.push((tell, entry.index, answer));
                    }
                }
                EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
                    return Err(StorageError::Raft("this version cannot change members".to_owned()));
                }
            }
        }
        drop(machine);
        // Never an applied index above the persisted commit: a restart would refuse to go on.
        log.hard_state.commit = log.hard_state.commit.max(last.index);
        batch.hard_state(&log.db, &log.hard_state);
        batch.applied(&log.db, last);
        // Not synced: it lies behind its entries in the same write-ahead log and can be made again.
        log.db.write(batch, false, "apply entries")?;
        log.applied = last;
        for (tell, index, answer) in answers {
            let _ = tell.send(Ok((index, answer)));
        }
        self.reads.applied(last.index);
        Ok(())
    }

    /// Cuts the log when twice as much as wanted is kept.
    fn compact(&mut self) -> Result<(), StorageError> {
        let keep = self.options.keep_entries.max(1);
        let log = self.node.mut_store();
        if log.applied.index - log.truncated.index <= keep.saturating_mul(2) {
            return Ok(());
        }
        let index = log.applied.index - keep;
        let term = log.term_of(index).map_err(|error| StorageError::Raft(error.to_string()))?;
        let position = Position { index, term };
        let mut batch = Batch::default();
        batch.cut(&log.db, log.truncated.index, index + 1);
        batch.truncated(&log.db, position);
        log.db.write(batch, false, "cut the log")?;
        log.compacted(position);
        Ok(())
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            let (to, snapshot) = (message.to, message.get_msg_type() == MessageType::MsgSnapshot);
            if self.peers.send(message) {
                continue;
            }
            if snapshot {
                self.node.report_snapshot(to, SnapshotStatus::Failure);
            }
            self.node.report_unreachable(to);
        }
    }

    /// A member that no longer leads cannot know what became of its proposals.
    fn forget_lost_proposals(&mut self) {
        let leads = self.node.raft.state == StateRole::Leader && self.node.raft.term == self.waiting_term;
        if !leads {
            for (_, tell) in self.waiting.drain() {
                let _ = tell.send(Err(ProposeError::Unknown));
            }
        }
    }

    fn leader(&self) -> Option<crate::Member> {
        let id = self.node.raft.leader_id;
        self.options.members.iter().find(|member| member.id == id).cloned()
    }

    fn publish(&mut self) {
        let role = match self.node.raft.state {
            StateRole::Leader => Role::Leader,
            StateRole::Follower => Role::Follower,
            StateRole::Candidate | StateRole::PreCandidate => Role::Candidate,
        };
        let log = self.node.store();
        let (applied, commit, term) = (log.applied.index, log.hard_state.commit, self.node.raft.term);
        let (leader, disk_full) = (self.node.raft.leader_id, self.disk_full);
        let same = {
            let old = self.status.borrow();
            let known = old.leader.as_ref().map_or(0, |member| member.id);
            if (old.role, old.term, known) != (role, term, leader) {
                info!(?role, term, leader, "group changed");
            }
            (old.role, old.term, old.applied, old.commit, known, old.disk_full)
                == (role, term, applied, commit, leader, disk_full)
        };
        if !same {
            let leader = self.leader();
            self.status.send_modify(|status| {
                (status.role, status.term, status.applied, status.commit) = (role, term, applied, commit);
                status.leader = leader;
                status.disk_full = disk_full;
            });
        }
    }

    /// Whether too little space is left; looks at most once a second.
    fn disk_full(&mut self) -> bool {
        if self.disk_looked.is_some_and(|looked| looked.elapsed() < LOOK_AT_DISK) {
            return self.disk_full;
        }
        self.disk_looked = Some(Instant::now());
        let full = match rustix::fs::statvfs(&self.options.directory) {
            Ok(space) => space.f_bavail.saturating_mul(space.f_frsize) < self.options.min_free,
            Err(error) => {
                warn!(%error, "the free space of the database's file system cannot be read");
                false
            }
        };
        if full && !self.disk_full {
            error!(directory = %self.options.directory.display(), "nearly no space left: changes are refused");
        }
        self.disk_full = full;
        full
    }
}

/// Starts the thread. The receiver turns true when it has ended and the database is closed.
pub(crate) fn spawn<M: Machine>(mut driver: Driver<M>) -> Result<watch::Receiver<bool>, StorageError> {
    let (tell, ended) = watch::channel(false);
    std::thread::Builder::new()
        .name("consensus".to_owned())
        .spawn(move || {
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| driver.run()));
            let (code, text) = match outcome {
                Ok(Ok(())) => (None, None),
                Ok(Err(error)) => (Some(EXIT_DISK), Some(chain(&error))),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map(String::as_str);
                    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                    (Some(EXIT_PANIC), Some(format!("the consensus thread panicked: {text}")))
                }
            };
            if let (Some(code), Some(text)) = (code, &text) {
                error!(fault = %text, "the master fences itself");
                if driver.options.on_fault == OnFault::Exit {
                    std::process::exit(code);
                }
            }
            driver.status.send_modify(|status| {
                status.fault = text;
                status.role = Role::Follower;
                status.leader = None;
            });
            drop(driver);
            tell.send_replace(true);
        })
        .map_err(|source| StorageError::System { attempt: "start the consensus thread", source })?;
    Ok(ended)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The number of a proposal of this run of this member.
fn own(run: u64, context: &[u8]) -> Option<u64> {
    let (theirs, number) = context.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*theirs) == run).then_some(())?;
    number.try_into().ok().map(u64::from_le_bytes)
}

/// Reads that wait: for the question, for its confirmation, for the applied index.
#[derive(Default)]
struct Reads {
    new: Vec<oneshot::Sender<u64>>,
    next: u64,
    asked: BTreeMap<u64, (Instant, Vec<oneshot::Sender<u64>>)>,
    confirmed: Vec<(u64, Vec<oneshot::Sender<u64>>)>,
    applied: u64,
}

impl Reads {
    fn add(&mut self, tell: oneshot::Sender<u64>) {
        self.new.push(tell);
    }

    /// One question for all that came since the last one.
    fn ask(&mut self) -> Option<Vec<u8>> {
        if self.new.is_empty() {
            return None;
        }
        self.next += 1;
        self.asked.insert(self.next, (Instant::now(), std::mem::take(&mut self.new)));
        Some(self.next.to_le_bytes().to_vec())
    }

    /// Questions that nobody answered are asked again; who no longer waits is forgotten.
    fn tick(&mut self, now: Instant) {
        let old: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, (asked, _))| now.duration_since(*asked) >= ASK_AGAIN)
            .map(|(number, _)| *number)
            .collect();
        for number in old {
            if let Some((_, tells)) = self.asked.remove(&number) {
                self.new.extend(tells.into_iter().filter(|tell| !tell.is_closed()));
            }
        }
    }

    fn confirmed(&mut self, context: &[u8], index: u64) {
        let Some(number) = context.try_into().ok().map(u64::from_le_bytes) else { return };
        if let Some((_, tells)) = self.asked.remove(&number) {
            self.confirmed.push((index, tells));
            self.applied(self.applied);
        }
    }

    fn applied(&mut self, applied: u64) {
        self.applied = self.applied.max(applied);
        let applied = self.applied;
        for (_, tells) in self.confirmed.extract_if(.., |(index, _)| *index <= applied) {
            for tell in tells {
                let _ = tell.send(applied);
            }
        }
    }
}

/// The consensus library's log lines.
struct ToTracing;

impl slog::Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            slog::Level::Critical | slog::Level::Error => error!(target: "raft", "{}", record.msg()),
            slog::Level::Warning => debug!(target: "raft", "{}", record.msg()),
            _ => tracing::trace!(target: "raft", "{}", record.msg()),
        }
        Ok(())
    }
}
