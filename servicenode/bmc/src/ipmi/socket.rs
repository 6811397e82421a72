//! The one UDP socket (for each address family) that all BMC sessions share, and the connection that
//! drives a session over it.
//!
//! Operations on one BMC take turns, because BMCs have few sessions and answer one request at a time.
//! Answers find their connection by the address they come from.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, trace};

use super::decode;
use super::message::Request;
use super::session::{Event, Failure, Login, Session, Step};
use super::suite::Suite;
use crate::BmcError;

/// Operations that may wait for one BMC; more are refused at once.
pub const WAITING: usize = 16;
/// Datagrams of one BMC not looked at yet; more are dropped, and asked for again.
const INBOX: usize = 16;
/// Longest packet of a BMC: IPMI messages have at most 255 bytes, RAKP messages fewer.
const DATAGRAM: usize = 1024;
/// Thousands of BMCs answer at the same moment.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How long it is remembered that a BMC wants suite 3.
const MEMORY: Duration = Duration::from_secs(600);
/// BMCs of which this is remembered.
const REMEMBERED: usize = 16_384;
/// Pause before a BMC that says "busy" is asked again.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
const NODE_BUSY: u8 = 0xc0;

/// The shared sockets.
pub struct Hub {
    four: Arc<UdpSocket>,
    six: Option<Arc<UdpSocket>>,
    peers: Arc<Mutex<HashMap<SocketAddr, Peer>>>,
    suite_three: Mutex<HashMap<SocketAddr, Instant>>,
    random: SystemRandom,
    readers: Vec<AbortHandle>,
}

struct Peer {
    users: usize,
    turn: Arc<Semaphore>,
    inbox: Option<mpsc::Sender<Vec<u8>>>,
}

impl Hub {
    /// Opens the sockets and starts reading them. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When there is no IPv4 socket to be had; IPv6 is left out where the system has none.
    pub fn new() -> io::Result<Self> {
        let four = Arc::new(open(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into())?);
        let six = open(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into()).ok().map(Arc::new);
        let peers = Arc::new(Mutex::new(HashMap::new()));
        let readers = std::iter::once(&four)
            .chain(&six)
            .map(|socket| tokio::spawn(read(Arc::clone(socket), Arc::clone(&peers))).abort_handle())
            .collect();
        Ok(Self {
            four,
            six,
            peers,
            suite_three: Mutex::new(HashMap::new()),
            random: SystemRandom::new(),
            readers,
        })
    }

    fn socket(&self, address: SocketAddr) -> io::Result<&UdpSocket> {
        match (address, &self.six) {
            (SocketAddr::V4(_), _) => Ok(&self.four),
            (SocketAddr::V6(_), Some(six)) => Ok(six),
            (SocketAddr::V6(_), None) => Err(io::Error::new(io::ErrorKind::Unsupported, "no IPv6 here")),
        }
    }

    /// The suites for this BMC in the order to try.
    fn suites(&self, address: SocketAddr) -> Vec<Suite> {
        let mut suites = Suite::PREFERRED.to_vec();
        if lock(&self.suite_three).get(&address).is_some_and(|since| since.elapsed() < MEMORY) {
            suites.reverse();
        }
        suites
    }

