// SPDX-License-Identifier: GPL-2.0-only
//! A whole agent against the simulated module: what users of block devices and of sysfs rely on.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::{ECONNREFUSED, EDESTADDRREQ, EEXIST, EINTR, EIO, ENODEV, ENOENT};
use proptest::prelude::*;
use srb_agent::agent::AgentError;
use srb_agent::kernel::ended::{BeginError, Ended};
use srb_agent::kernel::session::{Entry, Session};
use srb_agent::sim::{wait, Request, RunningAgent, SimModule};
use srb_playground::Playground;
use srb_proto::control::Listing;
use srb_proto::descriptor::{Generation, Op, Submission, Tag};
use srb_proto::layout::{ABI_VERSION, DATA};
use tempfile::TempDir;

const MIB: u32 = 1 << 20;

struct Setup {
    module: SimModule,
    folder: TempDir,
    agent: RunningAgent,
}

fn start(queues: u32, urls: &[&str]) -> Setup {
    let (module, folder) = (SimModule::new(queues), tempfile::tempdir().expect("a folder"));
    module.configure(|parameters| parameters.urls = urls.iter().map(|u| (*u).into()).collect());
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    assert!(module.is_connected());
    Setup { module, folder, agent }
}

fn playground() -> (TempDir, Playground, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let playground = Playground::start(srb_playground::Config::ephemeral(folder.path()));
    let playground = playground.expect("a server");
    let url = playground.url().trim_end_matches('/').to_owned();
    (folder, playground, url)
}

/// A server that takes connections and requests, and never answers.
fn tarpit() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    (listener, url)
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    std::iter::repeat_with(next).flat_map(u64::to_ne_bytes).take(len).collect()
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn null_reads_zeros_of_every_size_on_every_queue() {
    let setup = start(3, &["null:"]);
    let disk = setup.module.attach("disk1", "v", 1 << 40).expect("attached");
    for queue in 0..3 {
        for len in [512, 4096, 65_536, MIB - 512, MIB] {
            let written = setup.module.write(disk, queue, 8, pattern(1, len as usize));
            assert_eq!((written.status, written.len), (0, len));
            let read = setup.module.read(disk, queue, 8, len);
            assert_eq!((read.status, read.len), (0, len));
            assert!(read.bytes.iter().all(|byte| *byte == 0), "{len}");
        }
    }
    setup.agent.stop().expect("an end without error");
    assert!(!setup.module.is_connected());
}

#[test]
fn a_volume_from_creation_to_destruction() {
    let (_folder, _server, url) = playground();
    let setup = start(2, &[&url]);
    let control = |op, arg, name: &str| setup.module.control(op, arg, name.as_bytes());
    assert_eq!(control(Op::Create, 8 << 20, "vol 1 ä").status, -nix::libc::EINVAL);
    assert_eq!(control(Op::Create, 8 << 20, "volä").status, 0);
    let again = control(Op::Create, 8 << 20, "volä");
    assert_eq!(again.status, -EEXIST);
    let details = String::from_utf8(again.bytes).expect("text");
    assert!(details.contains("volä") && !details.contains('\n'), "{details}");
    assert_eq!(control(Op::Stat, 0, "volä").bytes, (8u64 << 20).to_ne_bytes());
    assert_eq!(control(Op::Stat, 0, "other").status, -ENOENT);

    let disk = setup.module.attach("disk1", "volä", 8 << 20).expect("attached");
    let mut sector = 0;
    for (i, len) in [512, 1024, 4096, 131_072, MIB - 512, MIB].into_iter().enumerate() {
        let bytes = pattern(i as u64, len as usize);
        let (write_on, read_on) = (i as u32 % 2, (i as u32 + 1) % 2);
        assert_eq!(setup.module.write(disk, write_on, sector, bytes.clone()).status, 0);
        let read = setup.module.read(disk, read_on, sector, len);
        assert_eq!((read.status, read.bytes == bytes), (0, true), "{len}");
        sector += u64::from(len) / 512;
    }

    let list = control(Op::List, 4096, "");
    let listing = Listing::from_bytes(&list.bytes).expect("a head");
    assert_eq!((listing.total, listing.names), (1, "volä\n".as_bytes()));
    let end = (8 << 20) / 512;
    assert_eq!(setup.module.read(disk, 0, end, 512).status, -EIO);
    assert_eq!(control(Op::Extend, 16 << 20, "volä").status, 0);
    setup.module.resize(disk, 16 << 20);
    assert_eq!(setup.module.read(disk, 0, end, 512).bytes, [0; 512]);
    assert_eq!(setup.module.detach(disk).status, 0);
    assert_eq!(control(Op::Destroy, 0, "volä").status, 0);
    assert_eq!(control(Op::Destroy, 0, "volä").status, -ENOENT);
    assert_eq!(setup.module.late_completions(), 0);
}

