// SPDX-License-Identifier: GPL-2.0-only
//! What happens inside the machine, once it has started: a step for each boot. The binary is
//! `srb-guest-tests`, called by a service (`tests/guest/session`); when a step is over the machine
//! powers off.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::guest::process::sh;
use crate::guest::wait::{wait_for, wait_until};
use crate::guest::{Failed, TestResult};

/// The word that selects a step.
pub const WORD: &str = "boot-step";
/// What a step prints for the launcher to end the server.
pub const END_SERVER: &str = "boots: end the server";
/// What a step prints for the launcher to start the server again.
pub const START_SERVER: &str = "boots: start the server";
/// What a step prints before a figure.
pub const FIGURE: &str = "boots: figure: ";
/// Seconds in srb.conf.
pub const SHUTDOWN_SECS: u64 = 20;

const COMMAND: Duration = Duration::from_secs(120);
/// Until a machine has started, services and all.
const STARTED: Duration = Duration::from_secs(240);
/// What the first boot leaves in the file system.
const KEPT: &str = "what the first boot wrote\n";

/// Runs the step that the words name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["install", port] => install(port),
        ["look"] => look(),
        ["services"] => services(),
        ["purge"] => purge(),
        ["no-server", port] => no_server(port),
        ["stop", kind, port] => stop(kind, port),
        _ => Err(Failed::from(format!("no such step: {words:?}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{}", why.message().unwrap_or("failed"));
            let log = "systemctl --failed --no-legend; systemctl list-jobs; journalctl -b -o \
                       short-monotonic --no-hostname | grep -iE 'srb|mnt|disk1' | tail -60";
            println!("{}", run(log).unwrap_or_default());
            ExitCode::FAILURE
        }
    }
}

fn run(line: &str) -> TestResult<String> {
    sh(line, COMMAND)?.success()
}

fn expect(what: &str, found: &str, expected: &str) -> TestResult {
    if found.trim() == expected {
        return Ok(());
    }
    Err(Failed::from(format!("{what}: {:?} instead of {expected:?}", found.trim())))
}

/// Waits until systemd has done all that it was to do; how the machine is then.
fn started() -> TestResult<String> {
    let state = sh("systemctl is-system-running --wait", STARTED)?;
    Ok(state.stdout.trim().to_owned())
}

/// Installs the packages and configures a volume, as a user would.
fn install(port: &str) -> TestResult {
    started()?;
    run("cd /srb/deb && dpkg -i srb_*.deb srb-playground_*.deb")?;
    // The module's was installed when the image was made; DKMS has built it for this kernel.
    let module = run("modinfo -F filename srb")?;
    assert!(module.contains("/updates/dkms/srb.ko"), "{module}");
    for unit in ["srb-agent", "srb-shutdown"] {
        expect(unit, &run(&format!("systemctl is-enabled {unit}"))?, "enabled")?;
    }
    for file in ["srb.conf", "srbtab", "agent.toml"] {
        let text = fs::read_to_string(format!("/etc/srb/{file}"))?;
        expect(file, &run("srbctl boot check")?, "")?;
        assert!(text.contains("SPDX"), "{file}: {text}");
    }
    let conf = format!("URLS=http://10.0.2.2:{port}/\nshutdown_secs={SHUTDOWN_SECS}\n");
    fs::write("/etc/srb/srb.conf", conf + "server_conn_timeout=5\nreq_timeout=5\n")?;
    fs::write("/etc/srb/srbtab", "vol1 disk1 timeout=20\nbroken line of four words\n")?;
    let mut fstab = File::options().append(true).create(true).open("/etc/fstab")?;
    fstab.write_all(b"/dev/disk1 /mnt ext4 _netdev,nofail,x-systemd.device-timeout=40 0 2\n")?;
    run("systemctl daemon-reload && systemctl reload srb-module")?;
    // The module was loaded when the package was installed, and knows now what srb.conf says.
    expect("the URLs", &run("cat /sys/class/srb/urls")?, &format!("http://10.0.2.2:{port}"))?;
    expect("req_timeout", &run("cat /sys/module/srb/parameters/req_timeout")?, "5")?;
    run("srbctl volume create vol1 200M && systemctl start srb-attach@disk1")?;
    run("mkfs.ext4 -q /dev/disk1 && mount /mnt")?;
    fs::write("/mnt/kept", KEPT)?;
    let told = run("journalctl -b -t srb-generator -t kernel -o cat | grep srbtab:2")?;
    assert!(told.contains("there are more words"), "{told}");
    // The playground's package.
    run("systemd-run -q --unit=playground srb-playground --port 8080 --datapath /var/tmp/volumes")?;
    wait_until("the playground answers", COMMAND, || {
        run("curl -sf http://127.0.0.1:8080/").is_ok()
    })?;
    run("systemctl stop playground")?;
    Ok(())
}

