// SPDX-License-Identifier: GPL-2.0-only
//! An agent with nothing to do sleeps. On its own, for it looks at all threads of the process.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use srb_agent::sim::{Request, RunningAgent, SimModule};
use srb_proto::descriptor::Op;

/// How often the kernel took the CPU from, or gave it to, each of the agent's workers.
fn switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let mut sum = 0;
    for task in tasks.map(|task| task.expect("a thread").path()) {
        let name = fs::read_to_string(task.join("comm")).expect("a name");
        if name.starts_with("srb-worker") {
            let status = fs::read_to_string(task.join("status")).expect("its status");
            let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
            sum += counts
                .filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
                .sum::<u64>();
        }
    }
    sum
}

fn cpu_nanos() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("procfs");
    let nanos = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        name.starts_with("srb-worker").then_some(stat.split(' ').next()?.parse::<u64>().ok()?)
    };
    tasks.filter_map(|task| nanos(task.ok()?)).sum()
}

fn sleeps(when: &str) {
    thread::sleep(Duration::from_millis(50));
    let (before, begun) = (switches(), cpu_nanos());
    thread::sleep(Duration::from_millis(500));
    let (woken, nanos) = (switches() - before, cpu_nanos() - begun);
    assert!(woken <= 8 && nanos < 5_000_000, "{when}: {woken} switches, {nanos} ns");
}

#[test]
fn an_idle_agent_sleeps() {
    let (module, folder) = (SimModule::new(4), tempfile::tempdir().expect("a folder"));
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    sleeps("without a URL");
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let disk = module.attach("disk1", "v", 1 << 30).expect("attached");
    for queue in 0..4 {
        assert_eq!(module.read(disk, queue, 0, 4096).status, 0);
    }
    sleeps("after requests to null:");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    module.configure(|parameters| {
        parameters.urls = vec![url];
        parameters.req_timeout_secs = 60;
    });
    let (replies, _answers) = std::sync::mpsc::channel();
    // The second time the workers wait for their connections too, and so in another way.
    for i in 0..8 {
        let request = Request::new(Op::Read, i * 8, 4096, &replies);
        module.submit(disk, i as u32 % 4, [request]);
        thread::sleep(Duration::from_millis(10));
    }
    sleeps("while a server is silent");
    assert_eq!(module.detach(disk).status, 0);
    sleeps("after a device went");
    agent.stop().expect("an end without error");
}
