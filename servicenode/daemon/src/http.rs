//! HTTP for booting machines: the discovery image, boot texts, overlays and loaders.
//!
//! Public by nature: whoever is on the boot network may read everything here except a node's token,
//! and that one goes only to the node's own address (`BootState::overlay`). Every connection has a
//! share, a header limit and a time; files are streamed from the disk in pieces.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::{self, SeekFrom};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use netboot::boot::Format;
use netboot::http::{Range, mac_of, range};
use service::Drain;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncSeekExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tracing::{debug, warn};
use wire::names::Mac;

use crate::bootstate::BootState;
use crate::tftp_sock::Loaders;

/// How much of the service one may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one source address.
    pub per_source: usize,
    /// Bytes of a request's head.
    pub header: usize,
    /// Time without a byte in either direction, and time for a whole head.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { connections: 4096, per_source: 16, header: 16 * 1024, idle: Duration::from_secs(10) }
    }
}

/// Bytes read from a file at a time.
const PIECE: usize = 128 * 1024;
/// When no file descriptor is left, accepting again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const O_NOFOLLOW: i32 = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;

/// A bound HTTP service.
pub struct Http {
    listener: TcpListener,
    desk: Arc<Desk>,
    limits: Limits,
    shares: Arc<Mutex<Shares>>,
}

struct Desk {
    state: Arc<BootState>,
    loaders: Loaders,
}

impl Http {
    /// Binds the service. Port 80 but in tests.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(
        address: SocketAddr,
        state: Arc<BootState>,
        loaders: Loaders,
        limits: Limits,
    ) -> io::Result<Http> {
        let listener = TcpListener::bind(address).await?;
        let desk = Arc::new(Desk { state, loaders });
        Ok(Http { listener, desk, limits, shares: Arc::default() })
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the drain stops.
    pub async fn serve(self, drain: Drain) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.stopping() => return,
                accepted = self.listener.accept() => accepted,
            };
            let health = &self.desk.state.health;
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    health.counter("http_accept_failed").one();
                    warn!(%error, "HTTP accept");
                    self.desk.state.clock.sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(share) = Share::take(&self.shares, peer.ip(), self.limits) else {
                health.counter("http_refused_limit").one();
                continue;
            };
            let connection = connection(self.desk.clone(), stream, peer, self.limits, share, drain.clone());
            drain.spawn("http connection", connection);
        }
    }
}

async fn connection(
    desk: Arc<Desk>,
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    share: Share,
    drain: Drain,
) {
    let _share = share;
    let (Ok(local), _) = (stream.local_addr(), stream.set_nodelay(true)) else { return };
    let (Some(server), Some(client)) = (v4(local.ip()), v4(peer.ip())) else { return };
    let ends = Ends { server, client };
    let service = service_fn(|request| {
        let desk = desk.clone();
        async move { Ok::<_, Infallible>(desk.answer(&request, ends).await) }
    });
    let io = TokioIo::new(Patient::new(stream, limits.idle));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.header.max(8192))
        .serve_connection(io, service);
    tokio::select! {
        biased;
        () = drain.stopping() => {}
        served = serving => if let Err(error) = served {
            desk.state.health.counter("http_connection_failed").one();
            debug!(%peer, %error, "HTTP connection");
        },
    }
}

fn v4(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped(),
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    server: Ipv4Addr,
    client: Ipv4Addr,
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>, ends: Ends) -> Response<Content> {
        let health = &self.state.health;
        health.counter("http_requests").one();
        if request.method() != Method::GET && request.method() != Method::HEAD {
            health.counter("http_refused_method").one();
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let path = request.uri().path();
        let asked = request.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let mut response = if let Some(name) = path.strip_prefix("/genesis/") {
            self.file(&self.state.config.genesis_dir, name, asked).await
        } else if let Some(name) = path.strip_prefix("/loader/") {
            self.loader(name, asked)
        } else if let Some(what) = path.strip_prefix("/boot/") {
            self.boot(what, request.uri().query(), ends)
        } else {
            self.not_found()
        };
        debug!(client = %ends.client, path, status = response.status().as_u16(), "HTTP");
        if request.method() == Method::HEAD {
            *response.body_mut() = Content::Nothing;
        }
        response
    }

    fn not_found(&self) -> Response<Content> {
        self.state.health.counter("http_not_found").one();
        text(StatusCode::NOT_FOUND, "not found\n".into())
    }

    fn boot(&self, what: &str, query: Option<&str>, ends: Ends) -> Response<Content> {
        let format = match what {
            "ipxe" => Some(Format::Ipxe),
            "pxelinux" => Some(Format::Pxelinux),
            "grub" => Some(Format::Grub),
            "overlay" => None,
            _ => return self.not_found(),
        };
        let Some(mac) = mac_of(query).or_else(|| self.state.mac_of(ends.client)) else {
            self.state.health.counter("http_refused_no_mac").one();
            return text(StatusCode::BAD_REQUEST, "mac= is missing or wrong\n".into());
        };
        match format {
            Some(format) => text(StatusCode::OK, self.state.boot_text(mac, ends.server, format)),
            None => self.overlay(mac, ends.client),
        }
    }

    fn overlay(&self, mac: Mac, client: Ipv4Addr) -> Response<Content> {
        match self.state.overlay(mac, client) {
            Ok(archive) => bytes(archive.into(), None),
            Err(error) => {
                self.state.health.counter("http_overlay_failed").one();
                warn!(%mac, %error, "a boot token could not be kept");
                text(StatusCode::SERVICE_UNAVAILABLE, "no token can be kept\n".into())
            }
        }
    }

    fn loader(&self, name: &str, asked: Option<&str>) -> Response<Content> {
        match self.loaders.find(name) {
            Some(content) => bytes(Bytes::from_owner(content), asked),
            None => self.not_found(),
        }
    }

    /// A plain file of one folder: no path, no link, no device.
    async fn file(&self, folder: &Path, name: &str, asked: Option<&str>) -> Response<Content> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
        if !plain || name.is_empty() || name.starts_with('.') {
            return self.not_found();
        }
        let path = folder.join(name);
        let opened = tokio::task::spawn_blocking(move || {
            let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path)?;
            let metadata = file.metadata()?;
            Ok::<_, io::Error>((file, metadata.is_file(), metadata.len()))
        });
        let Ok(Ok((file, true, length))) = opened.await else { return self.not_found() };
        let (from, to) = match range(asked, length) {
            Range::Unsatisfiable => return unsatisfiable(length),
            Range::Whole => (0, length),
            Range::Part(from, last) => (from, last + 1),
        };
        let mut file = File::from_std(file);
        file.set_max_buf_size(PIECE);
        if from > 0 && file.seek(SeekFrom::Start(from)).await.is_err() {
            return self.not_found();
        }
        let content = Content::File { file, left: to - from };
        ranged(content, from, to, length, asked.is_some() && to - from < length)
    }
}