#[test]
fn a_new_configuration_is_in_force_at_once() {
    let setup = start(1, &[]);
    let disk = setup.module.attach("disk1", "v", 1 << 20).expect("attached");
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, -EDESTADDRREQ);
    setup.module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    until("null: in use", || setup.module.active_url().as_deref() == Some("null:"));
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, 0);
    let (_folder, _server, url) = playground();
    setup.module.configure(|parameters| parameters.urls = vec![url.clone()]);
    until("the server in use", || setup.module.active_url() == Some(url.clone()));
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, -ENOENT);
    let unused = tarpit().1;
    setup.module.configure(|parameters| {
        parameters.urls = vec![unused];
        parameters.nb_req_retries = 0;
    });
    until("refused", || setup.module.read(disk, 0, 0, 512).status == -ECONNREFUSED);
}

#[test]
fn requests_in_flight_finish_under_a_change_of_urls() {
    let (_folder, _server, url) = playground();
    let setup = start(2, &[&url]);
    assert_eq!(setup.module.control(Op::Create, 4 << 20, b"v").status, 0);
    let disk = setup.module.attach("disk1", "v", 4 << 20).expect("attached");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for queue in 0..2 {
            let (module, done) = (&setup.module, &done);
            scope.spawn(move || {
                let mut count = 0;
                while !done.load(Relaxed) {
                    let bytes = pattern(count, 4096);
                    let sector = u64::from(queue) * 4096 + count % 64 * 8;
                    assert_eq!(module.write(disk, queue, sector, bytes.clone()).status, 0);
                    assert_eq!(module.read(disk, queue, sector, 4096).bytes, bytes);
                    count += 1;
                }
                assert!(count > 0);
            });
        }
        for i in 0..30 {
            let timeout = 5 + i % 3;
            setup.module.configure(|parameters| parameters.req_timeout_secs = timeout);
            thread::sleep(Duration::from_millis(10));
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn devices_come_and_go_under_load() {
    let setup = start(2, &["null:"]);
    let busy = setup.module.attach("busy", "v", 1 << 30).expect("attached");
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for queue in 0..2 {
            let (module, done) = (&setup.module, &done);
            scope.spawn(move || {
                while !done.load(Relaxed) {
                    assert_eq!(module.read(busy, queue, 0, 4096).status, 0);
                }
            });
        }
        for i in 0..40 {
            let name = format!("disk{i}");
            let disk = setup.module.attach(&name, "w", 1 << 30).expect("attached");
            let (replies, answers) = mpsc::channel();
            let request =
                |cookie| Request::new(Op::Write, cookie * 8, 4096, &replies).with_cookie(cookie);
            setup.module.submit(disk, i % 2, (0..300).map(request));
            assert_eq!(setup.module.detach(disk).status, 0);
            let statuses: Vec<_> = (0..300).map(|_| wait(&answers).status).collect();
            assert!(statuses.iter().all(|s| [0, -ENODEV].contains(s)), "{statuses:?}");
        }
        done.store(true, Relaxed);
    });
    assert_eq!(setup.module.read(busy, 1, 0, 4096).status, 0);
}

