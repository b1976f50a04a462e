// SPDX-License-Identifier: GPL-2.0-only
//! `urls`, `add_urls` and `remove_urls`.

use nix::errno::Errno;

use super::{attached, detach, done, read_class, refused};
use crate::guest::{Case, Machine, TestResult};

/// What sysfs shows of a file at most.
const PAGE: usize = 4096;

pub(super) fn cases() -> Vec<Case> {
    named!["urls":
        urls_are_added_listed_and_removed_without_an_agent,
        a_list_of_urls_can_be_copied_from_the_listing,
        one_url_is_one_however_it_is_written,
        a_bad_url_does_not_keep_the_good_ones_out,
        what_is_no_url_is_refused,
        a_list_beyond_a_page_is_refused_as_a_whole,
        a_listing_beyond_a_page_ends_with_a_whole_url_and_says_so,
        there_are_32_urls_at_most,
        null_stands_alone,
        a_url_that_is_not_there_cannot_be_removed,
        the_last_url_stays_while_a_device_is_attached,
    ]
    .into()
}

/// A machine with the module alone; its URLs go with it.
fn module_alone() -> TestResult<Machine> {
    Machine::builder().playgrounds(0).without_agent().start()
}

fn listing() -> String {
    read_class("urls").unwrap_or_else(|errno| format!("urls: {errno}"))
}

fn urls_are_added_listed_and_removed_without_an_agent() -> TestResult {
    let _machine = module_alone()?;
    assert_eq!(listing(), "\n");
    done("add_urls", "http://127.0.0.1:8080/volumes\n");
    assert_eq!(listing(), "http://127.0.0.1:8080/volumes\n");
    done("add_urls", "http://10.0.0.1/,http://[::1]:81/a/b");
    assert_eq!(listing(), "http://127.0.0.1:8080/volumes,http://10.0.0.1,http://[::1]:81/a/b\n");
    done("remove_urls", "http://10.0.0.1\n");
    assert_eq!(listing(), "http://127.0.0.1:8080/volumes,http://[::1]:81/a/b\n");
    done("remove_urls", "http://127.0.0.1:8080/volumes");
    done("remove_urls", "http://[::1]:81/a/b");
    assert_eq!(listing(), "\n");
    Ok(())
}

fn a_list_of_urls_can_be_copied_from_the_listing() -> TestResult {
    let _machine = module_alone()?;
    done("add_urls", " http://a/x , http://b/y/,,http://c \n");
    let all = listing();
    assert_eq!(all, "http://a/x,http://b/y,http://c\n");
    done("remove_urls", &all);
    assert_eq!(listing(), "\n");
    done("add_urls", &all);
    assert_eq!(listing(), all);
    Ok(())
}

fn one_url_is_one_however_it_is_written() -> TestResult {
    let _machine = module_alone()?;
    done("add_urls", "HTTP://Server.Example:080/Path/");
    assert_eq!(listing(), "http://server.example/Path\n");
    for same in ["http://server.example/Path", "http://SERVER.example:80/Path//"] {
        refused("add_urls", same, Errno::EEXIST);
    }
    done("add_urls", "http://server.example/path");
    done("remove_urls", "http://server.EXAMPLE:80/Path/");
    assert_eq!(listing(), "http://server.example/path\n");
    Ok(())
}

fn a_bad_url_does_not_keep_the_good_ones_out() -> TestResult {
    let _machine = module_alone()?;
    refused("add_urls", "http://a,ftp://b,http://c,nonsense,http://d", Errno::EINVAL);
    assert_eq!(listing(), "http://a,http://c,http://d\n");
    refused("add_urls", "http://e,http://a,http://f", Errno::EEXIST);
    assert_eq!(listing(), "http://a,http://c,http://d,http://e,http://f\n");
    refused("add_urls", "http://g,http://g", Errno::EEXIST);
    assert_eq!(listing(), "http://a,http://c,http://d,http://e,http://f,http://g\n");
    Ok(())
}