/// Looks whether everything came back by itself, and how the disks are called.
fn look() -> TestResult {
    expect("the machine", &started()?, "running")?;
    println!("{FIGURE}started in {} s", run("cut -d' ' -f1 /proc/uptime")?.trim());
    expect("the mount", &run("findmnt -no SOURCE /mnt")?, "/dev/disk1")?;
    assert_eq!(fs::read_to_string("/mnt/kept")?, KEPT);
    let recovered = run("journalctl -kb -o cat | grep -c 'recovery complete' || true")?;
    expect("recoveries of a journal", &recovered, "0")?;
    let columns = run("lsblk -dno NAME,SERIAL,MODEL /dev/disk1")?;
    let words: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(words, ["disk1", "vol1", "REST", "volume"], "{columns}");
    run("srbctl volume create 'a,b-2' 64M && srbctl attach 'a,b-2' disk2")?;
    run("echo 'label: gpt\n,32M' | sfdisk -q /dev/disk2 && udevadm settle")?;
    run("mkfs.ext4 -q -L lbl /dev/disk2p1 && udevadm trigger -w /dev/disk2p1 && udevadm settle")?;
    for (link, node) in [
        ("/dev/disk/by-id/srb-vol1", "/dev/disk1"),
        ("/dev/disk/by-id/srb-a_b-2", "/dev/disk2"),
        ("/dev/disk/by-id/srb-a_b-2-part1", "/dev/disk2p1"),
        ("/dev/disk/by-label/lbl", "/dev/disk2p1"),
        ("/dev/disk/by-uuid/$(findmnt -no UUID /mnt)", "/dev/disk1"),
    ] {
        expect(link, &run(&format!("readlink -f {link}"))?, node)?;
    }
    let properties = run("udevadm info -q property /dev/disk2p1")?;
    for property in ["SRB_VOLUME=a,b-2", "ID_SERIAL=a,b-2", "ID_BUS=srb", "SRB_URLS=http://10.0"] {
        assert!(properties.contains(property), "{property}: {properties}");
    }
    run("srbctl detach disk2 && srbctl volume destroy 'a,b-2'")?;
    Ok(())
}

/// Writes without a pause, each write through to the volume; the longest that one took.
struct Load {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Duration>>,
}

impl Load {
    fn start() -> std::io::Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open("/mnt/load")?;
        let ends = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut longest, mut turn) = (Duration::ZERO, 0);
            // ORDERING: nothing else is read after it.
            while !over.load(Ordering::Relaxed) {
                let began = Instant::now();
                // Elsewhere each time: a write to where a lost one may still land waits for that.
                file.write_all_at(&[7; 4096], turn % 4096 * 4096)?;
                file.sync_data()?;
                turn += 1;
                longest = longest.max(began.elapsed());
            }
            Ok(longest)
        });
        Ok(Self { ends, thread })
    }

    fn end(self) -> TestResult<Duration> {
        // ORDERING: see `start`.
        self.ends.store(true, Ordering::Relaxed);
        let longest = self.thread.join().map_err(|_| "the load panicked")?;
        Ok(longest.map_err(|error| format!("a write failed: {error}"))?)
    }
}

/// The process that serves, of whichever unit: the last one that the module has told of.
fn serving() -> TestResult<String> {
    let connected = "s/.*srb: agent connected: process \\([0-9]*\\),.*/\\1/p";
    Ok(run(&format!("journalctl -kb -o cat | sed -n '{connected}' | tail -n 1"))?.trim().to_owned())
}

/// Seconds from the end of one agent to the next one, as the kernel's log has it.
fn gap() -> TestResult<f64> {
    let log = run("journalctl -kb -o short-monotonic | grep -E 'srb: agent (gone|connected)'")?;
    let time = |word: &str| {
        let line = log.lines().rev().find(|line| line.contains(word))?;
        line.trim_start_matches(['[', ' ']).split(']').next()?.parse::<f64>().ok()
    };
    match (time("agent gone"), time("agent connected")) {
        // One that takes over is there before the old one goes.
        (Some(gone), Some(connected)) => Ok((connected - gone).max(0.0)),
        _ => Err(Failed::from(format!("no agent has come and gone: {log}"))),
    }
}

/// What befalls the serving agent, or its unit; another one serves afterwards. The pause is the
/// longest that a write through to the volume took.
fn pause(what: &str, event: &str, bound: Duration) -> TestResult {
    let before = serving()?;
    let unit = run(&format!("ps -o unit= -p {before}"))?;
    let load = Load::start()?;
    thread::sleep(Duration::from_secs(1));
    run(&event.replace("PID", &before).replace("UNIT", unit.trim()))?;
    wait_for("another agent", bound, || Ok((serving()? != before).then_some(())))?;
    thread::sleep(Duration::from_secs(2));
    let longest = load.end()?;
    let (longest_ms, gap_ms) = (longest.as_millis(), gap()? * 1000.0);
    println!("{FIGURE}{what}: {gap_ms:.0} ms without an agent, longest write {longest_ms} ms");
    assert!(longest < bound, "{what}: {longest:?}");
    // Both units are at work again.
    wait_until("an agent stands by", STARTED, || run("grep -qx 1 /sys/class/srb/standbys").is_ok())
}

