//! The way between members: one ordered stream of messages to each other member, and a stream of its own
//! for each snapshot. What is lost is sent again by the consensus itself.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use link::{Connection, Endpoint, Exchange, LinkError, Settings, within};
use prost::Message as _;
use raft::eraftpb::{Message, MessageType};
use service::{Backoff, Drain};
use tokio::sync::{Mutex, Notify, mpsc, watch};
use tracing::{debug, info, warn};

use crate::db::Db;
use crate::install::{Arrived, Arriving};
use crate::snapshot::Packer;
use crate::{Member, Options, Transport};

/// Messages that wait for a member; more are dropped and counted as unreachable.
const QUEUE: usize = 4096;
/// Version of this conversation.
const VERSION: u32 = 1;
const MESSAGES: u8 = 0;
const SNAPSHOT: u8 = 1;
/// How long a message may wait for the other side to read.
const SEND: Duration = Duration::from_secs(5);
/// How long the next piece of a snapshot may take.
const PIECE: Duration = Duration::from_secs(30);
/// How long the first frame of a stream may take.
const GREETING: Duration = Duration::from_secs(5);

/// The first frame of a stream: version, cluster, from, to, kind, the sender's run, its last log index.
type Hello = (u32, String, u64, u64, u8, u64, u64);

/// What the transport tells the consensus thread.
pub(crate) enum PeerEvent {
    /// A message of another member.
    Message(Message),
    /// A snapshot is here and checked.
    Snapshot(Arrived),
    /// A member has opened its stream, with a log that ends at this index.
    Greeting { from: u64, last: u64 },
    /// Messages to this member were lost.
    Unreachable(u64),
    /// A snapshot was delivered or not.
    SnapshotSent { to: u64, ok: bool },
}

/// The ways out of the consensus thread.
#[derive(Default)]
pub(crate) struct Peers {
    queues: BTreeMap<u64, mpsc::Sender<Message>>,
}

impl Peers {
    /// Never waits; false when the message is lost.
    pub(crate) fn send(&self, message: Message) -> bool {
        self.queues.get(&message.to).is_some_and(|queue| queue.try_send(message).is_ok())
    }
}

/// Starts a task for each other member.
pub(crate) fn connect(
    options: &Options,
    transport: &Transport,
    db: &Weak<Db>,
    tell: &mpsc::Sender<PeerEvent>,
    reception: &Arc<Reception>,
    drain: &Drain,
) -> Peers {
    // A member whose machine is gone must be noticed sooner than a client's.
    let settings = Settings {
        keep_alive: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(3),
        dial_timeout: Duration::from_secs(3),
        ..transport.endpoint.settings().clone()
    };
    let mut peers = Peers::default();
    for member in options.members.iter().filter(|member| member.id != options.id) {
        let (queue, messages) = mpsc::channel(QUEUE);
        peers.queues.insert(member.id, queue);
        let speaker = Speaker {
            own: options.id,
            cluster: options.cluster.clone(),
            run: reception.run,
            member: member.clone(),
            endpoint: transport.endpoint.with_settings(settings.clone()),
            credentials: transport.credentials.clone(),
            db: db.clone(),
            tell: tell.clone(),
            reception: reception.clone(),
            drain: drain.clone(),
        };
        drain.spawn(format!("to master {}", member.name), speaker.speak(messages));
    }
    peers
}

/// Sends one member its messages.
struct Speaker {
    own: u64,
    cluster: String,
    run: u64,
    member: Member,
    endpoint: Endpoint,
    credentials: watch::Receiver<link::Credentials>,
    db: Weak<Db>,
    tell: mpsc::Sender<PeerEvent>,
    reception: Arc<Reception>,
    drain: Drain,
}

