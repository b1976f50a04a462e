// SPDX-License-Identifier: GPL-2.0-only
//! What happens inside the machine, once it has started: a step for each boot. The binary is
//! `srb-guest-tests`, called by a service (`tests/guest/session`); when a step is over the machine
//! powers off.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::guest::process::sh;
use crate::guest::wait::wait_until;
use crate::guest::{Failed, TestResult};

mod later_kernel;
mod load;
mod services;
mod stop;

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
/// Where the volumes are mounted: one with ext4, one with XFS.
const MOUNTS: [&str; 2] = ["/mnt", "/srv"];
const FSTAB: &str = "\
/dev/disk1 /mnt ext4 _netdev,nofail,x-systemd.device-timeout=40 0 2
/dev/disk2 /srv xfs _netdev,nofail,x-systemd.device-timeout=40 0 0
";
/// What the first boot leaves in each file system.
const KEPT: &str = "what the first boot wrote\n";

/// Runs the step that the words name.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["install", port] => install(port),
        ["look"] => look(),
        ["services"] => services::services(),
        ["next-version"] => services::next_version(),
        ["later-kernel", release] => later_kernel::install(release),
        ["on-later-kernel", release] => later_kernel::look(release),
        ["purge"] => purge(),
        ["no-server", port] => no_server(port),
        ["stop", kind, verb, port] => stop::stop(kind, verb, port),
        ["again", how] => stop::again(*how == "clean"),
        _ => Err(Failed::from(format!("no such step: {words:?}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("{}", why.message().unwrap_or("failed"));
            let log = "systemctl --failed --no-legend; systemctl list-jobs; journalctl -b -o \
                       short-monotonic --no-hostname | \
                       grep -iE 'srb|mnt|srv|disk[12]|load' | tail -60";
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
    let srbtab = "vol1 disk1 timeout=20\nbroken line of four words\nvol2 disk2 timeout=20\n";
    fs::write("/etc/srb/srbtab", srbtab)?;
    let mut fstab = File::options().append(true).create(true).open("/etc/fstab")?;
    fstab.write_all(FSTAB.as_bytes())?;
    run("systemctl daemon-reload && systemctl reload srb-module")?;
    // The module was loaded when the package was installed, and knows now what srb.conf says.
    expect("the URLs", &run("cat /sys/class/srb/urls")?, &format!("http://10.0.2.2:{port}"))?;
    expect("req_timeout", &run("cat /sys/module/srb/parameters/req_timeout")?, "5")?;
    run("srbctl volume create vol1 200M && srbctl volume create vol2 400M")?;
    run("systemctl start srb-attach@disk1 srb-attach@disk2")?;
    run("mkfs.ext4 -q /dev/disk1 && mkfs.xfs -q /dev/disk2")?;
    for mount in MOUNTS {
        run(&format!("mount {mount}"))?;
        fs::write(format!("{mount}/kept"), KEPT)?;
    }
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

/// Looks whether the file systems are mounted, with what was left in them.
fn look_at_mounts() -> TestResult {
    for (mount, device) in MOUNTS.iter().zip(["/dev/disk1", "/dev/disk2"]) {
        expect(mount, &run(&format!("findmnt -no SOURCE {mount}"))?, device)?;
        assert_eq!(fs::read_to_string(format!("{mount}/kept"))?, KEPT, "{mount}");
    }
    Ok(())
}

/// Looks whether everything came back by itself, and how the disks are called.
fn look() -> TestResult {
    expect("the machine", &started()?, "running")?;
    println!("{FIGURE}started in {} s", run("cut -d' ' -f1 /proc/uptime")?.trim());
    look_at_mounts()?;
    let recovered = run("journalctl -kb -o cat | grep -c 'recovery complete' || true")?;
    expect("recoveries of a journal", &recovered, "0")?;
    let columns = run("lsblk -dno NAME,SERIAL,MODEL /dev/disk1")?;
    let words: Vec<&str> = columns.split_whitespace().collect();
    assert_eq!(words, ["disk1", "vol1", "REST", "volume"], "{columns}");
    run("srbctl volume create 'a,b-2' 64M && srbctl attach 'a,b-2' disk3")?;
    run("echo 'label: gpt\n,32M' | sfdisk -q /dev/disk3 && udevadm settle")?;
    run("mkfs.ext4 -q -L lbl /dev/disk3p1 && udevadm trigger -w /dev/disk3p1 && udevadm settle")?;
    for (link, node) in [
        ("/dev/disk/by-id/srb-vol1", "/dev/disk1"),
        ("/dev/disk/by-id/srb-a_b-2", "/dev/disk3"),
        ("/dev/disk/by-id/srb-a_b-2-part1", "/dev/disk3p1"),
        ("/dev/disk/by-label/lbl", "/dev/disk3p1"),
        ("/dev/disk/by-uuid/$(findmnt -no UUID /mnt)", "/dev/disk1"),
    ] {
        expect(link, &run(&format!("readlink -f {link}"))?, node)?;
    }
    let properties = run("udevadm info -q property /dev/disk3p1")?;
    for property in ["SRB_VOLUME=a,b-2", "ID_SERIAL=a,b-2", "ID_BUS=srb", "SRB_URLS=http://10.0"] {
        assert!(properties.contains(property), "{property}: {properties}");
    }
    run("srbctl detach disk3 && srbctl volume destroy 'a,b-2'")?;
    Ok(())
}

/// Who purges the packages finds nothing of them afterwards.
fn purge() -> TestResult {
    expect("the machine", &started()?, "running")?;
    run("umount /mnt /srv && systemctl stop srb-attach@disk1 srb-attach@disk2")?;
    run("sed -i '/dev.disk[12]/d' /etc/fstab")?;
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

fn end_server(port: &str) -> TestResult {
    println!("{END_SERVER}");
    wait_until("the server is away", COMMAND, || !is_served(port))
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
