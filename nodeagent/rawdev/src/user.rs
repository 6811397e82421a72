//! Becoming another user, with all groups, between fork and exec.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The command will run as this user with exactly these groups.
pub fn become_user(command: &mut Command, uid: u32, gid: u32, groups: Vec<u32>) {
    let change = move || {
        let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        // SAFETY: the list is valid for its length; the three calls are async-signal-safe.
        check(unsafe { libc::setgroups(groups.len() as _, groups.as_ptr()) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::setgid(gid) })?;
        // SAFETY: no pointers.
        check(unsafe { libc::setuid(uid) })
    };
    // SAFETY: the closure allocates nothing and calls only async-signal-safe functions.
    unsafe { command.pre_exec(change) };
}
