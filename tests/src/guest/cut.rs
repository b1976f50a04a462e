// SPDX-License-Identifier: GPL-2.0-only
//! The machine whose power is cut: `srb-guest-tests cut VOLUMES-PORT DRIVER-PORT`.
//!
//! Its server and its driver ([`crate::faults::power_cuts`]) live outside, on the host's loopback.
//! It first recovers what the last cut left: mounts each filesystem, compares the files that the
//! driver knows to have been synced, and checks the filesystem. Then it writes, and tells the
//! driver of each write that was acknowledged, until it is no more.
//!
//! # Protocol
//! Lines, each ended by a newline. The driver first sends `cut N`, `file FS NAME SEED BYTES` for
//! each file to be compared, and `go` or `end`. The machine sends `recovered`, and then
//! `raw WRITER SEQUENCE`, `file FS NAME SEED BYTES` and, before a file is replaced, `gone FS NAME`;
//! or `failed TEXT`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;

use super::machine::message;
use super::process::{self, Daemon};
use super::random::Random;
use super::wait::wait_until;
use super::{load_module, sysfs, udev, Failed, Mount, TestResult};

/// The first argument that makes `srb-guest-tests` this program.
pub const WORD: &str = "cut";
/// The filesystems; each has a volume and a device of its name.
pub const FILESYSTEMS: [&str; 2] = ["ext4", "xfs"];
/// The volume and device of the direct writers.
pub const RAW: &str = "raw";
/// Direct writers.
pub const WRITERS: u64 = 2;
/// Bytes of a direct write.
pub const BLOCK_BYTES: usize = 16 << 10;
/// Blocks of a direct writer, which it writes in a circle.
pub const BLOCKS: u64 = 128;

/// Where QEMU's network has the host's loopback.
const HOST: &str = "10.0.2.2";
/// Sizes of the volumes: XFS takes nothing smaller.
const VOLUME: &str = "320M";
const STEP: Duration = Duration::from_secs(100);

/// Where a direct writer's write goes, in bytes.
#[must_use]
pub const fn raw_offset(writer: u64, sequence: u64) -> u64 {
    (writer * BLOCKS + sequence % BLOCKS) * BLOCK_BYTES as u64
}

/// The word that a direct write repeats; never zero, as sequences start at 1.
#[must_use]
pub const fn raw_word(cut: u64, writer: u64, sequence: u64) -> u64 {
    cut << 48 | writer << 40 | sequence
}

/// A file that was synced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// One of [`FILESYSTEMS`].
    pub filesystem: String,
    /// Its name in the filesystem's root.
    pub name: String,
    /// The seed of its content.
    pub seed: u64,
    /// Its size.
    pub bytes: usize,
}

impl Synced {
    /// As it goes over the wire, without `file`.
    #[must_use]
    pub fn to_line(&self) -> String {
        format!("{} {} {} {}", self.filesystem, self.name, self.seed, self.bytes)
    }

    /// From the wire.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (filesystem, name) = (words.next()?.to_owned(), words.next()?.to_owned());
        let (seed, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { filesystem, name, seed, bytes })
    }

    fn content(&self) -> Vec<u8> {
        Random::from_seed(self.seed).bytes(self.bytes)
    }
}

/// What the driver wants.
struct Orders {
    cut: u64,
    files: Vec<Synced>,
    load: bool,
}

/// Runs what the arguments after [`WORD`] say.
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    let ports: Vec<u16> = arguments.iter().filter_map(|port| port.parse().ok()).collect();
    let [volumes, driver] = *ports.as_slice() else {
        eprintln!("usage: srb-guest-tests {WORD} VOLUMES-PORT DRIVER-PORT");
        return ExitCode::FAILURE;
    };
    match connect(driver).and_then(|link| serve(volumes, link)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{}", message(&why));
            ExitCode::FAILURE
        }
    }
}

