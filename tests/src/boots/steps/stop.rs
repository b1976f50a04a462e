// SPDX-License-Identifier: GPL-2.0-only
//! What befalls a machine just before it stops, its file systems under load, and what it finds when
//! it starts again.

use std::fs;
use std::thread;
use std::time::Duration;

use super::{end_server, expect, look_at_mounts, run, started, FIGURE, MOUNTS, STARTED};
use crate::guest::wait::wait_until;
use crate::guest::{Failed, TestResult};

/// Where `tests/guest/session` looks how the machine is to stop.
const END: &str = "/run/srb-vm-end";

/// Files come, grow, change their names and go, each of them synced, until the service is stopped.
const LOAD: &str = "\
turn=0
while dd if=/dev/zero of=new bs=16k count=$((turn % 16 + 1)) conv=fsync status=none &&
    mv new file$((turn % 8)); do
    turn=$((turn + 1))
done
exit 1
";

/// Loads the file systems as a service does that names what it needs: it is ended before they are
/// unmounted.
fn load() -> TestResult {
    fs::write("/run/load", LOAD)?;
    for mount in MOUNTS {
        let unit = format!("--unit=load{} -p RequiresMountsFor={mount}", mount.replace('/', "-"));
        let folder = format!("{mount}/load");
        fs::create_dir_all(&folder)?;
        run(&format!("systemd-run -q {unit} --working-directory={folder} bash /run/load"))?;
    }
    Ok(())
}

/// Has the file systems written to, lets something befall the machine, and leaves it to stop.
pub(super) fn stop(kind: &str, verb: &str, port: &str) -> TestResult {
    for mount in MOUNTS {
        let what = format!("{mount} is mounted");
        wait_until(&what, STARTED, || run(&format!("findmnt {mount}")).is_ok())?;
    }
    started()?;
    fs::write(END, verb)?;
    // What is in the cache only: unmounting has to write it.
    for mount in MOUNTS {
        run(&format!("dd if=/dev/zero of={mount}/dirty bs=1M count=24 status=none"))?;
    }
    load()?;
    thread::sleep(Duration::from_secs(2));
    match kind {
        "well" => {}
        "server" => end_server(port)?,
        "stuck" => {
            run("srbctl device policy disk1 queue && srbctl device policy disk2 queue")?;
            end_server(port)?;
            let stuck = "dd if=/dev/zero of=/mnt/stuck bs=1M count=8 oflag=direct status=none";
            run(&format!("systemd-run -q --unit=stuck {stuck}"))?;
            thread::sleep(Duration::from_secs(3));
        }
        // The one that serves and the one that stands by: systemd has to start both again while it
        // stops the machine.
        "agent" => {
            run("pkill -9 -x srb-agent")?;
        }
        "no-agent" => {
            // The devices wait for another one without end, whoever unmounts them with them.
            run("echo -1 >/sys/module/srb/parameters/agent_grace")?;
            run("mv /usr/sbin/srb-agent /usr/sbin/srb-agent.away")?;
            run("pkill -9 -x srb-agent")?;
        }
        _ => return Err(Failed::from(format!("no such end: {kind}"))),
    }
    if kind != "no-agent" {
        let states = run("systemctl is-failed load-mnt load-srv || true")?;
        let lives = |state: &str| state == "active" || state == "failed" && kind == "server";
        assert!(states.lines().all(lives), "the loads: {states}");
    }
    Ok(())
}

/// The machine has started again: what was on the file systems is.
pub(super) fn again(clean: bool) -> TestResult {
    expect("the machine", &started()?, "running")?;
    look_at_mounts()?;
    let count = "grep -cE 'recovery complete|Starting recovery' || true";
    let recovered = run(&format!("journalctl -kb -o cat | {count}"))?;
    if clean {
        expect("recoveries of a journal", &recovered, "0")?;
    }
    let words = run("find /mnt/load /srv/load -name 'file*' -size +0 | wc -l")?;
    assert_ne!(words.trim(), "0", "nothing of the load is there");
    println!("{FIGURE}again in {} s", run("cut -d' ' -f1 /proc/uptime")?.trim());
    Ok(())
}