fn what_is_no_url_is_refused() -> TestResult {
    let _machine = module_alone()?;
    let long = format!("http://a/{}", "x".repeat(512));
    for words in [
        "\n",
        " ",
        ",",
        "127.0.0.1:8080",
        "https://a",
        "ftp://a",
        "http:",
        "http://",
        "http:///path",
        "http://a:0",
        "http://a:65536",
        "http://a:x",
        "http://1.2.3.4.5",
        "http://[::1",
        "http://user:secret@a/",
        "http://a/?query",
        "http://a/#fragment",
        "http://a/../b",
        "http://a/b c",
        "http://a/%zz",
        "http://a/ä",
        "http://-a",
        "null:5X",
        &long,
    ] {
        refused("add_urls", words, Errno::EINVAL);
        refused("remove_urls", words, Errno::EINVAL);
    }
    refused("add_urls", b"http://a/\xff", Errno::EINVAL);
    assert_eq!(listing(), "\n");
    Ok(())
}

/// Different URLs of `bytes` bytes each.
fn long_urls(count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|index| format!("{:x<bytes$}", format!("http://a/{index:02}"))).collect()
}

fn a_list_beyond_a_page_is_refused_as_a_whole() -> TestResult {
    let _machine = module_alone()?;
    // The kernel hands over a page and no more: the last of these would be cut to another URL.
    for bytes in [PAGE, PAGE + 1, PAGE + 100] {
        let list = long_urls(20, 250).join(",");
        let list = list.get(..bytes).unwrap_or(&list);
        refused("add_urls", list, Errno::EINVAL);
        assert_eq!(listing(), "\n", "of {bytes} bytes");
    }
    let urls = long_urls(15, 250);
    done("add_urls", urls.join(","));
    assert_eq!(listing().trim_end().split(',').count(), urls.len());
    Ok(())
}

fn a_listing_beyond_a_page_ends_with_a_whole_url_and_says_so() -> TestResult {
    let _machine = module_alone()?;
    let urls = long_urls(32, 200);
    for url in &urls {
        done("add_urls", url);
    }
    let text = listing();
    let mut lines = text.lines();
    let shown: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let left_out = urls.len() - shown.len();
    assert!(left_out > 0 && shown.len() > 15, "{} shown", shown.len());
    assert!(shown.iter().zip(&urls).all(|(shown, url)| shown == url), "{text}");
    let note = format!("({left_out} more URLs: srbctl url list)");
    assert_eq!(lines.collect::<Vec<_>>(), [note.as_str()]);
    for url in &urls {
        done("remove_urls", url);
    }
    Ok(())
}

fn there_are_32_urls_at_most() -> TestResult {
    let _machine = module_alone()?;
    let urls: Vec<String> = (0..33).map(|index| format!("http://a/{index}")).collect();
    refused("add_urls", urls.join(","), Errno::ENOSPC);
    let kept = urls.get(..32).unwrap_or_default().join(",");
    assert_eq!(listing(), format!("{kept}\n"));
    done("remove_urls", "http://a/7");
    done("add_urls", "http://a/32");
    Ok(())
}

fn null_stands_alone() -> TestResult {
    let _machine = module_alone()?;
    done("add_urls", "null:1G");
    refused("add_urls", "http://a", Errno::EINVAL);
    refused("add_urls", "null:2G", Errno::EINVAL);
    done("remove_urls", "null:1G");
    done("add_urls", "http://a");
    refused("add_urls", "null:1G", Errno::EINVAL);
    assert_eq!(listing(), "http://a\n");
    Ok(())
}

fn a_url_that_is_not_there_cannot_be_removed() -> TestResult {
    let _machine = module_alone()?;
    refused("remove_urls", "http://a", Errno::ENOENT);
    done("add_urls", "http://a,http://b,http://c");
    refused("remove_urls", "http://x", Errno::ENOENT);
    refused("remove_urls", "http://a,http://x,nonsense,http://c", Errno::ENOENT);
    assert_eq!(listing(), "http://b\n");
    Ok(())
}

fn the_last_url_stays_while_a_device_is_attached() -> TestResult {
    let machine = Machine::builder().start()?;
    let device = attached(&machine, "vol1", "1M", "disk1")?;
    refused("remove_urls", "http://127.0.0.1:8080", Errno::EBUSY);
    done("add_urls", "http://127.0.0.1:8080/second");
    refused("remove_urls", "http://127.0.0.1:8080/second,http://127.0.0.1:8080", Errno::EBUSY);
    assert_eq!(listing(), "http://127.0.0.1:8080\n");
    detach(device)?;
    done("remove_urls", "http://127.0.0.1:8080/");
    assert_eq!(listing(), "\n");
    Ok(())
}