    fn remember(&self, address: SocketAddr, suite: Option<Suite>) {
        let mut known = lock(&self.suite_three);
        if suite == Some(Suite::Three) {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.entry(address).or_insert_with(Instant::now);
        } else {
            known.remove(&address);
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for reader in &self.readers {
            reader.abort();
        }
    }
}

fn open(domain: Domain, address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    if let Err(error) = socket.set_recv_buffer_size(RECEIVE_BUFFER) {
        debug!(%error, "the receive buffer stays small");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

async fn read(socket: Arc<UdpSocket>, peers: Arc<Mutex<HashMap<SocketAddr, Peer>>>) {
    let mut buffer = vec![0u8; DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let inbox = lock(&peers).get(&from).and_then(|peer| peer.inbox.clone());
                let taken = inbox.is_some_and(|inbox| inbox.try_send(buffer[..length].to_vec()).is_ok());
                if !taken {
                    trace!(%from, length, "datagram of nobody dropped");
                }
            }
            // errors of earlier sends are reported here; they are not the socket's end
            Err(error) => {
                debug!(%error, "reading BMC answers");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// A seat in the queue of one BMC.
struct Seat {
    peers: Arc<Mutex<HashMap<SocketAddr, Peer>>>,
    address: SocketAddr,
    turn: Arc<Semaphore>,
}

impl Seat {
    fn take(hub: &Hub, address: SocketAddr) -> Result<Self, BmcError> {
        let mut peers = lock(&hub.peers);
        let peer = peers.entry(address).or_insert_with(|| Peer {
            users: 0,
            turn: Arc::new(Semaphore::new(1)),
            inbox: None,
        });
        if peer.users > WAITING {
            return Err(BmcError::Busy { address, waiting: peer.users });
        }
        peer.users += 1;
        let turn = Arc::clone(&peer.turn);
        drop(peers);
        Ok(Self { peers: Arc::clone(&hub.peers), address, turn })
    }

    fn listen(&self) -> mpsc::Receiver<Vec<u8>> {
        let (sender, receiver) = mpsc::channel(INBOX);
        if let Some(peer) = lock(&self.peers).get_mut(&self.address) {
            peer.inbox = Some(sender);
        }
        receiver
    }

    fn deafen(&self) {
        if let Some(peer) = lock(&self.peers).get_mut(&self.address) {
            peer.inbox = None;
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut peers = lock(&self.peers);
        if let Some(peer) = peers.get_mut(&self.address) {
            peer.users -= 1;
            if peer.users == 0 {
                peers.remove(&self.address);
            }
        }
    }
}

/// An open session with a BMC, for the time of one operation.
pub struct Connection<'a> {
    hub: &'a Hub,
    session: Session,
    inbox: mpsc::Receiver<Vec<u8>>,
    seat: Seat,
    began: Instant,
    deadline: Instant,
    _turn: OwnedSemaphorePermit,
}

impl<'a> Connection<'a> {
    /// Waits for the BMC's turn and opens a session.
    ///
    /// # Errors
    /// [`BmcError`] when it does not open until `deadline`.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub async fn open(
        hub: &'a Hub,
        address: SocketAddr,
        login: Login,
        deadline: Instant,
    ) -> Result<Self, BmcError> {
        let began = Instant::now();
        let seat = Seat::take(hub, address)?;
        let turn = match timeout_at(deadline, Arc::clone(&seat.turn).acquire_owned()).await {
            Ok(turn) => turn.expect("the semaphore is never closed"),
            Err(_) => {
                return Err(BmcError::Timeout {
                    address,
                    step: "waiting for other operations on it",
                    tries: 0,
                    waited: began.elapsed(),
                    maybe_done: false,
                });
            }
        };
        let mut seed = [0; 32];
        hub.random.fill(&mut seed).expect("the system has random numbers");
        let user = login.user.clone();
        let session = Session::new(login, &hub.suites(address), seed, now());
        let inbox = seat.listen();
        let mut connection = Self { hub, session, inbox, seat, began, deadline, _turn: turn };
        match connection.next(Step::words, false).await? {
            Event::Ready => {
                hub.remember(address, connection.session.suite());
                Ok(connection)
            }
            Event::Failed(failure) => Err(connection.failure(failure, user)),
            Event::Send(_) | Event::Answer(_) => unreachable!("next() sends, and nothing was asked"),
        }
    }

    /// Sends a request and gives the data of its answer. `step` says in words what is done; `careful`
    /// requests do something each time they arrive.
    ///
    /// # Errors
    /// [`BmcError`]: no answer, or a completion code other than zero.
    pub async fn ask(
        &mut self,
        step: &'static str,
        request: Request,
        careful: bool,
    ) -> Result<Vec<u8>, BmcError> {
        loop {
            self.session.request(request.clone(), careful, now());
            let response = match self.next(|_| step, careful).await? {
                Event::Answer(response) => response,
                Event::Failed(failure) => return Err(self.failure(failure, String::new())),
                Event::Send(_) | Event::Ready => unreachable!("next() sends, and the session is ready"),
            };
            let address = self.seat.address;
            match response.code {
                0 => return Ok(response.data),
                NODE_BUSY if Instant::now() + BUSY_PAUSE < self.deadline => {
                    tokio::time::sleep(BUSY_PAUSE).await
                }
                code => {
                    return Err(BmcError::Completion {
                        address,
                        step,
                        code,
                        reason: decode::completion(code),
                    });
                }
            }
        }
    }

    /// An answer that has not the bytes it should have.
    #[must_use]
    pub fn unreadable(&self, step: &'static str, reason: &'static str) -> BmcError {
        BmcError::Unreadable { address: self.seat.address, step, reason }
    }

    /// Feeds the session until it has something to say.
    async fn next(&mut self, words: impl Fn(Step) -> &'static str, deed: bool) -> Result<Event, BmcError> {
        loop {
            while let Some(event) = self.session.event() {
                match event {
                    Event::Send(bytes) => self.send(&bytes).await?,
                    event => return Ok(event),
                }
            }
            let step = words(self.session.step());
            let due = self.session.deadline().map_or(self.deadline, Instant::from_std);
            tokio::select! {
                biased;
                datagram = self.inbox.recv() => {
                    let datagram = datagram.expect("the sender stays with the seat");
                    self.session.receive(&datagram, now());
                }
                () = tokio::time::sleep_until(self.deadline.min(due)) => {
                    if Instant::now() >= self.deadline {
                        return Err(self.timeout(step, deed));
                    }
                    self.session.tick(now());
                }
            }
        }
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), BmcError> {
        let address = self.seat.address;
        let lost = |source| BmcError::Unreachable { address, source };
        let socket = self.hub.socket(address).map_err(lost)?;
        match timeout_at(self.deadline, socket.send_to(bytes, address)).await {
            Ok(Err(source)) if hopeless(&source) => Err(lost(source)),
            // what is lost here is sent again
            Ok(_) => Ok(()),
            Err(_) => Err(self.timeout("sending", false)),
        }
    }

    fn timeout(&self, step: &'static str, deed: bool) -> BmcError {
        BmcError::Timeout {
            address: self.seat.address,
            step,
            tries: self.session.tries(),
            waited: self.began.elapsed(),
            maybe_done: deed,
        }
    }

    fn failure(&self, failure: Failure, user: String) -> BmcError {
        let address = self.seat.address;
        let step = "opening the session";
        match failure {
            Failure::Password => BmcError::Password { address, user },
            Failure::Denied(reason) => {
                BmcError::Session { address, step, reason: format!("{reason} (user {user})"), denied: true }
            }
            Failure::Refused(reason) => BmcError::Session { address, step, reason, denied: false },
        }
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.seat.deafen();
        if let (Some(farewell), Ok(socket)) = (self.session.close(), self.hub.socket(self.seat.address)) {
            // best effort: a BMC that does not hear it ends the session by its own timer
            if let Err(error) = socket.try_send_to(&farewell, self.seat.address) {
                trace!(%error, "session not closed");
            }
        }
    }
}

/// Errors that another try will not change.
fn hopeless(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::AddrNotAvailable
    )
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
