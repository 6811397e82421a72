//! The few system calls of the node agent that have no safe wrapper in the crates we use: the ioctls of
//! the kernel's IPMI device, a packet socket for LLDP, and becoming another user between fork and exec.
//!
//! Each is a thin function over bytes; nothing here decides anything.

mod ipmi;
mod lldp;
mod user;

pub use ipmi::IpmiDevice;
pub use lldp::LldpSocket;
pub use user::become_user;

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Waits until `fd` can be read. False when `patience` ended first.
fn readable(fd: RawFd, patience: Duration) -> io::Result<bool> {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = libc::c_int::try_from(patience.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `poll` is one valid pollfd for the duration of the call.
    match unsafe { libc::poll(&raw mut poll, 1, millis) } {
        -1 => Err(io::Error::last_os_error()),
        count => Ok(count > 0),
    }
}