fn text(status: StatusCode, text: String) -> Response<Content> {
    let length = text.len() as u64;
    let mut response = Response::new(Content::Bytes(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, length.into());
    response
}

fn bytes(content: Bytes, asked: Option<&str>) -> Response<Content> {
    let length = content.len() as u64;
    match range(asked, length) {
        Range::Unsatisfiable => unsatisfiable(length),
        Range::Whole => ranged(Content::Bytes(content), 0, length, length, false),
        Range::Part(from, last) => {
            let part = content.slice(from as usize..=last as usize);
            ranged(Content::Bytes(part), from, last + 1, length, true)
        }
    }
}

fn ranged(content: Content, from: u64, to: u64, length: u64, part: bool) -> Response<Content> {
    let mut response = Response::new(content);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, (to - from).into());
    if part {
        if let Ok(value) = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1)) {
            headers.insert(CONTENT_RANGE, value);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

fn unsatisfiable(length: u64) -> Response<Content> {
    let mut response = text(StatusCode::RANGE_NOT_SATISFIABLE, "no such range\n".into());
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{length}")) {
        response.headers_mut().insert(CONTENT_RANGE, value);
    }
    response
}

/// What is sent back.
enum Content {
    Nothing,
    Bytes(Bytes),
    File { file: File, left: u64 },
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let content = self.get_mut();
        match content {
            Content::Nothing => Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                *content = Content::Nothing;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Content::File { left: 0, .. } => Poll::Ready(None),
            Content::File { file, left } => {
                let want = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
                let mut piece = vec![0; want];
                let mut buffer = ReadBuf::new(&mut piece);
                match Pin::new(file).poll_read(cx, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                    Poll::Ready(Ok(())) => {
                        let got = buffer.filled().len();
                        if got == 0 {
                            let short =
                                io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter");
                            return Poll::Ready(Some(Err(short)));
                        }
                        piece.truncate(got);
                        *left -= got as u64;
                        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Content::Nothing => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // HEAD: the header says the length that GET would have.
            Content::Nothing => SizeHint::default(),
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::File { left, .. } => SizeHint::with_exact(*left),
        }
    }
}

#[derive(Default)]
struct Shares {
    sources: HashMap<IpAddr, usize>,
    total: usize,
}

/// One connection's share; given back when dropped.
struct Share {
    shares: Arc<Mutex<Shares>>,
    source: IpAddr,
}

impl Share {
    fn take(shares: &Arc<Mutex<Shares>>, source: IpAddr, limits: Limits) -> Option<Share> {
        let mut all = shares.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.sources.get(&source).copied().unwrap_or(0);
        if own >= limits.per_source || all.total >= limits.connections {
            return None;
        }
        all.sources.insert(source, own + 1);
        all.total += 1;
        Some(Share { shares: shares.clone(), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        all.total = all.total.saturating_sub(1);
        if let Some(own) = all.sources.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                all.sources.remove(&self.source);
            }
        }
    }
}

/// A stream that fails when nothing moves for a while.
struct Patient {
    stream: TcpStream,
    idle: Duration,
    end: Pin<Box<Sleep>>,
}

impl Patient {
    fn new(stream: TcpStream, idle: Duration) -> Patient {
        Patient { stream, idle, end: Box::pin(tokio::time::sleep(idle)) }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let next = Instant::now() + self.idle;
            self.end.as_mut().reset(next);
            return polled;
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.judge(cx, polled)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, pieces);
        this.judge(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
