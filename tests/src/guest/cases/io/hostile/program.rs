// SPDX-License-Identifier: GPL-2.0-only
//! The hostile program: `srb-guest-tests hostile SCENARIO SEED [OPERATIONS]`.
//!
//! Scenarios about single calls stand here, those about rings in `rings`. It ends with 0 when the
//! module did what it should.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::mman::MapFlags;
use nix::sys::stat::{mknod, stat, Mode, SFlag};
use srb_proto::control::{
    ActiveUrl, Config, DeviceInfo, Enter, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER,
    ENTER_WAIT, HELLO, JOIN, MAX_POLL_USECS,
};
use srb_proto::layout::{Mapping, ABI_VERSION, CONTROL_WORKER, DATA, MAGIC, PAGE_BYTES};

use super::control::Control;
use super::{rings, storm, wakeups};
use crate::guest::machine::message;
use crate::guest::TestResult;

/// The first argument that makes `srb-guest-tests` this program.
pub const WORD: &str = "hostile";

/// Addresses that no process may hand to the kernel, or that nothing lies at.
pub(super) const BAD_ADDRESSES: [u64; 4] = [0, 8, 0x0000_7fff_ffff_f000, 0xffff_8880_0000_0000];

/// Runs what the arguments after [`WORD`] say.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let scenario = arguments.first().map(String::as_str).unwrap_or_default();
    let seed = arguments.get(1).and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let operations = arguments.get(2).and_then(|count| count.parse().ok()).unwrap_or(1000);
    let outcome = match scenario {
        "calls" => calls(),
        "mappings" => mappings(),
        "noise" => rings::noise(seed),
        "statuses" => rings::statuses(),
        "wakeups" => wakeups::run(),
        "looks" => wakeups::looks(),
        "storm" => storm::run(seed, operations),
        ring => rings::run(ring),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{scenario} (seed {seed}): {}", message(&why));
            ExitCode::FAILURE
        }
    }
}

/// Fails unless a call gave this error.
fn refused<T>(what: &str, outcome: Result<T, Errno>, expected: Errno) -> TestResult {
    match outcome {
        Err(errno) if errno == expected => Ok(()),
        Err(errno) => Err(format!("{what}: {errno}, not {expected}").into()),
        Ok(_) => Err(format!("{what} was not refused").into()),
    }
}

fn hello() -> Hello {
    Hello { magic: MAGIC, abi_version: ABI_VERSION, ..Hello::default() }
}

fn calls() -> TestResult {
    on_a_fresh_file()?;
    let (control, said) = Control::begin()?;
    on_the_session_file(&control, said.session)?;
    on_a_worker_file(said)?;
    // A second agent while there is one.
    refused("a second HELLO", Control::begin().map(drop), Errno::EBUSY)?;
    drop(control);
    let (control, next) = Control::begin()?;
    refused("JOIN of the last session", Control::join(said.session, 0).map(drop), Errno::ESTALE)?;
    assert!(next.session > said.session, "a session's number was used again");
    drop(control);
    Ok(())
}

fn on_a_fresh_file() -> TestResult {
    let fresh = Control::open()?;
    for (field, wrong) in [
        ("magic", Hello { magic: MAGIC ^ 1, ..hello() }),
        ("flags", Hello { flags: 2, ..hello() }),
        ("reserved", Hello { reserved: 7, ..hello() }),
    ] {
        let mut wrong = wrong;
        refused(field, fresh.ioctl(HELLO, &mut wrong), Errno::EINVAL)?;
    }
    for version in [0, ABI_VERSION + 1, u32::MAX] {
        let mut other = Hello { abi_version: version, ..hello() };
        refused("a wrong version", fresh.ioctl(HELLO, &mut other), Errno::EPROTO)?;
        assert_eq!(other.abi_version, ABI_VERSION, "the module's own version is told");
    }
    for address in BAD_ADDRESSES {
        refused("HELLO at a bad address", fresh.call(HELLO, address), Errno::EFAULT)?;
    }
    refused("ENTER", fresh.call(ENTER, 0), Errno::EINVAL)?;
    // Who stands by may read it.
    let config = fresh.ioctl(CONFIG, &mut Config::default());
    refused("CONFIG without room, of a fresh file", config, Errno::ENOSPC)?;
    refused("DEVICE", fresh.ioctl(DEVICE, &mut DeviceInfo::default()), Errno::EINVAL)?;
    refused("ACTIVE_URL", fresh.ioctl(ACTIVE_URL, &mut ActiveUrl::default()), Errno::EINVAL)?;
    refused("JOIN without a session", Control::join(1, 0).map(drop), Errno::ESTALE)?;
    refused("mmap", fresh.map_all(Mapping::Control).map(drop), Errno::EINVAL)?;
    for unknown in [0, 1, HELLO ^ (1 << 30), HELLO + 0x40, ENTER + 0x100, u32::MAX] {
        refused("an unknown ioctl", fresh.call(unknown, 0), Errno::ENOTTY)?;
    }
    Ok(())
}

