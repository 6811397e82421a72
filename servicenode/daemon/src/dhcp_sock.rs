//! DHCP on the wire: a socket per served interface, each bound to its device.
//!
//! Which interfaces are served comes from the mirror and may change at any time. Everything that is
//! decided is decided in `netboot::dhcp`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use netboot::dhcp::{Arrival, MAX_PACKET, Settings, Verdict};
use netboot::world::{Boot, Network};
use service::Drain;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::bootstate::BootState;

/// A rack's burst after a power failure fits in here.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// Interfaces and addresses may appear after us.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Packets taken from a socket before others get their turn.
const BATCH: usize = 64;

/// Serves DHCP until the drain stops. `port` is 67 but in tests.
pub async fn serve(state: Arc<BootState>, port: u16, drain: Drain) {
    let mut changes = state.changes();
    let mut open: BTreeMap<String, Served> = BTreeMap::new();
    let mut complained = BTreeSet::new();
    loop {
        refresh(&state, port, &drain, &mut open, &mut complained);
        tokio::select! {
            biased;
            () = drain.stopping() => return,
            changed = changes.changed() => if changed.is_err() { return },
            () = state.clock.sleep(LOOK_AGAIN) => {}
        }
    }
}

/// An interface that is served; dropping it ends its task.
struct Served {
    address: Ipv4Addr,
    index: u32,
    stop: watch::Sender<bool>,
}

/// Opens sockets of interfaces that are new and closes those that are gone or changed.
fn refresh(
    state: &Arc<BootState>,
    port: u16,
    drain: &Drain,
    open: &mut BTreeMap<String, Served>,
    complained: &mut BTreeSet<String>,
) {
    let site = state.view().site();
    let mut wanted = BTreeMap::new();
    for interface in &site.interfaces {
        match place(&interface.name, &site.networks) {
            Ok(place) => {
                complained.remove(&interface.name);
                wanted.insert(interface.name.clone(), place);
            }
            Err(error) => {
                if complained.insert(interface.name.clone()) {
                    warn!(interface = %interface.name, %error, "no DHCP on this interface yet");
                }
            }
        }
    }
    open.retain(|name, served| {
        let keep = wanted.get(name) == Some(&(served.address, served.index)) && !served.stop.is_closed();
        if !keep {
            info!(interface = %name, "DHCP ends");
            served.stop.send_replace(true);
        }
        keep
    });
    let own: Vec<Ipv4Addr> = wanted.values().map(|(address, _)| *address).collect();
    for (name, (address, index)) in wanted {
        if open.contains_key(&name) {
            continue;
        }
        match socket(&name, port) {
            Ok(socket) => {
                info!(interface = %name, %address, "DHCP begins");
                let settings = Settings { own: own.clone(), http_port: state.config.http_port };
                let (stop, stopped) = watch::channel(false);
                let task =
                    listen(state.clone(), socket, name.clone(), address, settings, stopped, drain.clone());
                drain.spawn(format!("dhcp {name}"), task);
                open.insert(name, Served { address, index, stop });
            }
            Err(error) => {
                if complained.insert(name.clone()) {
                    warn!(interface = %name, %error, "the DHCP socket cannot be opened");
                }
            }
        }
    }
}

/// Our address on the interface, in a network of the tables, and the interface's number.
fn place(interface: &str, networks: &[Network]) -> io::Result<(Ipv4Addr, u32)> {
    let any = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    let index = rustix::net::netdevice::name_to_index(&any, interface)
        .map_err(|_| io::Error::other("there is no such interface"))?;
    for network in networks {
        // The kernel tells which of our addresses it would use for this network over this device.
        let probe = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        probe.bind_device(Some(interface.as_bytes()))?;
        let inside = Ipv4Addr::from(u32::from(network.net).wrapping_add(1));
        if probe.connect(&SocketAddr::from((inside, 9)).into()).is_err() {
            continue;
        }
        let own = StdSocket::from(probe).local_addr()?;
        if let SocketAddr::V4(own) = own
            && network.contains(*own.ip())
        {
            return Ok((*own.ip(), index));
        }
    }
    Err(io::Error::other("it has no address in any network of the networks table"))
}

