// SPDX-License-Identifier: GPL-2.0-only
//! Tests of srb as a whole: a launcher for virtual machines, and what runs inside them.
//!
//! [`vm`] boots Debian's stock kernel in QEMU and runs one command there; it is what the binary
//! `srb-vm` calls. [`boots`] starts and stops whole machines with srb's packages; the binary is
//! `srb-boots`. [`guest`] is the frame of the tests that run in such a machine, as root, against
//! a real module; the binary `srb-guest-tests` holds them. [`faults`] runs fault campaigns, most
//! of which happen in there; the binary is `srb-faults`. [`mod@bench`] measures srb and its peers;
//! the binary is `srb-bench`. [`processor`] says how busy a machine was
//! meanwhile. None of it is of use to a running srb.

pub mod bench;
pub mod boots;
pub mod faults;
pub mod guest;
pub mod processor;
pub mod vm;
