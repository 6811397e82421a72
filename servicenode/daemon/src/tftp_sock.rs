//! TFTP on the wire: one listening socket, and a task with its own connected socket per transfer.
//!
//! Nothing is read from the disk while serving: the loaders are read once at the start, from one
//! folder, by plain names, following no link. Boot texts of pxelinux and grub are made per request.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use netboot::boot::Format;
use netboot::tftp::{self, Code, Full, Mode, Outcome, Reject, Request, Seats, Step, Transfer};
use service::{Counter, Drain};
use tokio::net::UdpSocket;
use tracing::{debug, info, warn};
use wire::names::Mac;

use crate::bootstate::BootState;

const MAX_LOADER: u64 = 16 * 1024 * 1024;
const MAX_LOADERS: usize = 64;
const O_NOFOLLOW: i32 = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;

/// The boot loaders, by plain name. Clones are the same files.
#[derive(Debug, Clone, Default)]
pub struct Loaders(Arc<BTreeMap<String, Arc<[u8]>>>);

impl Loaders {
    /// Reads the plain files of a folder. Links, folders and oversized files are left out; a folder
    /// that does not exist has none.
    ///
    /// # Errors
    /// When the folder or a file in it cannot be read.
    pub fn read(folder: &Path) -> io::Result<Loaders> {
        let mut found = BTreeMap::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                warn!(folder = %folder.display(), "there is no folder with boot loaders");
                return Ok(Loaders::default());
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
            if !entry.file_type()?.is_file() || !plain || name.starts_with('.') {
                continue;
            }
            let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(entry.path())?;
            let size = file.metadata()?.len();
            if size > MAX_LOADER || found.len() >= MAX_LOADERS {
                warn!(name, size, "boot loader left out: too large or one too many");
                continue;
            }
            let mut content = Vec::new();
            file.take(MAX_LOADER).read_to_end(&mut content)?;
            found.insert(name, content.into());
        }
        info!(folder = %folder.display(), files = found.len(), "boot loaders");
        Ok(Loaders(Arc::new(found)))
    }

    /// A loader by its name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Arc<[u8]>> {
        self.0.get(name).cloned()
    }

    /// Names of all loaders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// A bound TFTP service.
pub struct Tftp {
    socket: UdpSocket,
    address: SocketAddr,
    state: Arc<BootState>,
    loaders: Loaders,
    seats: Arc<Mutex<Seats>>,
}

impl Tftp {
    /// Binds the service. Port 69 but in tests.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(address: SocketAddr, state: Arc<BootState>, loaders: Loaders) -> io::Result<Tftp> {
        let socket = UdpSocket::bind(address).await?;
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 * 1024 * 1024);
        let address = socket.local_addr()?;
        Ok(Tftp { socket, address, state, loaders, seats: Arc::default() })
    }

    /// Where it is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the drain stops.
    pub async fn serve(self, drain: Drain) {
        let mut buffer = vec![0; 2048];
        loop {
            let received = tokio::select! {
                biased;
                () = drain.stopping() => return,
                received = self.socket.recv_from(&mut buffer) => received,
            };
            match received {
                Ok((length, client)) => self.datagram(&buffer[..length], client, &drain).await,
                // An ICMP answer to one of our refusals; the socket stays usable.
                Err(error) => debug!(%error, "TFTP receive"),
            }
        }
    }

    async fn datagram(&self, datagram: &[u8], client: SocketAddr, drain: &Drain) {
        let request = match tftp::parse(datagram) {
            Ok(request) => request,
            Err(reject) => return self.refuse(reject, client).await,
        };
        let taken = self.seats.lock().unwrap_or_else(PoisonError::into_inner).take(client);
        let seat = match taken {
            Ok(()) => Seat { seats: self.seats.clone(), client },
            // The request was sent twice: the transfer sends its first answer again by itself.
            Err(Full::Running) => return self.count("tftp_dropped_doubled"),
            Err(Full::Source) => return self.count("tftp_dropped_source_limit"),
            Err(Full::All) => return self.count("tftp_dropped_full"),
        };
        let bind = match self.address.ip() {
            IpAddr::V6(ip) => SocketAddr::from((ip, 0)),
            IpAddr::V4(ip) => SocketAddr::from((ip, 0)),
        };
        let socket = match connected(bind, client).await {
            Ok(socket) => socket,
            Err(error) => {
                self.count("tftp_dropped_no_socket");
                warn!(%client, %error, "no socket for a TFTP transfer");
                return;
            }
        };
        let Some(content) = self.content(&request, client, &socket) else {
            self.count("tftp_not_found");
            debug!(%client, name = request.name, "TFTP file not found");
            let _ = socket.send(&tftp::error(Code::NotFound, "file not found")).await;
            return;
        };
        self.count("tftp_requests");
        let health = &self.state.health;
        let counters = Counters {
            done: health.counter("tftp_done"),
            aborted: health.counter("tftp_aborted"),
            timed_out: health.counter("tftp_timed_out"),
            illegal: health.counter("tftp_illegal"),
            bytes: health.counter("tftp_bytes"),
        };
        let task = run(socket, client, request, content, counters, seat, drain.clone());
        drain.spawn("tftp transfer", task);
    }

    async fn refuse(&self, reject: Reject, client: SocketAddr) {
        self.count(match reject {
            Reject::NotARequest => "tftp_dropped_not_a_request",
            Reject::Malformed => "tftp_dropped_malformed",
            Reject::Write => "tftp_refused_write",
            Reject::Name => "tftp_refused_name",
            Reject::Mode => "tftp_refused_mode",
        });
        debug!(%client, why = reject.reason(), "TFTP refused");
        if let Some(answer) = reject.answer() {
            let _ = self.socket.send_to(&answer, client).await;
        }
    }

    fn count(&self, name: &'static str) {
        self.state.health.counter(name).one();
    }

    /// A loader, or the text that a loader asks for by its MAC.
    fn content(&self, request: &Request, client: SocketAddr, socket: &UdpSocket) -> Option<Arc<[u8]>> {
        let raw = self.loaders.find(&request.name).or_else(|| {
            let (mac, format) = text_name(&request.name)?;
            let server = match socket.local_addr().ok()?.ip() {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(ip) => ip.to_ipv4_mapped()?,
            };
            let peer = match client.ip() {
                IpAddr::V4(ip) => ip,
                IpAddr::V6(ip) => ip.to_ipv4_mapped()?,
            };
            let mac = mac.or_else(|| self.state.mac_of(peer))?;
            Some(self.state.boot_text(mac, server, format).into_bytes().into())
        })?;
        Some(match request.mode {
            Mode::Octet => raw,
            Mode::Netascii => tftp::netascii(&raw).into(),
        })
    }
}

