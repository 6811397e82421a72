//! A packet socket that hears LLDP frames on one interface.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// EtherType of IEEE 802.1AB.
const ETHERTYPE: u16 = 0x88cc;
/// "Nearest bridge", where switches send.
const GROUP: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];

/// Hears what the neighbor on one interface says about itself.
#[derive(Debug)]
pub struct LldpSocket {
    file: File,
}

impl LldpSocket {
    /// Listens on the interface with this index.
    ///
    /// # Errors
    /// When the system refuses (no right, no such interface).
    pub fn open(index: u32) -> io::Result<Self> {
        let index = libc::c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let protocol = libc::c_int::from(ETHERTYPE.to_be());
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made and belongs to nobody else.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        // SAFETY: all-zero is a valid value of these plain structures.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::c_ushort;
        address.sll_protocol = ETHERTYPE.to_be();
        address.sll_ifindex = index;
        let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address is valid for `size` bytes.
        if unsafe { libc::bind(fd, (&raw const address).cast(), size) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        let mut member: libc::packet_mreq = unsafe { std::mem::zeroed() };
        member.mr_ifindex = index;
        member.mr_type = libc::PACKET_MR_MULTICAST as libc::c_ushort;
        member.mr_alen = GROUP.len() as libc::c_ushort;
        member.mr_address[..GROUP.len()].copy_from_slice(&GROUP);
        let size = size_of::<libc::packet_mreq>() as libc::socklen_t;
        // SAFETY: the structure is valid for `size` bytes.
        let joined = unsafe {
            let value = (&raw const member).cast();
            libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value, size)
        };
        if joined < 0 { Err(io::Error::last_os_error()) } else { Ok(Self { file }) }
    }

    /// The next frame, cut at 1,600 bytes. None when `patience` ended first.
    ///
    /// # Errors
    /// When the interface went away.
    pub fn receive(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        if !crate::readable(self.file.as_raw_fd(), patience)? {
            return Ok(None);
        }
        let mut frame = vec![0; 1_600];
        let length = self.file.read(&mut frame)?;
        frame.truncate(length);
        Ok(Some(frame))
    }
}
