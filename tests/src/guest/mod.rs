// SPDX-License-Identifier: GPL-2.0-only
//! The frame of the tests that run inside the VM, as root, against the real module.
//!
//! A test is a [`Case`]: a name, and a function that makes itself a [`Machine`] (module loaded,
//! playground and agent running) and then does what a user does. The runner ([`suite`]) runs one at
//! a time and, after each, whether it passed or not, looks whether the machine is [`clean`]: no
//! device, URL, process or task stuck in the kernel is left, the module can be unloaded, and the
//! kernel's log ([`kmsg`]) has nothing in it that it should not have. Whatever is found fails the
//! test that left it, and is then removed, so that the next one starts afresh.
//!
//! ```no_run
//! use srb_tests::guest::{Case, Machine, TestResult};
//!
//! fn a_volume_becomes_a_device() -> TestResult {
//!     let machine = Machine::builder().start()?;
//!     machine.create("vol1", "64M")?;
//!     let disk = machine.attach("vol1", "disk1")?;
//!     machine.sh(&format!("mkfs.ext4 -q {}", disk.path().display()))?;
//!     disk.detach()?;
//!     machine.destroy("vol1")?;
//!     Ok(())
//! }
//!
//! fn cases() -> Vec<Case> {
//!     vec![Case::new("device::a_volume_becomes_a_device", a_volume_becomes_a_device)]
//! }
//! ```

pub mod cases;
pub mod clean;
pub mod cut;
pub mod fio;
pub mod injection;
pub mod kmemleak;
pub mod kmsg;
mod machine;
pub mod memory;
pub mod pauses;
pub mod process;
pub mod races;
pub mod random;
pub mod shell;
pub mod suite;
pub mod sysfs;
pub mod udev;
pub mod wait;

pub use libtest_mimic::Failed;
pub use machine::{load_module, Device, Machine, MachineBuilder, Mount, Playground};
pub use suite::Case;

/// What a test ends with; `?` works on any error that can be displayed.
pub type TestResult<T = ()> = Result<T, Failed>;