fn socket(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
    UdpSocket::from_std(socket.into())
}

async fn listen(
    state: Arc<BootState>,
    socket: UdpSocket,
    interface: String,
    address: Ipv4Addr,
    settings: Settings,
    mut stopped: watch::Receiver<bool>,
    drain: Drain,
) {
    let mut desk = Desk { state, socket, interface, address, settings };
    // One byte more than allowed, so that too long a packet shows.
    let mut buffer = vec![0; MAX_PACKET + 1];
    loop {
        tokio::select! {
            biased;
            () = drain.stopping() => return,
            _ = stopped.wait_for(|stop| *stop) => return,
            ready = desk.socket.readable() => if ready.is_err() { return },
        }
        for _ in 0..BATCH {
            match desk.socket.try_recv_from(&mut buffer) {
                Ok((length, SocketAddr::V4(source))) => desk.packet(&buffer[..length], source).await,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    // The device went down: the next look closes or renews the socket.
                    debug!(interface = %desk.interface, %error, "DHCP receive");
                    desk.state.health.counter("dhcp_receive_failed").one();
                    return;
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

struct Desk {
    state: Arc<BootState>,
    socket: UdpSocket,
    interface: String,
    address: Ipv4Addr,
    settings: Settings,
}

impl Desk {
    async fn packet(&mut self, datagram: &[u8], source: SocketAddrV4) {
        let health = &self.state.health;
        health.counter("dhcp_received").one();
        let arrival = Arrival { interface: self.interface.clone(), address: self.address, source };
        let decided = catch_unwind(AssertUnwindSafe(|| self.state.dhcp(datagram, &arrival, &self.settings)));
        let Ok(outcome) = decided else {
            health.counter("dhcp_dropped_panic").one();
            return;
        };
        match outcome.verdict {
            Verdict::Dropped(why) => {
                health.counter(dropped(why)).one();
                debug!(interface = %self.interface, %source, mac = ?outcome.seen, why = why.reason(), "DHCP dropped");
            }
            verdict => {
                health.counter(counter(verdict)).one();
                debug!(interface = %self.interface, mac = ?outcome.seen, node = outcome.node, ?verdict, "DHCP");
            }
        }
        let Some(reply) = outcome.reply.filter(|reply| !reply.bytes.is_empty()) else { return };
        if let Err(error) = self.socket.send_to(&reply.bytes, SocketAddr::V4(reply.destination)).await {
            health.counter("dhcp_send_failed").one();
            debug!(interface = %self.interface, to = %reply.destination, %error, "DHCP send");
        }
    }
}

fn counter(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Offer(_) => "dhcp_offers",
        Verdict::Ack(_) => "dhcp_acks",
        Verdict::Nak => "dhcp_naks",
        Verdict::Inform => "dhcp_informs",
        Verdict::Released(_) => "dhcp_releases",
        Verdict::Declined(_) => "dhcp_declines",
        Verdict::Dropped(why) => dropped(why),
    }
}

fn dropped(why: netboot::dhcp::Drop) -> &'static str {
    use netboot::dhcp::{Bad, Drop};
    match why {
        Drop::Bad(Bad::Oversized) => "dhcp_dropped_oversized",
        Drop::Bad(Bad::Cut) => "dhcp_dropped_cut",
        Drop::Bad(Bad::Malformed) => "dhcp_dropped_malformed",
        Drop::Bad(Bad::NotARequest) => "dhcp_dropped_not_a_request",
        Drop::NotServed => "dhcp_dropped_interface_not_served",
        Drop::NoNetwork => "dhcp_dropped_no_network",
        Drop::Denied => "dhcp_dropped_denied_by_table",
        Drop::NoAddress => "dhcp_dropped_no_address_in_network",
        Drop::PoolEmpty => "dhcp_dropped_pool_empty",
        Drop::TooMany => "dhcp_dropped_too_many_new_machines",
        Drop::OtherServer => "dhcp_dropped_other_server",
        Drop::Pointless => "dhcp_dropped_pointless",
    }
}
