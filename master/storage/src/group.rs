//! The handle of a group: propose, read, look at its status.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use service::Drain;
use tokio::sync::{mpsc, oneshot, watch};

use crate::db::{Batch, Db};
use crate::driver::{self, Driver, Request};
use crate::highwater::Mark;
use crate::log::Log;
use crate::peers::{self, Peers, Reception};
use crate::{MAX_ENTRY, Machine, Member, Options, StorageError, Transport};

/// Requests that wait for the consensus thread; more wait at their caller until their deadline.
const REQUESTS: usize = 4096;
/// Messages of other members that wait for the consensus thread.
const EVENTS: usize = 4096;
/// How long a proposal may take before its outcome is called unknown.
const PROPOSE: Duration = Duration::from_secs(10);
/// How long a read may wait for the confirmation that nothing newer is committed.
const BARRIER: Duration = Duration::from_secs(5);

/// How long another member may take to lead.
const HAND_OVER: Duration = Duration::from_secs(1);

/// What a member is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks the others for their votes.
    Candidate,
    /// Decides the order of entries.
    Leader,
}

/// The group as this member sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// This member's number.
    pub id: u64,
    /// What this member is.
    pub role: Role,
    /// Who leads, if that is known.
    pub leader: Option<Member>,
    /// The current term.
    pub term: u64,
    /// The newest entry whose effect can be read here.
    pub applied: u64,
    /// The newest entry that is known to be committed.
    pub commit: u64,
    /// All members.
    pub members: Vec<Member>,
    /// The file system is nearly full: proposals are refused.
    pub disk_full: bool,
    /// Why the group has stopped, if it has by a fault.
    pub fault: Option<String>,
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another member leads; nothing was done.
    #[error("this master does not lead{}", .leader.as_ref().map_or(String::new(), |leader| format!(", {} does", leader.name)))]
    NotLeader {
        /// Who does, if that is known.
        leader: Option<Member>,
    },
    /// Too much is on its way; nothing was done.
    #[error("too many changes wait; nothing was done")]
    Busy,
    /// The file system is nearly full; nothing was done.
    #[error("no space left for the database on the master; nothing was done")]
    DiskFull,
    /// The entry is longer than [`MAX_ENTRY`]; nothing was done.
    #[error("a change of {0} bytes is larger than the limit of {MAX_ENTRY}; nothing was done")]
    TooLarge(usize),
    /// The group has stopped; nothing was done.
    #[error("the master is stopping; nothing was done")]
    Stopped,
    /// It may or may not be done: the leader changed or the time was over before the answer came.
    #[error("the outcome of the change is unknown")]
    Unknown,
}

/// Why a read cannot be called up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No majority of the masters answered in time.
    #[error("no majority of the masters answers")]
    NoMajority,
    /// The group has stopped.
    #[error("the master is stopping")]
    Stopped,
}

/// A member of a group. Clones are the same member; the consensus thread ends when the last one is
/// dropped or [`Group::close`] is called.
pub struct Group<M: Machine> {
    requests: mpsc::Sender<Request<M::Answer>>,
    machine: Arc<RwLock<M>>,
    status: watch::Receiver<Status>,
    ended: watch::Receiver<bool>,
    reception: Arc<Reception>,
    db: Weak<Db>,
}

impl<M: Machine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            machine: self.machine.clone(),
            status: self.status.clone(),
            ended: self.ended.clone(),
            reception: self.reception.clone(),
            db: self.db.clone(),
        }
    }
}

impl<M: Machine> std::fmt::Debug for Group<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

impl<M: Machine> Group<M> {
    /// Opens the database, loads the machine from it and takes part in the group. Must be called inside a
    /// Tokio runtime; the tasks that talk to other members belong to `drain`.
    ///
    /// # Errors
    /// When the options contradict each other, or the database cannot be used.
    pub fn open(
        options: Options,
        mut machine: M,
        transport: Option<Transport>,
        drain: &Drain,
    ) -> Result<Self, StorageError> {
        check(&options, transport.is_some())?;
        std::fs::create_dir_all(&options.directory)
            .map_err(|source| StorageError::System { attempt: "make the folder of the database", source })?;
        let db = Arc::new(Db::open(&options.directory)?);
        claim(&db, &options)?;
        let log = Log::open(db.clone())?;
        let mark = Mark::check(&options.directory, log.high_water())?;
        let mut fault = None;
        machine.load(&mut db.rows(log.current, &mut fault));
        if let Some(fault) = fault {
            return Err(fault);
        }
        let machine = Arc::new(RwLock::new(machine));
        let (requests, incoming) = mpsc::channel(REQUESTS);
        let (tell, events) = mpsc::channel(EVENTS);
        let (publish, status) = watch::channel(Status {
            id: options.id,
            members: options.members.clone(),
            applied: log.applied.index,
            commit: log.hard_state.commit,
            term: log.hard_state.term,
            ..Status::default()
        });
        let weak: Weak<Db> = Arc::downgrade(&db);
        drop(db);
        let last = Arc::new(AtomicU64::new(log.last().index));
        let reception =
            Arc::new(Reception::new(&options, weak.clone(), tell.clone(), drain.clone(), last.clone()));
        let peers = match transport {
            Some(transport) => peers::connect(&options, &transport, &weak, &tell, &reception, drain),
            None => Peers::default(),
        };
        let driver =
            Driver::new(options, log, machine.clone(), incoming, (events, peers, last), (publish, mark))?;
        let ended = driver::spawn(driver)?;
        Ok(Self { requests, machine, status, ended, reception, db: weak })
    }

