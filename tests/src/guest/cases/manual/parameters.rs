// SPDX-License-Identifier: GPL-2.0-only
//! The module's parameters: at load, later, and what they do.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{listen, Backlog};

use super::server::{Answer, Request, Server};
use super::{detach, done, machine_at, parameter, refused, set_parameter, timed};
use crate::guest::machine::message;
use crate::guest::wait::patiently;
use crate::guest::{clean, load_module, sysfs, Case, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    named!["parameters":
        parameters_have_the_defaults_of_the_manual,
        parameters_are_taken_at_load,
        srb_log_is_another_name_of_debug,
        a_value_out_of_range_is_refused_at_load,
        a_value_out_of_range_is_refused_later_and_the_old_one_stays,
        the_time_for_an_answer_is_in_force_at_once,
        the_time_for_a_connection_is_in_force_at_once,
        a_request_is_tried_as_often_as_is_said,
        a_device_has_as_many_requests_at_the_servers_as_is_said,
    ]
    .into()
}

fn parameters_have_the_defaults_of_the_manual() -> TestResult {
    load_module(&[])?;
    for (name, value) in [
        ("debug", "6"),
        ("srb_log", "6"),
        ("req_timeout", "30"),
        ("nb_req_retries", "3"),
        ("server_conn_timeout", "30"),
        ("thread_pool_size", "32"),
        ("agent_grace", "60"),
        ("policy", "fail"),
    ] {
        assert_eq!(parameter(name)?, value, "{name}");
    }
    Ok(())
}

fn parameters_are_taken_at_load() -> TestResult {
    let given = [
        ("debug", "2"),
        ("req_timeout", "3600"),
        ("nb_req_retries", "0"),
        ("server_conn_timeout", "1"),
        ("thread_pool_size", "16"),
        ("agent_grace", "-1"),
        ("policy", "queue=7"),
    ];
    load_module(&given.map(|(name, value)| format!("{name}={value}")))?;
    for (name, value) in given {
        assert_eq!(parameter(name)?, value, "{name}");
    }
    assert_eq!(set_parameter("thread_pool_size", 8), Err(Errno::EACCES));
    assert_eq!(parameter("thread_pool_size")?, "16");
    Ok(())
}

fn srb_log_is_another_name_of_debug() -> TestResult {
    load_module(&["srb_log=3".to_owned()])?;
    assert_eq!((parameter("srb_log")?, parameter("debug")?), ("3".into(), "3".into()));
    set_parameter("debug", 7)?;
    assert_eq!((parameter("srb_log")?, parameter("debug")?), ("7".into(), "7".into()));
    set_parameter("srb_log", 0)?;
    assert_eq!((parameter("srb_log")?, parameter("debug")?), ("0".into(), "0".into()));
    Ok(())
}

fn a_value_out_of_range_is_refused_at_load() -> TestResult {
    for bad in [
        "policy=hold",
        "debug=8",
        "srb_log=-1",
        "req_timeout=0",
        "req_timeout=3601",
        "nb_req_retries=101",
        "server_conn_timeout=0",
        "server_conn_timeout=3601",
        "thread_pool_size=0",
        "thread_pool_size=1025",
        "agent_grace=-2",
        "agent_grace=86401",
        "req_timeout=soon",
    ] {
        let Err(why) = load_module(&[bad.to_owned()]) else {
            return Err(format!("{bad} was taken").into());
        };
        assert!(message(&why).contains("Invalid"), "{bad}: {}", message(&why));
        assert!(!sysfs::module_loaded(), "{bad}");
    }
    Ok(())
}

fn a_value_out_of_range_is_refused_later_and_the_old_one_stays() -> TestResult {
    load_module(&[])?;
    let never = ["", "\n", "x", "1x", "1.5", "4294967296", "99999999999999999999"];
    for (name, good, bad) in [
        ("debug", ["0", "7"], ["8", "-1"]),
        ("srb_log", ["0", "7"], ["8", "-1"]),
        ("req_timeout", ["1", "3600"], ["0", "3601"]),
        ("nb_req_retries", ["0", "100"], ["101", "-1"]),
        ("server_conn_timeout", ["1", "3600"], ["0", "3601"]),
        ("agent_grace", ["-1", "86400"], ["-2", "86401"]),
    ] {
        for value in good {
            assert_eq!(set_parameter(name, format!("{value}\n")), Ok(()), "{name}={value}");
            assert_eq!(parameter(name)?, value, "{name}");
        }
        for value in bad.iter().chain(&never).filter(|value| !value.is_empty()) {
            assert_eq!(set_parameter(name, value), Err(Errno::EINVAL), "{name}={value:?}");
            assert_eq!(parameter(name)?, good[1], "{name} after {value:?}");
        }
    }
    clean::unload()
}