#[test]
fn a_device_with_requests_at_a_silent_server_can_be_detached() {
    let (_listener, url) = tarpit();
    let setup = start(1, &[&url]);
    let stuck = setup.module.attach("stuck", "v", 1 << 30).expect("attached");
    let (replies, answers) = mpsc::channel();
    setup.module.submit(stuck, 0, (0..64).map(|_| Request::new(Op::Read, 0, 4096, &replies)));
    thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    assert_eq!(setup.module.detach(stuck).status, 0);
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!((0..64).all(|_| wait(&answers).status == -ENODEV));
    let next = setup.module.attach("next", "v", 1 << 30).expect("the index is free again");
    assert_eq!(next, stuck);
    setup.module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    until("served anew", || setup.module.read(next, 0, 0, 4096).status == 0);
}

#[test]
fn opening_twice_changes_nothing_and_what_is_not_there_is_not_opened() {
    let setup = start(2, &["null:"]);
    let disk = setup.module.attach("disk1", "v", 1 << 30).expect("attached");
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, 0);
    assert_eq!(setup.module.control(Op::Open, disk.into(), &[]).status, 0);
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, 0);
    let missing = setup.module.control(Op::Open, 77, &[]);
    assert_eq!(missing.status, -ENOENT);
    assert!(String::from_utf8_lossy(&missing.bytes).contains("device 77"));
    assert_eq!(setup.module.control(Op::Open, u64::MAX, &[]).status, -nix::libc::EINVAL);
    assert_eq!(setup.module.control(Op::Close, 77, &[]).status, 0);
    assert_eq!(setup.module.control(Op::Read, 0, &[]).status, -nix::libc::EINVAL);
}

#[test]
fn devices_that_were_there_before_the_agent_are_served() {
    let (module, folder) = (SimModule::new(2), tempfile::tempdir().expect("a folder"));
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let disks: Vec<_> = (0..5)
        .map(|i| module.add_device(&format!("disk{i}"), "v", 1 << 30).expect("memory"))
        .collect();
    let (replies, answers) = mpsc::channel();
    for disk in &disks {
        module.submit(*disk, 1, (0..200).map(|_| Request::new(Op::Read, 0, 512, &replies)));
    }
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    assert!((0..1000).all(|_| wait(&answers).status == 0));
    agent.stop().expect("an end without error");
}

/// Commands wait in the module for the next agent, which gets them with its first look.
#[test]
fn a_command_that_waited_for_the_agent_finds_the_urls() {
    let (_folder, _server, url) = playground();
    let setup = start(1, &[&url]);
    assert_eq!(setup.module.control(Op::Create, 1 << 20, b"v").status, 0);
    setup.agent.stop().expect("an end without error");
    // Which of its tasks an agent begins with is up to chance.
    for _ in 0..16 {
        let (replies, answers) = mpsc::channel();
        setup.module.begin_control(Op::Stat, 0, b"v", &replies);
        let config = RunningAgent::config(setup.folder.path());
        let agent = RunningAgent::start(&setup.module, config);
        let reply = wait(&answers);
        assert_eq!(reply.status, 0, "{}", String::from_utf8_lossy(&reply.bytes));
        agent.stop().expect("an end without error");
    }
}

#[test]
fn a_cancelled_operation_ends_with_eintr() {
    let (_listener, url) = tarpit();
    let setup = start(1, &[&url]);
    let (replies, answers) = mpsc::channel();
    let cancel = setup.module.begin_control(Op::Destroy, 0, b"v", &replies);
    assert!(answers.recv_timeout(Duration::from_millis(100)).is_err());
    let begun = Instant::now();
    assert_eq!(setup.module.control(Op::Cancel, cancel, &[]).status, 0);
    assert_eq!(wait(&answers).status, -EINTR);
    assert!(begun.elapsed() < Duration::from_secs(1));
    // What is over, and what never was, can be cancelled too.
    assert_eq!(setup.module.control(Op::Cancel, cancel, &[]).status, 0);
    assert_eq!(setup.module.control(Op::Cancel, u64::MAX, &[]).status, 0);
}