    /// Has an entry committed and applied. The answer is durable on a majority of the members.
    ///
    /// # Cancellation
    /// Dropping the future does not take the proposal back.
    ///
    /// # Errors
    /// [`ProposeError::Unknown`] when it may have happened; every other error means that it did not.
    pub async fn propose(&self, entry: Vec<u8>) -> Result<(u64, M::Answer), ProposeError> {
        self.propose_within(entry, PROPOSE).await
    }

    /// [`Group::propose`] with a deadline of its own.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub async fn propose_within(
        &self,
        entry: Vec<u8>,
        limit: Duration,
    ) -> Result<(u64, M::Answer), ProposeError> {
        if entry.len() > MAX_ENTRY {
            return Err(ProposeError::TooLarge(entry.len()));
        }
        let deadline = tokio::time::Instant::now() + limit;
        let (tell, answer) = oneshot::channel();
        let sent =
            tokio::time::timeout_at(deadline, self.requests.send(Request::Propose { entry, tell })).await;
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopped),
            Err(_) => return Err(ProposeError::Busy),
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            // The thread ended or the time is over while the entry was on its way.
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// Waits until everything that was committed before this call can be read here; gives the index. A
    /// read after it is linearizable, on any member.
    ///
    /// # Errors
    /// When no majority confirms in time.
    pub async fn read_barrier(&self) -> Result<u64, ReadError> {
        let (tell, answer) = oneshot::channel();
        let wait = async {
            self.requests.send(Request::Barrier { tell }).await.map_err(|_| ReadError::Stopped)?;
            answer.await.map_err(|_| ReadError::Stopped)
        };
        tokio::time::timeout(BARRIER, wait).await.unwrap_or(Err(ReadError::NoMajority))
    }

    /// Looks at the applied state. Short and without waiting: entries are not applied meanwhile.
    pub fn read<R>(&self, look: impl FnOnce(&M) -> R) -> R {
        look(&self.machine.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the stored keys from one up to but not including another, in either direction, until `each`
    /// says false; entries go on to be applied meanwhile. Blocks: not for a runtime's own threads.
    ///
    /// # Errors
    /// When the group has stopped, or the database cannot be read.
    pub fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        backwards: bool,
        each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StorageError> {
        let stopped = || StorageError::Config("the group has stopped".to_owned());
        let db = self.db.upgrade().ok_or_else(stopped)?;
        db.frozen()?.range(from, to, backwards, each)
    }

    /// The group as this member sees it, and every change of that.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Whether this member leads now.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.status.borrow().role == Role::Leader
    }

    /// Waits until the entry with this index can be read here, or the group has stopped.
    pub async fn applied(&self, index: u64) {
        let _ = self.status.clone().wait_for(|status| status.applied >= index).await;
    }

    /// Serves a connection of [`wire::ALPN_PEER`] until it ends. The caller must be another member.
    ///
    /// # Errors
    /// When it is not a member, or the connection ends.
    pub async fn serve_peer(&self, connection: link::Connection) -> Result<(), link::LinkError> {
        self.reception.serve(connection).await
    }

    /// Lets another member lead before this one stops, so that nobody waits for an election. Returns when
    /// this member does not lead, or after a second.
    pub async fn hand_over(&self) {
        if self.status.borrow().members.len() > 1 && self.requests.send(Request::HandOver).await.is_ok() {
            let mut status = self.status.clone();
            let follows = status.wait_for(|status| status.role != Role::Leader);
            let _ = tokio::time::timeout(HAND_OVER, follows).await;
        }
    }

    /// Stops the consensus thread and closes the database. Finish the drain first, so that no snapshot is
    /// on its way.
    pub async fn close(&self) {
        let _ = self.requests.send(Request::Stop).await;
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}

fn check(options: &Options, transport: bool) -> Result<(), StorageError> {
    let wrong = |text: &str| Err(StorageError::Config(text.to_owned()));
    let mut ids: Vec<u64> = options.members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != options.members.len() || ids.first() == Some(&0) {
        return wrong("each member needs a number of its own, not 0");
    }
    let mut names: Vec<&str> = options.members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() != options.members.len() {
        return wrong("two members have the same name");
    }
    if !ids.contains(&options.id) {
        return wrong("this member is not among the members");
    }
    if options.members.len() > 1 && !transport {
        return wrong("several members need a transport");
    }
    if options.timing.election_ticks <= options.timing.heartbeat_ticks {
        return wrong("the election time must be longer than the heartbeat's");
    }
    Ok(())
}

/// Writes whose database this is and who votes, at the first start; checks it at every later one.
fn claim(db: &Arc<Db>, options: &Options) -> Result<(), StorageError> {
    let wanted = format!("member {} of cluster {}", options.id, options.cluster);
    let mut ids: Vec<u64> = options.members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    match db.owner()? {
        None => {
            let mut batch = Batch::default();
            let conf_state = raft::eraftpb::ConfState { voters: ids, ..Default::default() };
            batch.conf_state(db, &conf_state);
            batch.owner(db, &wanted);
            db.write(batch, true, "write the head of a new database")
        }
        Some(found) if found != wanted => Err(StorageError::Foreign { found, wanted }),
        Some(_) => {
            let mut voters = db.meta()?.conf_state.voters;
            voters.sort_unstable();
            if voters == ids {
                return Ok(());
            }
            Err(StorageError::Config(format!("the group has the members {voters:?}, configured are {ids:?}")))
        }
    }
}