/// A command must fail with ETIMEDOUT after about `secs` seconds.
fn times_out_after(secs: u64, file: &str, words: &str) {
    let (result, time) = timed(|| sysfs::command(file, words));
    assert_eq!(result, Err(Errno::ETIMEDOUT), "{file}: {words}");
    let (least, most) = (Duration::from_secs(secs), patiently(Duration::from_secs(secs + 6)));
    assert!(time >= least && time < most, "{file}: {words}: {time:?} instead of {secs} s");
}

fn the_time_for_an_answer_is_in_force_at_once() -> TestResult {
    let server = Server::silent()?;
    let _machine = machine_at(&server, &[])?;
    set_parameter("nb_req_retries", 0)?;
    set_parameter("req_timeout", 1)?;
    times_out_after(1, "attach", "vol1 disk1");
    times_out_after(1, "destroy", "vol1");
    let (listing, time) = timed(|| super::read_class("volumes"));
    assert_eq!(listing, Err(Errno::ETIMEDOUT));
    assert!(time < patiently(Duration::from_secs(7)), "it took {time:?}");
    set_parameter("req_timeout", 2)?;
    times_out_after(2, "attach", "vol1 disk1");
    assert!(server.count() >= 4);
    assert!(sysfs::devices().is_empty());
    Ok(())
}

fn the_time_for_a_connection_is_in_force_at_once() -> TestResult {
    // Nobody accepts, and the queue of those who wait is full: further ones get no answer at all.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listen(&listener, Backlog::new(0)?)?;
    let target = listener.local_addr()?;
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&target, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 16, "the queue has no end");
    }
    let _machine = Machine::builder().playgrounds(0).start()?;
    done("add_urls", format!("http://{target}"));
    set_parameter("nb_req_retries", 0)?;
    set_parameter("server_conn_timeout", 1)?;
    times_out_after(1, "attach", "vol1 disk1");
    set_parameter("server_conn_timeout", 2)?;
    times_out_after(2, "destroy", "vol1");
    Ok(())
}

fn a_request_is_tried_as_often_as_is_said() -> TestResult {
    let server = Server::of_status("503 Service Unavailable")?;
    let _machine = machine_at(&server, &[("nb_req_retries", 2)])?;
    let mut before = 0;
    let mut tries = || {
        let (last, now) = (before, server.count());
        before = now;
        now - last
    };
    refused("attach", "vol1 disk1", Errno::EIO);
    assert_eq!(tries(), 3);
    set_parameter("nb_req_retries", 0)?;
    refused("attach", "vol1 disk1", Errno::EIO);
    assert_eq!(tries(), 1);
    set_parameter("nb_req_retries", 4)?;
    refused("destroy", "vol1", Errno::EIO);
    assert_eq!(tries(), 5);
    Ok(())
}

/// A volume of 1 MiB of zeros at a server that takes its time for reads.
fn slow_volume(request: &Request, under_way: &AtomicUsize, most: &AtomicUsize) -> Answer {
    if request.path.ends_with("?metadata") {
        return Answer::text(r#"{"metadata":{"cdmi_size":1048576}}"#);
    }
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes="));
    let ends = range.and_then(|range| range.split_once('-'));
    let ends = ends.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    let Some((first, last)) = ends else { return Answer::status("400 Bad Request") };
    let (first, last): (usize, usize) = (first, last);
    most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
    sleep(Duration::from_millis(200));
    under_way.fetch_sub(1, SeqCst);
    let headers = format!("Content-Range: bytes {first}-{last}/1048576\r\n");
    Answer::Http("206 Partial Content", headers, vec![0; last - first + 1])
}

fn a_device_has_as_many_requests_at_the_servers_as_is_said() -> TestResult {
    let (under_way, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let server = Server::start({
        let most = Arc::clone(&most);
        move |request| slow_volume(request, &under_way, &most)
    })?;
    let machine = machine_at(&server, &[("thread_pool_size", 2)])?;
    let device = machine.attach("vol1", "disk1")?;
    super::settle()?;
    machine.sh("for at in 1 2 3 4 5 6 7 8; do
        dd if=/dev/disk1 of=/dev/null bs=4k skip=$((at * 16)) count=1 iflag=direct status=none &
    done; wait")?;
    // Fewer would mean that they went one after the other.
    assert_eq!(most.load(SeqCst), 2);
    detach(device)
}