/// What befalls an agent under systemd, while a file system is written to.
fn services() -> TestResult {
    expect("the machine", &started()?, "running")?;
    let load = Load::start()?;
    thread::sleep(Duration::from_secs(3));
    println!("{FIGURE}undisturbed: longest write {} ms", load.end()?.as_millis());
    let bound = Duration::from_secs(15);
    pause("kill -9", "kill -9 PID", bound)?;
    pause("reload", "systemctl reload srb-agent", bound)?;
    pause("restart", "systemctl restart UNIT", bound)?;
    // The watchdog ends a stuck process after half a minute, and by force ten seconds later.
    pause("the watchdog", "kill -STOP PID", Duration::from_secs(58))?;
    let why = run("journalctl -b -u 'srb-agent*' -o cat | grep -c -i watchdog")?;
    assert_ne!(why.trim(), "0", "no word of the watchdog");
    // The bound of a shutdown is none of anything else.
    run("systemctl restart srb-shutdown && findmnt /mnt")?;
    // The same packages once more are an upgrade: under load, nothing fails.
    pause("an upgrade", "dpkg -i /srb/deb/srb_*.deb", bound)
}

/// Who purges the packages finds nothing of them afterwards.
fn purge() -> TestResult {
    expect("the machine", &started()?, "running")?;
    run("umount /mnt && systemctl stop srb-attach@disk1 && sed -i /disk1/d /etc/fstab")?;
    run("dpkg --purge srb-playground srb srb-dkms")?;
    // What has the name and is the test's own: the payload, its service, the host's name.
    let left = "find / -xdev -path /srb -prune -o -name '*srb*' -not -name 'srb-vm*' -print";
    expect("files left", &run(left)?, "")?;
    expect("failed units", &run("systemctl --failed --no-legend")?, "")?;
    assert!(run("modinfo srb").is_err(), "the module is left");
    Ok(())
}

fn is_served(port: &str) -> bool {
    let address: Result<SocketAddr, _> = format!("10.0.2.2:{port}").parse();
    let stream =
        address.ok().and_then(|it| TcpStream::connect_timeout(&it, Duration::from_secs(1)).ok());
    // The host's end of QEMU's network takes any connection, and closes those that nobody takes.
    stream.is_some_and(|stream| {
        let mut stream = stream;
        let asked = stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
            && stream.write_all(b"GET / HTTP/1.0\r\n\r\n").is_ok();
        asked && std::io::Read::read(&mut stream, &mut [0; 16]).is_ok_and(|bytes| bytes > 0)
    })
}

/// The server is away: the machine starts all the same; when the server is back the volume is.
fn no_server(port: &str) -> TestResult {
    started()?;
    println!("{FIGURE}started in {} s", run("cut -d' ' -f1 /proc/uptime")?.trim());
    assert!(run("findmnt /mnt").is_err(), "mounted without a server");
    let told = run("journalctl -b -u srb-attach@disk1 -o cat")?;
    assert!(told.contains("cannot attach vol1 as disk1"), "{told}");
    println!("{START_SERVER}");
    wait_until("the server is back", COMMAND, || is_served(port))?;
    let began = Instant::now();
    wait_until("the volume is attached", COMMAND, || run("test -b /dev/disk1").is_ok())?;
    println!("{FIGURE}attached {} s after the server was back", began.elapsed().as_secs());
    run("mount /mnt && test -s /mnt/kept")?;
    Ok(())
}

/// Writes something that is not on the volume yet, lets something befall the machine, and leaves it
/// to power off.
fn stop(kind: &str, port: &str) -> TestResult {
    wait_until("the mount is there", STARTED, || run("findmnt /mnt").is_ok())?;
    started()?;
    run("dd if=/dev/zero of=/mnt/dirty bs=1M count=24 status=none")?;
    let end_server = || -> TestResult {
        println!("{END_SERVER}");
        wait_until("the server is away", COMMAND, || !is_served(port))
    };
    match kind {
        "well" => {}
        "server" => end_server()?,
        "stuck" => {
            run("srbctl device policy disk1 queue")?;
            end_server()?;
            let stuck = "dd if=/dev/zero of=/mnt/stuck bs=1M count=8 oflag=direct status=none";
            run(&format!("systemd-run -q --unit=stuck {stuck}"))?;
            thread::sleep(Duration::from_secs(3));
        }
        "agent" => {
            // The devices wait for another one without end, whoever unmounts them with them.
            run("echo -1 >/sys/module/srb/parameters/agent_grace")?;
            run("mv /usr/sbin/srb-agent /usr/sbin/srb-agent.away")?;
            run("pkill -9 -x srb-agent")?;
        }
        _ => return Err(Failed::from(format!("no such end: {kind}"))),
    }
    Ok(())
}
