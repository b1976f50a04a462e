// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What the kernel module and the agent say to each other, and the words that users say to both.
//!
//! The crate has no dependency and needs no allocator. It is compiled twice: by cargo into the
//! agent, and by Kbuild as a module of `srb.ko` (hence `self::` and `super::`, never `crate::`).
//! Everything in it that reads shared memory takes the other side for hostile: one read into a
//! local copy, then checks, and no index left unchecked.
//!
//! - [`layout`]: where things lie in the mapped memory, and the offsets at which it is mapped.
//! - [`control`]: the ioctls of `/dev/srb-control` and the payloads of control requests.
//! - [`descriptor`]: submission and completion entries.
//! - [`status`]: what a completion may say of its request.
//! - [`ring`]: the single-producer, single-consumer ring that carries them.
//! - [`doorbell`]: which channels have something to say, and whether somebody must be woken for it.
//! - [`command`]: sizes, names, URLs and the commands made of them.
//! - [`atomic`]: the memory accesses that the algorithms are written in.

#![cfg_attr(not(MODULE), no_std)]
#![cfg_attr(
    all(not(MODULE), not(test)),
    warn(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

pub mod atomic;
pub mod command;
pub mod control;
pub mod descriptor;
pub mod doorbell;
pub mod layout;
pub mod ring;
pub mod status;
