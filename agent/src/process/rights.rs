// SPDX-License-Identifier: GPL-2.0-only
//! The right that the agent needs once: CAP_SYS_ADMIN, to open the control device.
//!
//! Called from the main thread, once all files of the session are open, which may begin later, and
//! before there is any other thread: threads inherit what is left. Whoever then makes the process
//! that talks to servers do their bidding is no administrator.

use std::io;

use nix::errno::Errno;
use nix::libc;

/// Of `<linux/capability.h>`: version 3 of the call, with two words for each set.
const VERSION: u32 = 0x2008_0522;
/// Of `<linux/capability.h>`: the right's place in the sets.
const CAP_SYS_ADMIN: u32 = 21;

/// What capget(2) and capset(2) are told first.
#[repr(C)]
struct Header {
    version: u32,
    /// Zero: the calling thread.
    pid: i32,
}

/// The first or the second 32 rights.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives CAP_SYS_ADMIN up; nothing to do for who never had it.
///
/// # Errors
/// What the kernel says.
pub fn give_up_admin() -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: Both point to what the call takes in its third version.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, sets.as_mut_ptr()) };
    Errno::result(got)?;
    if let Some(first) = sets.first_mut() {
        let others = !(1 << CAP_SYS_ADMIN);
        first.effective &= others;
        first.permitted &= others;
        first.inheritable &= others;
    }
    // SAFETY: As above; the call only reads.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, sets.as_ptr()) };
    Errno::result(set)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("a status");
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        u64::from_str_radix(line.expect("rights").trim(), 16).expect("a number")
    }

    #[test]
    fn the_other_rights_stay() {
        // Rights are a thread's own.
        let thread = std::thread::spawn(|| {
            let before = effective();
            give_up_admin().expect("less is always allowed");
            assert_eq!(effective(), before & !(1 << CAP_SYS_ADMIN));
        });
        thread.join().expect("no panic");
    }
}
