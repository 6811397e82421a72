//! `/dev/ipmi0`: one request, one answer (linux/ipmi.h).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// The system interface's address type and channel.
const SYSTEM_INTERFACE: libc::c_int = 0x0c;
const BMC_CHANNEL: libc::c_short = 0x0f;
/// Longest answer of a system interface (KCS, SMIC, BT, SSIF).
const MAX_ANSWER: usize = 272;

const SEND_COMMAND: libc::c_ulong = request_code(2, 13, size_of::<Request>());
const RECEIVE_TRUNCATED: libc::c_ulong = request_code(3, 11, size_of::<Received>());

/// `_IOR('i', ..)` (2) and `_IOWR('i', ..)` (3) of the common architectures.
const fn request_code(direction: libc::c_ulong, number: libc::c_ulong, size: usize) -> libc::c_ulong {
    (direction << 30) | ((size as libc::c_ulong) << 16) | ((b'i' as libc::c_ulong) << 8) | number
}

#[repr(C)]
struct SystemAddress {
    kind: libc::c_int,
    channel: libc::c_short,
    lun: libc::c_uchar,
}

#[repr(C)]
struct Message {
    netfn: libc::c_uchar,
    command: libc::c_uchar,
    length: libc::c_ushort,
    data: *mut libc::c_uchar,
}

#[repr(C)]
struct Request {
    address: *mut libc::c_uchar,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: Message,
}

#[repr(C)]
struct Received {
    kind: libc::c_int,
    address: *mut libc::c_uchar,
    address_length: libc::c_uint,
    id: libc::c_long,
    message: Message,
}

/// The BMC of this machine.
#[derive(Debug)]
pub struct IpmiDevice {
    file: File,
    next: libc::c_long,
}

impl IpmiDevice {
    /// Opens the device node.
    ///
    /// # Errors
    /// When there is none or it may not be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().read(true).write(true).open(path)?, next: 1 })
    }

    /// Sends a request and gives the answer's bytes, the completion code first.
    ///
    /// # Errors
    /// When the driver refuses, or no answer came within `patience`.
    pub fn request(
        &mut self,
        netfn: u8,
        command: u8,
        data: &[u8],
        patience: Duration,
    ) -> io::Result<Vec<u8>> {
        let id = self.next;
        self.next += 1;
        let mut data = data.to_vec();
        let mut address = SystemAddress { kind: SYSTEM_INTERFACE, channel: BMC_CHANNEL, lun: 0 };
        let length = libc::c_ushort::try_from(data.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut request = Request {
            address: (&raw mut address).cast(),
            address_length: size_of::<SystemAddress>() as libc::c_uint,
            id,
            message: Message { netfn, command, length, data: data.as_mut_ptr() },
        };
        // SAFETY: the pointers in `request` are valid for the call and the kernel copies what they show.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), SEND_COMMAND as _, &raw mut request) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !crate::readable(self.file.as_raw_fd(), left)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let (answered, bytes) = self.receive()?;
            // An answer to an earlier request that came too late is dropped.
            if answered == id {
                return Ok(bytes);
            }
        }
    }

    fn receive(&mut self) -> io::Result<(libc::c_long, Vec<u8>)> {
        let mut address = [0; 64];
        let mut data = vec![0; MAX_ANSWER];
        let mut received = Received {
            kind: 0,
            address: address.as_mut_ptr(),
            address_length: address.len() as libc::c_uint,
            id: 0,
            message: Message {
                netfn: 0,
                command: 0,
                length: MAX_ANSWER as libc::c_ushort,
                data: data.as_mut_ptr(),
            },
        };
        // SAFETY: both buffers outlive the call and their lengths are told to the kernel.
        if unsafe { libc::ioctl(self.file.as_raw_fd(), RECEIVE_TRUNCATED as _, &raw mut received) } < 0 {
            return Err(io::Error::last_os_error());
        }
        data.truncate(usize::from(received.message.length));
        Ok((received.id, data))
    }
}
