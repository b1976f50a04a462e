// SPDX-License-Identifier: GPL-2.0-only
//! What a command fails with when its servers do.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use nix::errno::Errno;

use super::server::{Answer, Server};
use super::{done, machine_at, read_class, refused};
use crate::guest::{sysfs, Case, Machine, TestResult};

pub(super) fn cases() -> Vec<Case> {
    named!["failures":
        a_server_that_is_not_there_refuses_the_connection,
        a_host_without_a_way_to_it_is_unreachable,
        nonsense_is_told_from_an_answer,
        a_server_that_denies_is_told_from_one_that_fails,
        a_full_server_is_told_from_one_that_fails,
        a_server_that_fails_for_a_moment_is_asked_again,
        a_server_that_does_not_know_the_repository_has_no_volumes,
        a_server_that_ignores_ranges_gets_no_volume,
        one_url_that_works_is_enough,
    ]
    .into()
}

/// Every command that goes to a server must fail with this errno.
fn all_refused(errno: Errno) {
    for (file, words) in [
        ("create", "vol1 1M"),
        ("extend", "vol1 1M"),
        ("destroy", "vol1"),
        ("attach", "vol1 disk1"),
    ] {
        refused(file, words, errno);
    }
    assert_eq!(read_class("volumes"), Err(errno), "volumes");
    assert!(sysfs::devices().is_empty());
}

/// A URL where nobody listens.
fn closed_url() -> TestResult<String> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    Ok(format!("http://{address}"))
}

fn a_server_that_is_not_there_refuses_the_connection() -> TestResult {
    let builder = Machine::builder().playgrounds(0).parameter("nb_req_retries", 1);
    let _machine = builder.start()?;
    done("add_urls", closed_url()?);
    all_refused(Errno::ECONNREFUSED);
    Ok(())
}

fn a_host_without_a_way_to_it_is_unreachable() -> TestResult {
    let builder = Machine::builder().playgrounds(0).parameter("nb_req_retries", 0);
    let _machine = builder.start()?;
    // The VM has no network but lo.
    done("add_urls", "http://10.0.0.1");
    all_refused(Errno::EHOSTUNREACH);
    done("remove_urls", "http://10.0.0.1");
    done("add_urls", "http://no-such-host.invalid");
    refused("attach", "vol1 disk1", Errno::EHOSTUNREACH);
    Ok(())
}

fn nonsense_is_told_from_an_answer() -> TestResult {
    let server = Server::start(|_| Answer::Raw("220 mail.example ESMTP\r\n"))?;
    let _machine = machine_at(&server, &[("nb_req_retries", 0)])?;
    all_refused(Errno::EPROTO);
    server.behave(|_| Answer::text("<html>It works!</html>"));
    refused("attach", "vol1 disk1", Errno::EPROTO);
    refused("create", "vol1 1M", Errno::EPROTO);
    assert_eq!(read_class("volumes"), Err(Errno::EPROTO));
    server.behave(|_| Answer::text(r#"{"metadata":{"cdmi_size":-5},"children":[7]}"#));
    refused("attach", "vol1 disk1", Errno::EPROTO);
    assert_eq!(read_class("volumes"), Err(Errno::EPROTO));
    server.behave(|_| Answer::status("302 Found"));
    all_refused(Errno::EPROTO);
    Ok(())
}

fn a_server_that_denies_is_told_from_one_that_fails() -> TestResult {
    let server = Server::of_status("401 Unauthorized")?;
    let _machine = machine_at(&server, &[("nb_req_retries", 5)])?;
    all_refused(Errno::EACCES);
    server.behave(|_| Answer::status("403 Forbidden"));
    let before = server.count();
    refused("attach", "vol1 disk1", Errno::EACCES);
    assert_eq!(server.count(), before + 1, "it was asked again");
    Ok(())
}

fn a_full_server_is_told_from_one_that_fails() -> TestResult {
    let server = Server::of_status("507 Insufficient Storage")?;
    let _machine = machine_at(&server, &[("nb_req_retries", 5)])?;
    refused("create", "vol1 1M", Errno::ENOSPC);
    let puts = server.requests().into_iter().filter(|request| request.method == "PUT");
    assert_eq!(puts.count(), 1, "it was asked again");
    server.behave(|_| Answer::status("413 Content Too Large"));
    refused("create", "vol1 1M", Errno::ENOSPC);
    Ok(())
}

fn a_server_that_fails_for_a_moment_is_asked_again() -> TestResult {
    let server = Server::of_status("500 Internal Server Error")?;
    let _machine = machine_at(&server, &[("nb_req_retries", 2)])?;
    refused("attach", "vol1 disk1", Errno::EIO);
    assert_eq!(read_class("volumes"), Err(Errno::EIO));
    let answers = AtomicUsize::new(0);
    server.behave(move |_| match answers.fetch_add(1, SeqCst) {
        0 => Answer::status("503 Service Unavailable"),
        1 => Answer::Raw(""),
        _ => Answer::text(r#"{"children":["vol1","vol2"]}"#),
    });
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\nvol2\n"));
    Ok(())
}

fn a_server_that_does_not_know_the_repository_has_no_volumes() -> TestResult {
    let builder = Machine::builder().playground_arg("--path").playground_arg("/volumes");
    let _machine = builder.without_urls().start()?;
    done("add_urls", "http://127.0.0.1:8080/others");
    assert_eq!(read_class("volumes"), Err(Errno::ENOENT));
    refused("attach", "vol1 disk1", Errno::ENOENT);
    refused("create", "vol1 1M", Errno::ENOENT);
    Ok(())
}

fn a_server_that_ignores_ranges_gets_no_volume() -> TestResult {
    let builder = Machine::builder().playground_arg("--quirk").playground_arg("ignore-range");
    let mut machine = builder.start()?;
    refused("create", "vol1 1M", Errno::EPROTO);
    assert_eq!(std::fs::read_dir(machine.playground(0)?.data())?.count(), 0);
    Ok(())
}

fn one_url_that_works_is_enough() -> TestResult {
    let server = Server::of_status("503 Service Unavailable")?;
    let machine = machine_at(&server, &[("server_conn_timeout", 2)])?;
    done("add_urls", closed_url()?);
    done("add_urls", "http://127.0.0.1:8080");
    machine.create("vol1", "1M")?;
    assert_eq!(read_class("volumes").as_deref(), Ok("vol1\n"));
    super::detach(machine.attach("vol1", "disk1")?)?;
    machine.destroy("vol1")
}
