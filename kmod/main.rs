// SPDX-License-Identifier: GPL-2.0-only
//! srb: volumes on a REST store as block devices.
//!
//! The module owns the block devices and the files in sysfs, and knows nothing of HTTP: it hands
//! requests to a userspace agent through shared memory. A request's way: [`channel`] → the agent →
//! [`channel`]; a command's: [`class_files`] → [`commands`] → [`calls`] → the agent →
//! [`calls`] → [`commands`].
//!
//! # Order of init and exit
//! Init makes what others stand on first. Exit goes backwards: no new commands and no waiters
//! ([`calls::shut_down`], the class), then the devices, then the work that serves them, then the
//! control device.

#![crate_name = "srb"]

use kernel::prelude::*;

mod atomic;
mod calls;
mod channel;
mod chardev;
mod class_files;
mod commands;
mod device;
mod disk_files;
mod fate;
mod ffi;
mod housekeeping;
mod layout;
mod lifecycle;
mod link;
mod log;
mod memory;
mod names;
mod params;
mod peer;
mod pressure;
#[allow(unreachable_pub, dead_code, unused_imports)]
#[path = "../proto/src/lib.rs"]
mod proto;
mod registry;
mod rounds;
mod session;
mod suspend;
mod urls;

module! {
    type: Srb,
    name: "srb",
    authors: ["the srb authors"],
    description: "Volumes on a REST store as block devices",
    license: "GPL v2",
}

/// What `/sys/module/srb/version` says; the `module!` macro has no word for it.
#[link_section = ".modinfo"]
#[used(compiler)]
static VERSION: [u8; VERSION_TEXT.len()] = ffi::param::bytes(VERSION_TEXT);
const VERSION_TEXT: &str = "version=0.1.0\0";

struct Srb {
    class: Option<ffi::sysfs::Registration>,
    // Dropped in this order, after `drop` has detached everything.
    _sleeps: suspend::Watch,
    _rounds: rounds::Rounds,
    _memory: pressure::Reserve,
    _work: ffi::work::WorkQueues,
    _control: ffi::chardev::Registration,
    _vacancy: session::VacancyKeeper,
}

impl kernel::Module for Srb {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { urls::init() };
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { lifecycle::init() };
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { registry::init() };
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { calls::init() };
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { session::init() };
        // SAFETY: Runs once, before anything that uses the lock.
        unsafe { pressure::init() };
        let work = ffi::work::WorkQueues::new()?;
        let sleeps = suspend::Watch::new()?;
        let rounds = rounds::Rounds::new(housekeeping::round)?;
        let memory = pressure::Reserve::new(housekeeping::relieve)?;
        let vacancy = session::VacancyKeeper::new()?;
        let control = ffi::chardev::Registration::new::<chardev::Handle, suspend::Sleeps>()?;
        let class = ffi::sysfs::Registration::new(&class_files::CLASS)?;
        ffi::param::watch(commands::apply_parameters);
        log::info!("loaded, ABI version {}\n", proto::layout::ABI_VERSION);
        Ok(Self {
            class: Some(class),
            _sleeps: sleeps,
            _rounds: rounds,
            _memory: memory,
            _work: work,
            _control: control,
            _vacancy: vacancy,
        })
    }
}

impl Drop for Srb {
    fn drop(&mut self) {
        ffi::param::watch_no_more();
        calls::shut_down();
        drop(self.class.take());
        commands::detach_all();
        while ffi::disk::live() > 0 {
            // The kernel frees a disk a moment after its last user has closed it.
            ffi::sleep::sleep_msecs(10);
        }
        registry::clear();
        urls::clear();
        log::info!("unloaded\n");
    }
}