/// The module holds the volume as long.
#[test]
fn a_cancelled_create_completes_when_nothing_of_it_can_come_any_more() {
    let (listener, url) = tarpit();
    let setup = start(1, &[&url]);
    let (replies, answers) = mpsc::channel();
    let cancel = setup.module.begin_control(Op::Create, 1 << 20, b"v", &replies);
    assert!(answers.recv_timeout(Duration::from_millis(100)).is_err());
    assert_eq!(setup.module.control(Op::Cancel, cancel, &[]).status, 0);
    // Its first half may still make the volume.
    assert!(answers.recv_timeout(Duration::from_millis(300)).is_err());
    drop(listener);
    assert_ne!(wait(&answers).status, 0);
}

/// What a create has left that was interrupted is deleted, and nothing else is.
#[test]
fn an_undo_deletes_what_is_empty_or_known_to_be_made() {
    let (folder, _server, url) = playground();
    let setup = start(1, &[&url]);
    let undo = |made: u64| setup.module.control(Op::Undo, made, b"v").status;
    assert_eq!(undo(0), 0, "nothing is there");
    assert_eq!(setup.module.control(Op::Create, 1 << 20, b"v").status, 0);
    assert_eq!(undo(0), -EEXIST, "it may be somebody else's");
    assert_eq!(undo(2 << 20), -EEXIST);
    assert_eq!(setup.module.control(Op::Stat, 0, b"v").status, 0);
    assert_eq!(undo(1 << 20), 0);
    assert_eq!(setup.module.control(Op::Stat, 0, b"v").status, -ENOENT);
    drop(folder);
}

#[test]
fn more_control_operations_than_tags() {
    let (_folder, _server, url) = playground();
    let setup = start(1, &[&url]);
    let (replies, answers) = mpsc::channel();
    for i in 0..100 {
        setup.module.begin_control(Op::Create, 1 << 20, format!("v{i}").as_bytes(), &replies);
    }
    assert!((0..100).all(|_| wait(&answers).status == 0));
    let list = setup.module.control(Op::List, 100, &[]);
    let listing = Listing::from_bytes(&list.bytes).expect("a head");
    assert_eq!(listing.total, 100);
    assert!(list.len <= 100 && listing.names.ends_with(b"\n"));
}

#[test]
fn an_agent_that_is_cut_off_ends_and_the_next_one_repeats_its_requests() {
    let (_listener, url) = tarpit();
    let Setup { module, folder, agent } = start(2, &[&url]);
    let disk = module.attach("disk1", "v", 1 << 30).expect("attached");
    let (replies, answers) = mpsc::channel();
    let request = |cookie| Request::new(Op::Read, 8, 4096, &replies).with_cookie(cookie);
    module.submit(disk, 0, (0..500).map(request));
    thread::sleep(Duration::from_millis(50));
    module.cut_off();
    let error = agent.wait().expect_err("cut off");
    assert!(matches!(error, AgentError::Ended(Ended::CutOff)), "{error}");
    assert!(answers.try_recv().is_err());
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    let answered: HashSet<_> = (0..500)
        .map(|_| wait(&answers))
        .inspect(|reply| assert_eq!(reply.status, 0))
        .map(|reply| reply.cookie)
        .collect();
    assert_eq!(answered.len(), 500);
    agent.stop().expect("an end without error");
}

#[test]
fn an_idle_agent_notices_that_it_is_cut_off() {
    let setup = start(4, &["null:"]);
    setup.module.cut_off();
    assert!(matches!(setup.agent.wait(), Err(AgentError::Ended(Ended::CutOff))));
}

