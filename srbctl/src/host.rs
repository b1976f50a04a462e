// SPDX-License-Identifier: GPL-2.0-only
//! Where the facts come from, and how they are shown.

use std::path::PathBuf;

use crate::agent::Agent;
use crate::output::Style;
use crate::sysfs::Sysfs;

/// What every command is given.
pub(crate) struct Host {
    /// The module's files.
    pub(crate) sysfs: Sysfs,
    /// Where the processes are listed.
    pub(crate) proc_root: PathBuf,
    /// The agent's socket.
    pub(crate) agent: Agent,
    /// For the output.
    pub(crate) style: Style,
}
