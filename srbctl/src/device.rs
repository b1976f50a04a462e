// SPDX-License-Identifier: GPL-2.0-only
//! `srbctl attach` and `srbctl detach`.

use crate::error::Failures;
use crate::explain::Operation;
use crate::volume::change;
use crate::Host;

/// Makes a block device of a volume.
pub(crate) fn attach(host: &Host, volume: &str, device: &str) -> Result<(), Failures> {
    let command = format!("{volume} {device}");
    change(host, Operation::Attach { volume, device }, "attach", &command)
}

/// Takes a block device away.
pub(crate) fn detach(host: &Host, device: &str) -> Result<(), Failures> {
    change(host, Operation::Detach { device }, "detach", device)
}