impl Speaker {
    async fn speak(self, mut messages: mpsc::Receiver<Message>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            let end = tokio::select! {
                biased;
                () = self.drain.stopping() => return,
                end = self.connected(&mut messages, &mut backoff) => end,
            };
            match end {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Restarted) => continue,
                Err(error) => debug!(member = %self.member.name, %error, "no way to another master"),
            }
            let pause = tokio::time::sleep(backoff.wait(service::random::number()));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    biased;
                    () = self.drain.stopping() => return,
                    () = &mut pause => break,
                    // Old messages are worth nothing when the way is open again.
                    message = messages.recv() => match message {
                        Some(message) => self.lost(&message).await,
                        None => return,
                    },
                }
            }
        }
    }

    async fn connected(
        &self,
        messages: &mut mpsc::Receiver<Message>,
        backoff: &mut Backoff,
    ) -> Result<Ended, LinkError> {
        let credentials = self.credentials.borrow().clone();
        let Member { address, name, .. } = &self.member;
        let connection = self
            .endpoint
            .dial_named(*address, &credentials, wire::ALPN_PEER, link::Role::Master, name)
            .await?;
        let mut stream = self.open(&connection, MESSAGES).await?;
        info!(member = %name, "connected to another master");
        backoff.reset();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                end = connection.closed() => return Err(end),
                () = self.reception.restarted(self.member.id) => return Ok(Ended::Restarted),
                count = messages.recv_many(&mut batch, 64) => if count == 0 { return Ok(Ended::Stopped) },
            }
            for message in batch.drain(..) {
                if message.get_msg_type() == MessageType::MsgSnapshot {
                    self.snapshot(connection.clone(), message);
                    continue;
                }
                let sent = within(SEND, stream.sender.send_bytes(&message.encode_to_vec())).await;
                if let Err(error) = sent {
                    self.lost(&message).await;
                    return Err(error);
                }
            }
        }
    }

    async fn open(&self, connection: &Connection, kind: u8) -> Result<Exchange, LinkError> {
        let mut stream = within(GREETING, connection.open()).await?;
        let hello = self.hello(kind);
        within(SEND, stream.send(&hello)).await?;
        Ok(stream)
    }

    fn hello(&self, kind: u8) -> Hello {
        let last = self.reception.last.load(Ordering::Relaxed);
        (VERSION, self.cluster.clone(), self.own, self.member.id, kind, self.run, last)
    }

    async fn lost(&self, message: &Message) {
        let event = if message.get_msg_type() == MessageType::MsgSnapshot {
            PeerEvent::SnapshotSent { to: self.member.id, ok: false }
        } else {
            PeerEvent::Unreachable(self.member.id)
        };
        let _ = self.tell.send(event).await;
    }

    /// Sends a snapshot beside the messages.
    fn snapshot(&self, connection: Connection, message: Message) {
        let (to, tell) = (self.member.id, self.tell.clone());
        let (name, db) = (self.member.name.clone(), self.db.clone());
        let hello = self.hello(SNAPSHOT);
        let drain = self.drain.clone();
        self.drain.spawn(format!("snapshot to master {name}"), async move {
            let sent = tokio::select! {
                biased;
                () = drain.stopping() => Err(LinkError::Ended),
                sent = send_snapshot(&connection, &hello, message, db) => sent,
            };
            match &sent {
                Ok(()) => info!(member = %name, "sent a snapshot"),
                Err(error) => warn!(member = %name, %error, "a snapshot was not delivered"),
            }
            let _ = tell.send(PeerEvent::SnapshotSent { to, ok: sent.is_ok() }).await;
        });
    }
}

enum Ended {
    Stopped,
    Restarted,
}

async fn send_snapshot(
    connection: &Connection,
    hello: &Hello,
    message: Message,
    db: Weak<Db>,
) -> Result<(), LinkError> {
    let mut stream = within(GREETING, connection.open()).await?;
    within(SEND, stream.send(hello)).await?;
    // Reading the database blocks: a thread of its own, two frames ahead of the network.
    let (frames, mut packed) = mpsc::channel::<Vec<u8>>(2);
    std::thread::spawn(move || pack(&db, message, &frames));
    while let Some(frame) = packed.recv().await {
        within(PIECE, stream.sender.send_bytes(&frame)).await?;
    }
    stream.finish();
    // Without the last frame the other side does not answer.
    stream.expect::<bool>(PIECE).await.map(|_| ())
}

/// The announcing message and the rows, all of one moment.
fn pack(db: &Weak<Db>, mut message: Message, frames: &mpsc::Sender<Vec<u8>>) {
    let Some(db) = db.upgrade() else { return };
    let frozen = match db.frozen() {
        Ok(frozen) => frozen,
        Err(error) => return warn!(%error, "no snapshot could be taken"),
    };
    let metadata = message.mut_snapshot().mut_metadata();
    metadata.index = frozen.applied.index;
    metadata.term = frozen.applied.term;
    metadata.set_conf_state(frozen.conf.clone());
    if frames.blocking_send(message.encode_to_vec()).is_err() {
        return;
    }
    let mut packer = Packer::default();
    for row in frozen.rows() {
        let frame = match row {
            Ok((key, value)) => packer.row(&key, &value),
            Err(error) => return warn!(%error, "the snapshot was broken off"),
        };
        if frame.is_some_and(|frame| frames.blocking_send(frame).is_err()) {
            return;
        }
    }
    for frame in packer.end() {
        if frames.blocking_send(frame).is_err() {
            return;
        }
    }
}

/// Takes what other members send.
pub(crate) struct Reception {
    own: u64,
    cluster: String,
    members: Vec<Member>,
    run: u64,
    db: Weak<Db>,
    tell: mpsc::Sender<PeerEvent>,
    drain: Drain,
    /// Where this member's log ends, as far as it lies on the disk.
    last: Arc<AtomicU64>,
    /// One snapshot at a time.
    turn: Arc<Mutex<()>>,
    /// The run of each member as it was last heard of, and who waits for a new one.
    runs: BTreeMap<u64, (AtomicU64, Notify)>,
}

impl Reception {
    pub(crate) fn new(
        options: &Options,
        db: Weak<Db>,
        tell: mpsc::Sender<PeerEvent>,
        drain: Drain,
        last: Arc<AtomicU64>,
    ) -> Self {
        Self {
            own: options.id,
            cluster: options.cluster.clone(),
            members: options.members.clone(),
            run: service::random::number().max(1),
            db,
            tell,
            drain,
            last,
            turn: Arc::default(),
            runs: options.members.iter().map(|member| (member.id, Default::default())).collect(),
        }
    }