fn on_the_session_file(control: &Control, session: u64) -> TestResult {
    refused("HELLO again", control.ioctl(HELLO, &mut hello()), Errno::EINVAL)?;
    let mut join = Join { session, worker: 0, reserved: 0 };
    refused("JOIN on the session's file", control.ioctl(JOIN, &mut join), Errno::EINVAL)?;
    for flags in [0, ENTER_WAIT, u64::MAX] {
        refused("ENTER on the session's file", control.call(ENTER, flags), Errno::EINVAL)?;
    }
    for address in BAD_ADDRESSES {
        for cmd in [CONFIG, DEVICE, ACTIVE_URL] {
            refused("an ioctl at a bad address", control.call(cmd, address), Errno::EFAULT)?;
        }
    }
    let mut config = Config::default();
    refused("CONFIG without room", control.ioctl(CONFIG, &mut config), Errno::ENOSPC)?;
    assert!(config.urls_bytes > 0, "it is told how much room there must be");
    let capacity = config.urls_bytes;
    for address in BAD_ADDRESSES {
        let mut config = Config { urls: address, urls_capacity: capacity, ..Config::default() };
        refused("URLs to a bad address", control.ioctl(CONFIG, &mut config), Errno::EFAULT)?;
    }
    let mut beyond = DeviceInfo { index: u32::MAX, ..DeviceInfo::default() };
    refused("a device that is not", control.ioctl(DEVICE, &mut beyond), Errno::ENOENT)?;
    let mut stale = ActiveUrl { version: u64::MAX, index: 0, fit_urls: 0 };
    refused("a stale version", control.ioctl(ACTIVE_URL, &mut stale), Errno::ESTALE)?;
    let mut missing = ActiveUrl { version: config.version, index: u32::MAX, fit_urls: 0 };
    refused("a URL that is not", control.ioctl(ACTIVE_URL, &mut missing), Errno::EINVAL)
}

fn on_a_worker_file(said: Hello) -> TestResult {
    for worker in [said.queues, 0x7f, CONTROL_WORKER + 1, u32::MAX] {
        let joined = Control::join(said.session, worker);
        refused("a worker that is not", joined.map(drop), Errno::EINVAL)?;
    }
    refused("a session that is not", Control::join(u64::MAX, 0).map(drop), Errno::ESTALE)?;
    let worker = Control::join(said.session, 0)?;
    refused("a worker twice", Control::join(said.session, 0).map(drop), Errno::EBUSY)?;
    refused("CONFIG of a worker", worker.ioctl(CONFIG, &mut Config::default()), Errno::EINVAL)?;
    refused("HELLO of a worker", worker.ioctl(HELLO, &mut hello()), Errno::EINVAL)?;
    let too_long = Enter { wait: false, poll_usecs: MAX_POLL_USECS + 1 }.to_bits();
    for flags in [2, ENTER_WAIT | 2, too_long, u64::MAX] {
        refused("ENTER with unknown flags", worker.call(ENTER, flags), Errno::EINVAL)?;
    }
    assert_eq!(worker.call(ENTER, 0), Ok(0), "nothing to reap");
    Ok(())
}

/// What mmap(2) gives for a worker's file of a second node of the device: what is mapped there lies
/// in another address space than what the module takes away when the session ends.
fn by_another_node(said: Hello, mapping: Mapping) -> TestResult<Result<(), Errno>> {
    let node = Path::new("/run/srb-control-again");
    let device = stat("/dev/srb-control")?.st_rdev;
    let _ = fs::remove_file(node);
    mknod(node, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, device)?;
    let file = Control::open_at(node)?;
    fs::remove_file(node)?;
    let mut join = Join { session: said.session, worker: 0, reserved: 0 };
    file.ioctl(JOIN, &mut join)?;
    Ok(file.map_all(mapping).map(drop))
}

fn mappings() -> TestResult {
    let (control, said) = Control::begin()?;
    let shared = MapFlags::MAP_SHARED;
    let channel = Mapping::Channel { device: 0, queue: 0 };
    for mapping in [channel, Mapping::Control, Mapping::Doorbell { worker: 0 }] {
        let (offset, bytes) = (mapping.offset(), mapping.bytes());
        let private = control.map(offset, bytes, MapFlags::MAP_PRIVATE);
        refused("a private mapping", private.map(drop), Errno::EINVAL)?;
        for more in [bytes + 1, bytes + PAGE_BYTES, bytes * 4] {
            refused("too much", control.map(offset, more, shared).map(drop), Errno::EINVAL)?;
        }
        let shifted = control.map(offset + PAGE_BYTES as u64, PAGE_BYTES, shared);
        refused("a part from the middle", shifted.map(drop), Errno::EINVAL)?;
        let odd = control.map(offset + 8, PAGE_BYTES, shared);
        refused("a misaligned offset", odd.map(drop), Errno::EINVAL)?;
    }
    for offset in [0, 1 << 40, 4 << 56, 0x7f << 56] {
        let nothing = control.map(offset, PAGE_BYTES, shared);
        refused("where nothing is", nothing.map(drop), Errno::EINVAL)?;
    }
    for (missing, errno) in [
        (Mapping::Channel { device: 9, queue: 0 }, Errno::ENOENT),
        (Mapping::Channel { device: 0, queue: said.queues }, Errno::ENOENT),
        (Mapping::Doorbell { worker: said.queues }, Errno::EINVAL),
    ] {
        refused("what is not", control.map_all(missing).map(drop), errno)?;
    }
    let map = control.map_all(channel)?;
    assert_eq!(map.probe(0), Ok(()), "the header is there");
    let window = DATA.window_offset(5);
    refused("a window without pages", map.probe(window), Errno::EFAULT)?;
    let last = map.bytes() - PAGE_BYTES;
    refused("the last page", map.probe(last), Errno::EFAULT)?;
    refused("a mapping by another node", by_another_node(said, channel)?, Errno::EINVAL)?;
    // Two mappings instead of one, and the memory is taken away from both.
    map.punch(PAGE_BYTES, PAGE_BYTES)?;
    let again = control.map_all(channel)?;
    rings::end_session(&control, said)?;
    refused("mmap after the end", control.map_all(channel).map(drop), Errno::ESHUTDOWN)?;
    for map in [&map, &again] {
        refused("memory of a session that is over", map.probe(0), Errno::EFAULT)?;
    }
    Ok(())
}