/// Brings the network up, and finds the driver.
fn connect(port: u16) -> TestResult<TcpStream> {
    shell("modprobe virtio_net")?;
    udev::settle()?;
    let names = fs::read_dir("/sys/class/net")?.flatten().map(|entry| entry.file_name());
    let name = names.filter_map(|name| name.into_string().ok()).find(|name| name != "lo");
    let name = name.ok_or("no network card: was the VM started with one?")?;
    shell(&format!("ip address add 10.0.2.15/24 dev {name} && ip link set {name} up"))?;
    Ok(TcpStream::connect((HOST, port))?)
}

fn shell(line: &str) -> TestResult<String> {
    process::sh(line, STEP)?.success()
}

fn serve(volumes: u16, link: TcpStream) -> TestResult {
    let orders = orders(&link)?;
    let reports = Reports(Arc::new(Mutex::new(link)));
    let outcome = live(volumes, &orders, &reports);
    if let Err(why) = &outcome {
        reports.say(&format!("failed {}", message(why).replace('\n', " | ")))?;
    }
    outcome
}

fn orders(link: &TcpStream) -> TestResult<Orders> {
    let mut orders = Orders { cut: 0, files: Vec::new(), load: false };
    for line in BufReader::new(link).lines() {
        let line = line?;
        match line.split_once(' ').unwrap_or((&line, "")) {
            ("cut", number) => orders.cut = number.parse()?,
            ("file", rest) => orders.files.push(Synced::from_line(rest).ok_or("a file")?),
            (word @ ("go" | "end"), _) => {
                orders.load = word == "go";
                return Ok(orders);
            }
            _ => return Err(format!("the driver says {line}").into()),
        }
    }
    Err("the driver has gone".into())
}

/// The driver's ear.
#[derive(Clone)]
struct Reports(Arc<Mutex<TcpStream>>);

impl Reports {
    fn say(&self, line: &str) -> TestResult {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(link.write_all(format!("{line}\n").as_bytes())?)
    }
}

fn live(volumes: u16, orders: &Orders, reports: &Reports) -> TestResult {
    load_module(&[])?;
    let agent = Daemon::start("srb-agent", &mut std::process::Command::new("srb-agent"))?;
    let url = format!("http://{HOST}:{volumes}/");
    sysfs::command("add_urls", &url).map_err(|errno| format!("add_urls {url}: {errno}"))?;
    let connected = || sysfs::read("/sys/class/srb/volumes") != Err(Errno::ENOTCONN);
    wait_until("the agent is there", STEP, connected)?;
    let mut mounts = Vec::new();
    for name in FILESYSTEMS.into_iter().chain([RAW]) {
        let fresh = attach(name)?;
        if name != RAW {
            mounts.push((name, recover(name, fresh, orders)?));
        }
    }
    reports.say("recovered")?;
    if orders.load {
        load(orders.cut, &mounts, reports)?;
    }
    for (_, mount) in mounts {
        mount.unmount()?;
    }
    for name in FILESYSTEMS.into_iter().chain([RAW]) {
        let detached = || sysfs::command("detach", name).is_ok();
        wait_until(&format!("{name} is detached"), STEP, detached)?;
    }
    agent.terminate()
}

/// Attaches a volume, which is made if there is none; returns whether it was.
fn attach(name: &str) -> TestResult<bool> {
    let fresh = match sysfs::command("create", format!("{name} {VOLUME}")) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(format!("create {name}: {errno}").into()),
    };
    sysfs::command("attach", format!("{name} {name}"))
        .map_err(|errno| format!("attach {name}: {errno}"))?;
    wait_until("the node is there", STEP, || Path::new("/dev").join(name).exists())?;
    Ok(fresh)
}

