// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an answer of the agent's may say: done, or failed with one of a few errnos.
//!
//! Both channels have this one list. The number of a completion goes to callers of write(2) and to
//! the block layer, where some errnos mean something else than a failure: to the kernel, those from
//! 512 on are orders to restart a system call or to wait for an answer that nobody will give, and
//! to the block layer -EAGAIN and -EREMCHG are no failures of the medium. So no other number than
//! those listed here gets past [`Status::from_number`].
//!
//! The numbers are those of `<asm-generic/errno.h>`, which all machines have that srb is built for.
//! docs/ABI says what each of them means to users.

/// The list: the enum, and the way from number to errno and back.
macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// Why something was not done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Errno {
            $($(#[$doc])* $name = $number,)*
        }

        impl Errno {
            /// All of them, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The errno of a number above zero; `None` if an answer may not say it.
            #[must_use]
            pub const fn from_number(number: i32) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    /// ENOENT: there is no such volume.
    NotFound = 2,
    /// EINTR: it was cancelled, and what had begun is undone.
    Interrupted = 4,
    /// EIO: the server failed, or what an agent says instead is not in this list.
    Failed = 5,
    /// EACCES: the server refused.
    Denied = 13,
    /// EEXIST: the volume exists.
    Exists = 17,
    /// EINVAL: the request makes no sense for the volume.
    Invalid = 22,
    /// ENOSPC: the server is full.
    Full = 28,
    /// EPROTO: the server's answer made no sense.
    Protocol = 71,
    /// EDESTADDRREQ: no URL is configured.
    NoUrl = 89,
    /// ETIMEDOUT: no answer in time.
    TimedOut = 110,
    /// ECONNREFUSED: every URL refused the connection.
    Refused = 111,
    /// EHOSTUNREACH: no URL can be reached.
    Unreachable = 113,
}

impl Errno {
    /// Its number, above zero.
    #[must_use]
    pub const fn number(self) -> i32 {
        self as u8 as i32
    }

    /// The errno of a number above zero, EIO if an answer may not say it.
    #[must_use]
    pub const fn or_failed(number: i32) -> Self {
        match Self::from_number(number) {
            Some(errno) => errno,
            None => Self::Failed,
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// It was carried out.
    Done,
    /// It was not, or nobody knows.
    Failed(Errno),
}

impl Status {
    /// From a completion: 0, or an errno of the list below zero. `None`: it is no status.
    #[must_use]
    pub const fn from_number(number: i32) -> Option<Self> {
        if number == 0 {
            return Some(Self::Done);
        }
        match number.checked_neg() {
            Some(positive) => match Errno::from_number(positive) {
                Some(errno) => Some(Self::Failed(errno)),
                None => None,
            },
            None => None,
        }
    }

    /// As it goes into a completion.
    #[must_use]
    pub const fn to_number(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Failed(errno) => errno.number().wrapping_neg(),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_0_or_one_of_the_list_and_nothing_else() {
        let listed = [-113, -111, -110, -89, -71, -28, -22, -17, -13, -5, -4, -2, 0];
        for number in (-70_000..70_000).chain([i32::MIN, i32::MIN + 1, i32::MAX]) {
            let status = Status::from_number(number);
            assert_eq!(status.is_some(), listed.contains(&number), "{number}");
            if let Some(status) = status {
                assert_eq!(status.to_number(), number);
            }
        }
    }

    #[test]
    fn no_status_restarts_a_call_or_means_something_to_the_block_layer() {
        // ERESTARTSYS to EIOCBQUEUED and their kin; EAGAIN, EREMCHG.
        for number in (512..=4095).chain([11, 78]) {
            assert_eq!(Errno::from_number(number), None);
            assert_eq!(Errno::or_failed(number), Errno::Failed);
        }
    }

    #[test]
    fn all_of_them_are_listed_by_number() {
        let numbers: [i32; 12] = core::array::from_fn(|at| Errno::ALL[at].number());
        assert_eq!(Errno::ALL.len(), numbers.len());
        assert!(numbers.is_sorted());
    }
}