/// `pxelinux.cfg/01-52-54-...`, `grub/grub.cfg-01-52:54:...` and `pxelinux.cfg/0A000005` are boot texts.
fn text_name(name: &str) -> Option<(Option<Mac>, Format)> {
    if let Some(rest) = name.strip_prefix("pxelinux.cfg/") {
        let mac = rest.strip_prefix("01-").and_then(|mac| Mac::parse(mac).ok());
        let address = rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit());
        return (mac.is_some() || address).then_some((mac, Format::Pxelinux));
    }
    let (_, file) = name.rsplit_once('/').unwrap_or(("", name));
    if file == "grub.cfg" {
        return Some((None, Format::Grub));
    }
    let mac = Mac::parse(file.strip_prefix("grub.cfg-01-")?).ok()?;
    Some((Some(mac), Format::Grub))
}

async fn connected(bind: SocketAddr, client: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(bind).await?;
    socket.connect(client).await?;
    Ok(socket)
}

struct Seat {
    seats: Arc<Mutex<Seats>>,
    client: SocketAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).free(self.client);
    }
}

struct Counters {
    done: Counter,
    aborted: Counter,
    timed_out: Counter,
    illegal: Counter,
    bytes: Counter,
}

async fn run(
    socket: UdpSocket,
    client: SocketAddr,
    request: Request,
    content: Arc<[u8]>,
    counters: Counters,
    seat: Seat,
    drain: Drain,
) {
    let _seat = seat;
    let size = content.len();
    let (mut transfer, mut step) = Transfer::start(content, request.asked, std::time::Instant::now());
    let mut buffer = [0; 128];
    loop {
        for datagram in &step.send {
            counters.bytes.add(datagram.len() as u64);
            // A full send buffer waits, any other error is like a lost datagram.
            let _ = socket.send(datagram).await;
        }
        if let Some(end) = step.end {
            match end {
                Outcome::Done => counters.done.one(),
                Outcome::Aborted => counters.aborted.one(),
                Outcome::TimedOut => counters.timed_out.one(),
                Outcome::Illegal => counters.illegal.one(),
            }
            debug!(%client, name = request.name, size, ?end, "TFTP transfer");
            return;
        }
        step = tokio::select! {
            biased;
            () = drain.stopping() => return,
            received = socket.recv(&mut buffer) => match received {
                Ok(length) => transfer.received(&buffer[..length], std::time::Instant::now()),
                // The client's port is closed: it is gone.
                Err(_) => Step { send: Vec::new(), end: Some(Outcome::Aborted) },
            },
            () = tokio::time::sleep_until(transfer.deadline().into()) => {
                transfer.elapsed(std::time::Instant::now())
            }
        };
    }
}

/// An address for tests and for services on one interface only.
#[must_use]
pub fn everywhere(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_of_boot_texts_are_known_and_others_are_not() {
        let mac = Mac([0x52, 0x54, 0, 1, 2, 3]);
        for (name, want) in [
            ("pxelinux.cfg/01-52-54-00-01-02-03", Some((Some(mac), Format::Pxelinux))),
            ("pxelinux.cfg/0A000005", Some((None, Format::Pxelinux))),
            ("pxelinux.cfg/default", None),
            ("grub/grub.cfg-01-52:54:00:01:02:03", Some((Some(mac), Format::Grub))),
            ("grub.cfg", Some((None, Format::Grub))),
            ("undionly.kpxe", None),
        ] {
            assert_eq!(text_name(name), want, "{name}");
        }
    }

    #[test]
    fn links_folders_and_hidden_files_are_no_loaders() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(folder.path().join("snponly.efi"), b"efi").unwrap();
        fs::write(folder.path().join(".secret"), b"no").unwrap();
        fs::create_dir(folder.path().join("sub")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.efi")).unwrap();
        let loaders = Loaders::read(folder.path()).unwrap();
        assert_eq!(loaders.names().collect::<Vec<_>>(), ["snponly.efi"]);
        assert_eq!(&*loaders.find("snponly.efi").unwrap(), b"efi");
    }
}
