//! The UDP socket below QUIC, with receive buffers that hold a whole rack's answers.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::warn;

/// A bound socket of the current network namespace. `buffer` is wanted in both directions; what the
/// system grants less is warned of when `warn_if_small`.
pub(crate) fn bind(address: SocketAddr, buffer: usize, warn_if_small: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // The forced form needs CAP_NET_ADMIN and passes the limit in net.core.rmem_max; the plain form is
    // cut to that limit without an error.
    if sockopt::set_socket_recv_buffer_size_force(&socket, buffer).is_err() {
        socket.set_recv_buffer_size(buffer)?;
    }
    if sockopt::set_socket_send_buffer_size_force(&socket, buffer).is_err() {
        socket.set_send_buffer_size(buffer)?;
    }
    let granted = socket.recv_buffer_size()?;
    if warn_if_small && granted < buffer {
        warn!(%address, wanted = buffer, granted, "small UDP receive buffer: raise net.core.rmem_max, or answers of many nodes at once are lost and resent");
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
