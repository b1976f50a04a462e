// SPDX-License-Identifier: GPL-2.0-only
//! What `main` does before a program of Rust's begins, and libFuzzer's does not: a socket whose
//! other end is gone is an error, and no signal that ends the process.

use nix::sys::signal::{signal, SigHandler, Signal};

/// For targets that send to somebody who may have hung up.
pub(crate) fn ignore_sigpipe() {
    // SAFETY: The signal is ignored from now on: no handler runs.
    let before = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    assert!(before.is_ok(), "{before:?}");
}