#[test]
fn the_end_waits_for_requests_in_flight_but_not_for_ever() {
    let (_listener, url) = tarpit();
    let setup = start(1, &[&url]);
    let disk = setup.module.attach("disk1", "v", 1 << 30).expect("attached");
    let (replies, answers) = mpsc::channel();
    setup.module.submit(disk, 0, [Request::new(Op::Read, 8, 4096, &replies)]);
    setup.module.begin_control(Op::Create, 1 << 20, b"v", &replies);
    thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    setup.agent.stop().expect("an end without error");
    assert!((2..5).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    // The control operation fails with the agent; the read waits for the next one.
    assert_eq!(wait(&answers).status, -nix::libc::ENOTCONN);
    assert!(answers.try_recv().is_err());
}

#[test]
fn agents_follow_each_other_under_load() {
    let (_folder, _server, url) = playground();
    let Setup { module, folder, mut agent } = start(2, &[&url]);
    assert_eq!(module.control(Op::Create, 64 << 20, b"v").status, 0);
    let disk = module.attach("disk1", "v", 64 << 20).expect("attached");
    let done = AtomicBool::new(false);
    let agent = thread::scope(|scope| {
        for queue in 0..2u32 {
            let (module, done) = (&module, &done);
            scope.spawn(move || {
                for i in 0.. {
                    if done.load(Relaxed) {
                        break;
                    }
                    let bytes = pattern(i, 8192);
                    let sector = u64::from(queue) * 65_536 + i % 100 * 16;
                    assert_eq!(module.write(disk, queue, sector, bytes.clone()).status, 0);
                    assert_eq!(module.read(disk, queue, sector, 8192).bytes, bytes);
                }
            });
        }
        for i in 0..6 {
            thread::sleep(Duration::from_millis(50));
            if i % 2 == 0 {
                agent.stop().expect("an end without error");
            } else {
                module.cut_off();
                assert!(agent.wait().is_err());
            }
            agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
        }
        done.store(true, Relaxed);
        agent
    });
    assert_eq!(module.late_completions(), 0);
    drop(agent);
}

#[test]
fn malformed_submissions_are_answered_and_harm_nothing() {
    let setup = start(1, &["null:"]);
    let disk = setup.module.attach("disk1", "v", 1 << 20).expect("attached");
    let good = |tag, generation| {
        let (op, repeated, arg, len) = (Op::Read, false, 0, 512);
        Submission { tag, op, repeated, generation, arg, len }
    };
    type Forgery = Box<dyn Fn(Tag, Generation) -> [u64; 3] + Send>;
    let with = |change: fn(&mut Submission)| -> Forgery {
        Box::new(move |tag, generation| {
            let mut submission = good(tag, generation);
            change(&mut submission);
            submission.to_words()
        })
    };
    let forgeries: [Forgery; 9] = [
        with(|s| s.len = 0),
        with(|s| s.len = DATA.window_bytes + 1),
        with(|s| s.len = u32::MAX),
        with(|s| s.arg = (1 << 20) / 512),
        with(|s| s.arg = u64::MAX),
        with(|s| s.arg = u64::MAX / 512),
        with(|s| s.op = Op::Create),
        Box::new(move |tag, generation| {
            let [first, arg, len] = good(tag, generation).to_words();
            [first | 0xff << 16, arg, len]
        }),
        Box::new(move |tag, generation| {
            let [first, arg, len] = good(tag, generation).to_words();
            [first | 0x80 << 24, arg, len]
        }),
    ];
    for (i, forgery) in forgeries.into_iter().enumerate() {
        let reply = setup.module.forge(disk, 0, forgery).expect("an answer");
        assert_eq!(reply.status, -EIO, "forgery {i}");
        assert_eq!(setup.module.read(disk, 0, 0, 512).status, 0, "after forgery {i}");
    }
    let no_such_tag = move |_, generation| good(Tag(DATA.depth as u16), generation).to_words();
    assert_eq!(setup.module.forge(disk, 0, no_such_tag), None);
    assert_eq!(setup.module.read(disk, 0, 0, 512).status, 0);
    assert!(setup.module.is_connected());
}

#[test]
fn a_tag_that_is_in_flight_is_not_started_twice() {
    let (_listener, url) = tarpit();
    let setup = start(1, &[&url]);
    let disk = setup.module.attach("disk1", "v", 1 << 20).expect("attached");
    let (replies, _answers) = mpsc::channel();
    setup.module.submit(disk, 0, [Request::new(Op::Read, 0, 512, &replies)]);
    // The first tag is taken now; the next submission claims it once more.
    let claim = |_, generation| {
        let (tag, op, repeated) = (Tag(0), Op::Write, false);
        Submission { tag, op, repeated, generation, arg: 0, len: 512 }.to_words()
    };
    assert_eq!(setup.module.forge(disk, 0, claim), None);
    let reply = setup.module.detach(disk);
    assert_eq!(reply.status, 0);
}

#[test]
fn an_overrun_ring_ends_the_agent() {
    let setup = start(2, &["null:"]);
    let disk = setup.module.attach("disk1", "v", 1 << 20).expect("attached");
    setup.module.overrun(disk, 1);
    let error = setup.agent.wait().expect_err("nothing to go on with");
    assert!(error.to_string().contains("overrun"), "{error}");
}

#[test]
fn a_second_agent_is_sent_away() {
    let setup = start(1, &["null:"]);
    let config = RunningAgent::config(&setup.folder.path().join("second"));
    let error = RunningAgent::start(&setup.module, config).wait().expect_err("one is there");
    assert!(matches!(error, AgentError::Begin(BeginError::Busy)), "{error}");
    assert!(setup.module.is_connected());
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = SimModule::with_version(1, 77);
    let agent = RunningAgent::start(&module, RunningAgent::config(folder.path()));
    let error = agent.wait().expect_err("versions differ").to_string();
    let ours = format!("version {ABI_VERSION}:");
    assert!(error.contains("version 77") && error.contains(&ours), "{error}");
}

/// The order that a worker is woken for comes before it sleeps: it must not then sleep over it.
#[test]
fn a_knock_before_the_sleep_prevents_it() {
    let (awake, is_awake) = mpsc::channel();
    thread::spawn(move || {
        let mut begun = Session::begin(&SimModule::new(1), Entry::IfFree).expect("a session");
        let runtime = srb_agent::kernel::worker::runtime().expect("a runtime");
        runtime.block_on(async {
            let bell = begun.data.remove(0).watch().expect("watched");
            for _ in 0..3 {
                bell.doorbell().knock();
                bell.enter_and_sleep(0).expect("a session");
                bell.doorbell().submit().take(|member| panic!("there is no member {member}"));
            }
            awake.send(()).expect("somebody waits");
        });
    });
    is_awake.recv_timeout(Duration::from_secs(10)).expect("it did not sleep");
}

/// A wake-up that is lost leaves a request without an answer for as long as the test waits.
#[test]
fn no_wake_up_is_lost() {
    let setup = start(2, &["null:"]);
    let disk = setup.module.attach("disk1", "v", 1 << 30).expect("attached");
    thread::scope(|scope| {
        for queue in 0..2 {
            let module = &setup.module;
            scope.spawn(move || {
                for i in 0..20_000u32 {
                    assert_eq!(module.read(disk, queue, 0, 512).status, 0);
                    // Meets the worker awake, falling asleep and asleep.
                    for _ in 0..i % 97 * 20 {
                        std::hint::spin_loop();
                    }
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    /// Against a plain array: overlapping reads and writes of any size and place, one at a time.
    #[test]
    fn behaves_as_an_array(
        steps in proptest::collection::vec(
            (any::<bool>(), 0u64..512, 1u32..256, any::<u64>()),
            1..60,
        )
    ) {
        let (_folder, _server, url) = playground();
        let Setup { module, agent: _agent, .. } = &start(2, &[&url]);
        assert_eq!(module.control(Op::Create, 512 * 512, b"v").status, 0);
        let disk = module.attach("disk1", "v", 512 * 512).expect("attached");
        let mut model = vec![0; 512 * 512];
        for (is_write, sector, sectors, seed) in steps {
            let (len, queue) = (sectors * 512, (seed % 2) as u32);
            let range = sector as usize * 512..(sector as usize + sectors as usize) * 512;
            let expected = if range.end <= model.len() { 0 } else { -EIO };
            if is_write {
                let bytes = pattern(seed, len as usize);
                let reply = module.write(disk, queue, sector, bytes.clone());
                prop_assert_eq!(reply.status, expected);
                if let Some(place) = model.get_mut(range) {
                    place.copy_from_slice(&bytes);
                }
            } else {
                let reply = module.read(disk, queue, sector, len);
                prop_assert_eq!(reply.status, expected);
                if let Some(place) = model.get(range) {
                    prop_assert!(reply.bytes == place);
                }
            }
        }
    }
}