    /// Waits until a member is known to have been started anew: an old connection to it is dead, though
    /// the silence has not lasted long enough to prove it.
    async fn restarted(&self, id: u64) {
        match self.runs.get(&id) {
            Some((_, restarted)) => restarted.notified().await,
            None => std::future::pending().await,
        }
    }

    pub(crate) async fn serve(self: &Arc<Self>, connection: Connection) -> Result<(), LinkError> {
        let refuse = |reason: &str| {
            connection.close(link::close::REFUSED, reason);
            LinkError::Refused { address: connection.remote_address(), reason: reason.to_owned() }
        };
        let identity = link::identity(&connection)?;
        if identity.role != link::Role::Master {
            return Err(refuse("only masters speak here"));
        }
        let member = self.members.iter().find(|member| member.name == identity.name && member.id != self.own);
        let Some(member) = member else { return Err(refuse("not a member of this group")) };
        loop {
            let stream = tokio::select! {
                biased;
                () = self.drain.stopping() => return Ok(()),
                stream = connection.accept() => stream?,
            };
            let (reception, from, name) = (self.clone(), member.id, member.name.clone());
            self.drain.spawn(format!("from master {name}"), async move {
                tokio::select! {
                    biased;
                    () = reception.drain.stopping() => {}
                    end = reception.stream(stream, from) => if let Err(error) = end {
                        debug!(member = %name, %error, "a stream of another master ended");
                    },
                }
            });
        }
    }

    async fn stream(&self, mut stream: Exchange, from: u64) -> Result<(), LinkError> {
        let (version, cluster, sender, to, kind, run, last) = stream.expect::<Hello>(GREETING).await?;
        if (version, cluster.as_str(), sender, to) != (VERSION, self.cluster.as_str(), from, self.own) {
            warn!(version, cluster, sender, to, "another master has other ideas of who we are");
            return Err(LinkError::Ended);
        }
        match kind {
            MESSAGES => {
                self.heard_of(from, run);
                let _ = self.tell.send(PeerEvent::Greeting { from, last }).await;
                self.messages(stream, from).await
            }
            SNAPSHOT => self.snapshot(stream, from).await,
            _ => Err(LinkError::Ended),
        }
    }

    fn heard_of(&self, from: u64, run: u64) {
        if let Some((known, restarted)) = self.runs.get(&from) {
            let before = known.swap(run, Ordering::Relaxed);
            if before != 0 && before != run {
                restarted.notify_one();
            }
        }
    }

    async fn messages(&self, mut stream: Exchange, from: u64) -> Result<(), LinkError> {
        while let Some(bytes) = stream.receiver.recv_bytes().await? {
            let message = self.message(&bytes, from)?;
            let kind = message.get_msg_type();
            // A snapshot without its rows, or a proposal past the front door, is nobody's business.
            if matches!(kind, MessageType::MsgSnapshot | MessageType::MsgPropose) {
                warn!(from, ?kind, "a message that does not belong here was dropped");
                continue;
            }
            if self.tell.send(PeerEvent::Message(message)).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    async fn snapshot(&self, mut stream: Exchange, from: u64) -> Result<(), LinkError> {
        let turn = self.turn.clone().try_lock_owned().map_err(|_| LinkError::Ended)?;
        let first = within(PIECE, stream.receiver.recv_bytes()).await?.ok_or(LinkError::Ended)?;
        let message = self.message(&first, from)?;
        if message.get_msg_type() != MessageType::MsgSnapshot {
            return Err(LinkError::Ended);
        }
        let damaged = |error: crate::StorageError| {
            warn!(from, %error, "an arriving snapshot was dropped");
            LinkError::Ended
        };
        let db = self.db.upgrade().ok_or(LinkError::Ended)?;
        let mut arriving = Arriving::start(db).map_err(damaged)?;
        loop {
            let frame = within(PIECE, stream.receiver.recv_bytes()).await?.ok_or(LinkError::Cut)?;
            if arriving.frame(&frame).map_err(damaged)? {
                break;
            }
        }
        let slot = arriving.slot();
        // The database may be closed as soon as the consensus thread has its snapshot.
        drop(arriving);
        let arrived = Arrived { message, slot, _turn: turn };
        self.tell.send(PeerEvent::Snapshot(arrived)).await.map_err(|_| LinkError::Ended)?;
        within(SEND, stream.send(&true)).await?;
        stream.sender.flush(SEND).await
    }

    fn message(&self, bytes: &[u8], from: u64) -> Result<Message, LinkError> {
        let malformed = |text: String| LinkError::Frame(wire::frame::FrameError::Malformed(text));
        let message = Message::decode(bytes).map_err(|error| malformed(error.to_string()))?;
        if message.from != from || message.to != self.own {
            return Err(malformed(format!("a message from {} to {}", message.from, message.to)));
        }
        Ok(message)
    }
}
