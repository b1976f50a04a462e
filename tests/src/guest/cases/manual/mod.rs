// SPDX-License-Identifier: GPL-2.0-only
//! The manual, word by word: every file, parameter and command, and how each of them fails.
//!
//! `docs/ABI` says what is to be expected. A file of tests for each group; [`server`] is the HTTP
//! server that misbehaves as a test wants.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::guest::kmsg::{KernelLog, Record};
use crate::guest::udev::settle;
use crate::guest::wait::wait_for;
use crate::guest::{sysfs, Case, Device, Machine, TestResult};
use server::Server;

/// Cases of these functions, named after them.
macro_rules! named {
    ($area:literal: $($name:ident),* $(,)?) => {
        [$($crate::guest::Case::new(
            concat!("manual::", $area, "::", stringify!($name)),
            $name,
        )),*]
    };
}

mod agent;
mod attach;
mod create;
mod detach;
mod disk;
mod extend;
mod failures;
mod files;
mod interrupt;
mod limits;
mod log;
mod parameters;
mod server;
mod srbctl;
mod unload;
mod urls;
mod volumes;

/// How long udev may take.
const SETTLE: Duration = Duration::from_secs(20);

pub(super) fn cases() -> Vec<Case> {
    let groups = [
        files::cases(),
        urls::cases(),
        create::cases(),
        volumes::cases(),
        extend::cases(),
        attach::cases(),
        detach::cases(),
        disk::cases(),
        limits::cases(),
        parameters::cases(),
        agent::cases(),
        failures::cases(),
        interrupt::cases(),
        log::cases(),
        unload::cases(),
        srbctl::cases(),
    ];
    groups.into_iter().flatten().collect()
}

/// The beginning of a command, for messages.
fn shown(words: &[u8]) -> String {
    String::from_utf8_lossy(words.get(..words.len().min(80)).unwrap_or(words)).into_owned()
}

/// The command must fail with this errno.
fn refused(file: &str, words: impl AsRef<[u8]>, errno: Errno) {
    let words = words.as_ref();
    assert_eq!(sysfs::command(file, words), Err(errno), "{file}: {}", shown(words));
}

/// The command must succeed.
fn done(file: &str, words: impl AsRef<[u8]>) {
    let words = words.as_ref();
    assert_eq!(sysfs::command(file, words), Ok(()), "{file}: {}", shown(words));
}

/// Reads a file of the class.
fn read_class(file: &str) -> Result<String, Errno> {
    sysfs::read(Path::new(sysfs::CLASS).join(file))
}

/// Sets a parameter of the module.
fn set_parameter(name: &str, value: impl std::fmt::Display) -> Result<(), Errno> {
    sysfs::write(Path::new(sysfs::PARAMETERS).join(name), value.to_string())
}

/// What a parameter of the module is.
fn parameter(name: &str) -> TestResult<String> {
    Ok(sysfs::read(Path::new(sysfs::PARAMETERS).join(name))?.trim_end().to_owned())
}

/// A new volume, attached; udev has had its look at it.
fn attached(machine: &Machine, volume: &str, size: &str, name: &str) -> TestResult<Device> {
    machine.create(volume, size)?;
    let device = machine.attach(volume, name)?;
    settle()?;
    Ok(device)
}

/// Detaches a device that nobody but udev may have open, for a moment.
fn detach(device: Device) -> TestResult {
    let name = device.name().to_owned();
    settle()?;
    wait_for(&format!("{name} can be detached"), SETTLE, || {
        match sysfs::command("detach", &name) {
            Err(Errno::EBUSY) => Ok(None),
            result => Ok(result.map(Some)?),
        }
    })?;
    // It is detached: nothing is left to do for its owner.
    std::mem::forget(device);
    Ok(())
}

/// A machine whose one URL is that of `server`, with these parameters.
fn machine_at(server: &Server, parameters: &[(&str, u32)]) -> TestResult<Machine> {
    let mut builder = Machine::builder().without_urls();
    for (name, value) in parameters {
        builder = builder.parameter(name, value);
    }
    let machine = builder.start()?;
    sysfs::command("add_urls", server.url())?;
    Ok(machine)
}

/// How long `f` takes, and what it gives.
fn timed<T>(f: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = f();
    (result, began.elapsed())
}

/// What `f` gives, and what the module logs meanwhile.
fn logged<T>(f: impl FnOnce() -> T) -> TestResult<(T, Vec<Record>)> {
    let mut log = KernelLog::from_now()?;
    let result = f();
    let mut records = log.records()?;
    records.retain(|record| record.text.starts_with("srb:"));
    Ok((result, records))
}
