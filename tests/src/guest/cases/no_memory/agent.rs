// SPDX-License-Identifier: GPL-2.0-only
//! What an agent asks of the control device, call by call.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::mman::MapFlags;
use srb_proto::control::{
    ActiveUrl, Config, DeviceInfo, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER, HELLO, JOIN,
    LISTING_HEAD_BYTES,
};
use srb_proto::descriptor::{Completion, Submission};
use srb_proto::layout::{Mapping, ABI_VERSION, CONTROL_WORKER, MAGIC};

use super::{each_of_the_module, named, succeeded};
use crate::guest::cases::io::hostile::control::Control;
use crate::guest::cases::io::hostile::rings::{request, Queue};
use crate::guest::cases::io::{join, leave};
use crate::guest::udev::settle;
use crate::guest::{process, Case, Device, Machine, TestResult};

/// How long somebody who asks may wait for an answer.
const ANSWER: Duration = Duration::from_secs(30);

pub(super) fn cases() -> Vec<Case> {
    vec![
        named!(an_agent_begins_and_ends),
        named!(an_agent_asks),
        named!(an_answer_is_taken),
        named!(memory_is_mapped),
    ]
}

/// A device whose agent has gone.
fn orphan() -> TestResult<(Machine, Device)> {
    let mut machine = Machine::builder().parameter("agent_grace", -1).start()?;
    machine.create("vol1", "1M")?;
    let device = machine.attach("vol1", "disk1")?;
    settle()?;
    machine.stop_agent()?;
    Ok((machine, device))
}

/// A real agent finds everything in order.
fn with_a_real_agent(mut machine: Machine, device: Device) -> TestResult {
    machine.start_agent()?;
    machine.sh(&format!("dd if={} of=/dev/null bs=64k status=none", device.path().display()))?;
    leave(device)
}

fn begin(control: &Control) -> Result<Hello, Errno> {
    let mut hello = Hello { magic: MAGIC, abi_version: ABI_VERSION, ..Hello::default() };
    control.ioctl(HELLO, &mut hello).map(|_| hello)
}

fn an_agent_begins_and_ends() -> TestResult {
    let (machine, device) = orphan()?;
    each_of_the_module("open of the control device", |nth| {
        let outcome = nth.during(Control::open)?;
        let errno = |error: std::io::Error| {
            Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
        };
        succeeded(outcome.map_err(errno)).map(drop)
    })?;
    each_of_the_module("HELLO", |nth| {
        let control = Control::open()?;
        let outcome = nth.during(|| begin(&control))?;
        if succeeded(outcome)?.is_none() {
            // EINVAL: it was the answer's copy that failed, and the session is there.
            let again = begin(&control);
            assert!(matches!(again, Ok(_) | Err(Errno::EINVAL)), "HELLO again: {again:?}");
        }
        Ok(())
    })?;
    each_of_the_module("the end of a session", |nth| {
        let (control, _) = Control::begin()?;
        nth.during(|| drop(control))?;
        // Nothing keeps the next one from beginning.
        drop(Control::begin()?);
        Ok(())
    })?;
    with_a_real_agent(machine, device)
}

fn an_agent_asks() -> TestResult {
    let (machine, device) = orphan()?;
    each_of_the_module("JOIN", |nth| {
        let (_control, said) = Control::begin()?;
        let file = Control::open()?;
        let mut join = Join { session: said.session, worker: 0, reserved: 0 };
        succeeded(nth.during(|| file.ioctl(JOIN, &mut join))?).map(drop)
    })?;
    let (control, said) = Control::begin()?;
    let mut room = [0_u8; 4096];
    each_of_the_module("CONFIG", |nth| {
        let urls = room.as_mut_ptr() as u64;
        let mut config = Config { urls, urls_capacity: 4096, ..Config::default() };
        succeeded(nth.during(|| control.ioctl(CONFIG, &mut config))?).map(drop)
    })?;
    each_of_the_module("DEVICE", |nth| {
        let mut info = DeviceInfo::default();
        succeeded(nth.during(|| control.ioctl(DEVICE, &mut info))?).map(drop)
    })?;
    each_of_the_module("ACTIVE_URL", |nth| {
        let mut config = Config::default();
        assert_eq!(control.ioctl(CONFIG, &mut config), Err(Errno::ENOSPC));
        let mut active = ActiveUrl { version: config.version, index: 0, fit_urls: 0 };
        succeeded(nth.during(|| control.ioctl(ACTIVE_URL, &mut active))?).map(drop)
    })?;
    let enter = Control::join(said.session, 0)?;
    each_of_the_module("ENTER: nothing to do", |nth| {
        succeeded(nth.during(|| enter.call(ENTER, 0))?).map(drop)
    })?;
    drop((control, enter));
    with_a_real_agent(machine, device)
}

/// The module makes a copy of an answer, for whoever waits for it.
fn an_answer_is_taken() -> TestResult {
    let (machine, device) = orphan()?;
    let (control, said) = Control::begin()?;
    let mut queue = Queue::new(&control, said.session, CONTROL_WORKER)?;
    each_of_the_module("ENTER with an answer", |nth| {
        // The agent itself could not ask.
        let asked = thread::spawn(|| process::sh("cat /sys/class/srb/volumes", ANSWER));
        let (queue, Submission { tag, generation, .. }) =
            request(std::slice::from_mut(&mut queue))?;
        // No volumes, and no names.
        let len = LISTING_HEAD_BYTES;
        queue.window(tag, len).iter().for_each(|word| word.store(0, Ordering::SeqCst));
        let len = u32::try_from(len)?;
        queue.answer(Completion { tag, generation, transient: false, status: 0, len })?;
        assert_eq!(nth.during(|| queue.enter())?, Ok(1));
        let listed = join(asked)?;
        if !listed.status.success() {
            assert!(listed.stderr.contains("Cannot allocate memory"), "{listed:?}");
        }
        Ok(())
    })?;
    drop((queue, control));
    with_a_real_agent(machine, device)
}

fn memory_is_mapped() -> TestResult {
    let (machine, device) = orphan()?;
    let (control, said) = Control::begin()?;
    let channel = Mapping::Channel { device: 0, queue: said.queues - 1 };
    // Together: one page table may be enough for several.
    each_of_the_module("mmap", |nth| {
        for mapping in [channel, Mapping::Control, Mapping::Doorbell { worker: 0 }] {
            let shared = MapFlags::MAP_SHARED;
            let map = || control.map(mapping.offset(), mapping.bytes(), shared);
            let Some(map) = succeeded(nth.during(map)?)? else { continue };
            // The fault: a page that cannot be mapped now can be later.
            succeeded(nth.during(|| map.probe(0))?)?;
            assert_eq!(map.probe(0), Ok(()), "{mapping:?}");
        }
        Ok(())
    })?;
    drop(control);
    with_a_real_agent(machine, device)
}