/// Mounts a filesystem after a cut, compares what was synced, checks it, and mounts it once more.
fn recover(name: &str, fresh: bool, orders: &Orders) -> TestResult<Mount> {
    let (device, folder) = (Path::new("/dev").join(name), Path::new("/mnt").join(name));
    if fresh {
        shell(&format!("mkfs.{name} -q {}", device.display()))?;
    } else {
        let mount = Mount::new(&device, &folder)?;
        for file in orders.files.iter().filter(|file| file.filesystem == name) {
            let read = fs::read(folder.join(&file.name));
            let read = read.map_err(|error| format!("{name}: {}: {error}", file.name))?;
            if read != file.content() {
                return Err(format!("mismatch: {name}: {} differs", file.name).into());
            }
        }
        mount.unmount()?;
        match name {
            "xfs" => shell(&format!("xfs_repair -n {}", device.display()))?,
            _ => shell(&format!("e2fsck -fn {}", device.display()))?,
        };
    }
    let mount = Mount::new(&device, &folder)?;
    shell(&format!("rm -f {}/c*", folder.display()))?;
    Ok(mount)
}

/// Writes until the power is cut; so it only ever ends with an error.
fn load(cut: u64, mounts: &[(&'static str, Mount)], reports: &Reports) -> TestResult {
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let reports = reports.clone();
        writers.push(thread::spawn(move || write_raw(cut, writer, &reports)));
    }
    for (name, mount) in mounts {
        let (name, folder, reports) = (*name, mount.path().to_owned(), reports.clone());
        writers.push(thread::spawn(move || write_files(cut, name, &folder, &reports)));
    }
    for writer in writers {
        writer.join().map_err(|_| Failed::from("a writer panicked"))??;
    }
    Ok(())
}

/// Direct writes, one after another, each told of once it is acknowledged.
fn write_raw(cut: u64, writer: u64, reports: &Reports) -> TestResult {
    let mut options = OpenOptions::new();
    let disk =
        options.write(true).custom_flags(libc::O_DIRECT).open(Path::new("/dev").join(RAW))?;
    let mut memory = vec![0; BLOCK_BYTES + 4096];
    let start = memory.as_ptr().align_offset(4096);
    for sequence in 1.. {
        let block = memory.get_mut(start..start + BLOCK_BYTES).ok_or("a block")?;
        let word = raw_word(cut, writer, sequence).to_ne_bytes();
        block.chunks_exact_mut(8).for_each(|place| place.copy_from_slice(&word));
        disk.write_all_at(block, raw_offset(writer, sequence))?;
        reports.say(&format!("raw {writer} {sequence}"))?;
    }
    Ok(())
}

/// Files that are synced and then given their names, each told of once that is synced too.
fn write_files(cut: u64, filesystem: &str, folder: &Path, reports: &Reports) -> TestResult {
    let mut random = Random::from_seed(cut);
    for number in 0.. {
        let name = format!("c{cut}-{}", number % 64);
        let (seed, bytes) = (random.below(1 << 32), 1 + random.below(96 << 10) as usize);
        let synced = Synced { filesystem: filesystem.to_owned(), name, seed, bytes };
        // A name whose file is replaced is the driver's no more until it is told of the new one.
        reports.say(&format!("gone {filesystem} {}", synced.name))?;
        let fresh = folder.join("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&synced.content())?;
        file.sync_all()?;
        fs::rename(&fresh, folder.join(&synced.name))?;
        File::open(folder)?.sync_all()?;
        reports.say(&format!("file {}", synced.to_line()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_synced_file_survives_the_wire() {
        let (filesystem, name) = ("xfs".to_owned(), "c1-2".to_owned());
        let file = Synced { filesystem, name, seed: 7, bytes: 9 };
        assert_eq!(Synced::from_line(&file.to_line()), Some(file));
        assert_eq!(Synced::from_line("xfs c1 7"), None);
        assert_eq!(Synced::from_line("xfs c1 7 9 1"), None);
    }

    #[test]
    fn writers_keep_apart() {
        let last = raw_offset(0, BLOCKS - 1) + BLOCK_BYTES as u64;
        assert_eq!(last, raw_offset(1, BLOCKS));
        assert_ne!(raw_word(1, 0, 5), raw_word(1, 1, 5));
    }
}
