// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Everything that crosses the boundary between module and agent, held against `abi.golden`.
//!
//! A difference means that an agent and a module built before and after it do not understand each
//! other: raise `layout::ABI_VERSION`, then run with `SRB_BLESS=1` and commit the golden file with
//! the change.
#![cfg(not(loom))]

use std::fmt::Write as _;
use std::mem::{offset_of, size_of};

use srb_proto::control::{self, ActiveUrl, Config, DeviceInfo, Hello, Join, Listing};
use srb_proto::descriptor::{Completion, Generation, Op, Submission, Tag};
use srb_proto::layout::{self, ChannelHeader, DoorbellPage, Geometry, Line, Mapping};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/abi.golden");
const HEAD: &str = "\
# SPDX-License-Identifier: GPL-2.0-only OR MIT
# What crosses the boundary between the kernel module and the agent. Written by tests/abi.rs:
#     SRB_BLESS=1 cargo test -p srb-proto --test abi
# A change here is a change of the ABI: raise layout::ABI_VERSION with it.
";

/// `MODULE::NAME VALUE` for each constant.
macro_rules! constants {
    ($out:expr, $($module:ident::$name:ident),+ $(,)?) => {
        $(line(
            &mut $out,
            concat!(stringify!($module), "::", stringify!($name)),
            &srb_proto::$module::$name,
        );)+
    };
}

/// Size, alignment and the offset of each field. The pattern makes a field that is not named here
/// an error.
macro_rules! fields {
    ($out:expr, $type:ident { $($field:ident),+ $(,)? }) => {{
        let _ = |$type { $($field: _),+ }: $type| ();
        let (size, align) = (size_of::<$type>(), align_of::<$type>());
        line(&mut $out, stringify!($type), &format_args!("size {size} align {align}"));
        $({
            let offset = offset_of!($type, $field);
            let size = size_of_field(|it: &$type| &it.$field);
            let name = concat!(stringify!($type), ".", stringify!($field));
            line(&mut $out, name, &format_args!("offset {offset} size {size}"));
        })+
    }};
}

const fn size_of_field<S, F>(_: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

fn section(out: &mut String, title: &str) {
    writeln!(out, "\n[{title}]").expect("a string has room");
}

fn line(out: &mut String, name: &str, value: &dyn std::fmt::Display) {
    writeln!(out, "{name} {value}").expect("a string has room");
}

fn hex(words: &[u64]) -> String {
    words.iter().map(|word| format!("{word:#018x}")).collect::<Vec<_>>().join(" ")
}

fn write_constants(out: &mut String) {
    section(out, "constants");
    constants!(
        *out,
        layout::ABI_VERSION,
        layout::PAGE_BYTES,
        layout::SECTOR_BYTES,
        layout::MAX_DEVICES,
        layout::MAX_QUEUES,
        layout::CONTROL_WORKER,
        layout::CONTROL_READY,
        layout::CONFIG_CHANGED,
        layout::RETIRE,
        doorbell::WORDS,
        doorbell::CAPACITY,
        control::URLS_CAPACITY,
        control::DEVICE_NAME_FIELD,
        control::VOLUME_NAME_FIELD,
        control::LISTING_HEAD_BYTES,
        control::HELLO_TAKEOVER,
        control::TAKEOVER_MSECS,
        descriptor::SUBMISSION_WORDS,
        descriptor::COMPLETION_WORDS,
        command::MAX_DEVICE_BYTES,
        command::MAX_SIZE_BYTES,
        command::MAX_URLS,
        command::MAX_URL_BYTES,
        command::MAX_VOLUME_BYTES,
    );
    line(out, "layout::MAGIC", &hex(&[layout::MAGIC]));
}

fn write_structs(out: &mut String) {
    section(out, "structs");
    fields!(*out, Line { word });
    fields!(
        *out,
        ChannelHeader {
            magic,
            abi_version,
            depth,
            window_bytes,
            reserved,
            attachment,
            submission_tail,
            completion_tail,
        }
    );
    fields!(
        *out,
        DoorbellPage { sleeping, submit_summary, complete_summary, submit_words, complete_words }
    );
    fields!(
        *out,
        Hello {
            magic,
            abi_version,
            flags,
            features,
            session,
            queues,
            depth,
            window_bytes,
            reserved,
        }
    );
    fields!(*out, Join { session, worker, reserved });
    fields!(
        *out,
        Config {
            version,
            urls,
            urls_capacity,
            urls_bytes,
            req_timeout_secs,
            nb_req_retries,
            server_conn_timeout_secs,
            thread_pool_size,
            debug,
            fit_urls,
        }
    );
    fields!(*out, DeviceInfo { index, queues, attachment, size_bytes, policy_secs, name, volume });
    fields!(*out, ActiveUrl { version, index, fit_urls });
}

fn write_ioctls(out: &mut String) {
    section(out, "ioctls of /dev/srb-control");
    for (name, number) in [
        ("control::HELLO", control::HELLO),
        ("control::JOIN", control::JOIN),
        ("control::CONFIG", control::CONFIG),
        ("control::DEVICE", control::DEVICE),
        ("control::ENTER", control::ENTER),
        ("control::ACTIVE_URL", control::ACTIVE_URL),
    ] {
        line(out, name, &format_args!("{number:#010x}"));
    }
    line(out, "control::ENTER_WAIT", &control::ENTER_WAIT);
    line(out, "control::ENTER_POLL_SHIFT", &control::ENTER_POLL_SHIFT);
    line(out, "control::MAX_POLL_USECS", &control::MAX_POLL_USECS);
}

fn write_entries(out: &mut String) {
    section(out, "ops");
    for op in (0..=u8::MAX).filter_map(Op::from_number) {
        line(out, &format!("{op:?}"), &(op as u8));
    }
    section(out, "entries");
    let submission = Submission {
        tag: Tag(0x1122),
        op: Op::Write,
        repeated: false,
        generation: Generation(0x3344_5566),
        arg: 0x7788_99aa_bbcc_ddee,
        len: 0x1f2f_3f4f,
    };
    line(out, "submission", &hex(&submission.to_words()));
    let repeated = Submission { repeated: true, ..submission };
    line(out, "submission.repeated", &hex(&repeated.to_words()));
    let cancel = Submission::cancel_arg(submission.tag, submission.generation);
    line(out, "submission.cancel_arg", &hex(&[cancel]));
    let completion = Completion {
        transient: true,
        tag: submission.tag,
        generation: submission.generation,
        status: -5,
        len: submission.len,
    };
    line(out, "completion", &hex(&completion.to_words()));
    let valid = |status: &i32| Completion { status: *status, ..completion }.status().is_some();
    let valid = (-10_000..=10_000).filter(valid).map(|status: i32| status.to_string());
    line(out, "completion.status", &valid.collect::<Vec<_>>().join(" "));
    let bytes = [&7u64.to_ne_bytes()[..], b"a\nb\n"].concat();
    let listing = Listing::from_bytes(&bytes).expect("a whole listing");
    assert_eq!((listing.total, listing.names), (7, &b"a\nb\n"[..]));
}

fn write_geometry(out: &mut String) {
    for (name, geometry) in [("DATA", layout::DATA), ("CONTROL", layout::CONTROL)] {
        section(out, &format!("geometry layout::{name}"));
        let Geometry { depth, window_bytes } = geometry;
        line(out, "depth", &depth);
        line(out, "window_bytes", &window_bytes);
        line(out, "submissions_offset", &geometry.submissions_offset());
        line(out, "completions_offset", &geometry.completions_offset());
        line(out, "windows_offset", &geometry.windows_offset());
        line(out, "window_offset(1)", &geometry.window_offset(1));
        line(out, "total_bytes", &geometry.total_bytes());
    }
    section(out, "mappings");
    for mapping in [
        Mapping::Doorbell { worker: 0 },
        Mapping::Doorbell { worker: 1 },
        Mapping::Doorbell { worker: layout::CONTROL_WORKER },
        Mapping::Channel { device: 0, queue: 0 },
        Mapping::Channel { device: 1, queue: 2 },
        Mapping::Control,
    ] {
        let (offset, bytes) = (mapping.offset(), mapping.bytes());
        line(out, &format!("{mapping:?}"), &format_args!("offset {offset:#018x} bytes {bytes}"));
    }
}

fn abi() -> String {
    let mut out = String::from(HEAD);
    write_constants(&mut out);
    write_structs(&mut out);
    write_ioctls(&mut out);
    write_entries(&mut out);
    write_geometry(&mut out);
    out
}

/// Lines of each that the other lacks, in order.
fn difference(golden: &str, now: &str) -> String {
    let without = |lines: &str, others: &str, mark| {
        let others: Vec<_> = others.lines().collect();
        let missing = |line: &&str| !others.contains(line);
        lines
            .lines()
            .filter(missing)
            .fold(String::new(), |all, line| format!("{all}{mark} {line}\n"))
    };
    let both = without(golden, now, '-') + &without(now, golden, '+');
    if both.is_empty() {
        String::from("(the same lines in another order)\n")
    } else {
        both
    }
}

#[test]
fn the_abi_is_the_golden_one() {
    let now = abi();
    if std::env::var_os("SRB_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(GOLDEN, &now).expect("abi.golden can be written");
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    assert!(
        golden == now,
        "the ABI differs from proto/tests/abi.golden:\n\n{}\nIf this is meant, raise \
         layout::ABI_VERSION (an agent and a module of different versions refuse each other), \
         then run\n    SRB_BLESS=1 cargo test -p srb-proto --test abi\nand commit abi.golden.",
        difference(&golden, &now)
    );
}

/// A new constant of these files belongs into the golden one too.
#[test]
fn no_public_constant_is_left_out() {
    let now = abi();
    for source in [
        include_str!("../src/layout.rs"),
        include_str!("../src/control.rs"),
        include_str!("../src/descriptor.rs"),
        include_str!("../src/doorbell.rs"),
    ] {
        for rest in source.lines().filter_map(|line| line.strip_prefix("pub const ")) {
            let name = rest.split(':').next().unwrap_or_default();
            let listed = |line: &str| {
                let path = line.split(' ').find(|word| *word != "[geometry").unwrap_or_default();
                path.trim_end_matches(']').rsplit("::").next() == Some(name)
            };
            assert!(now.lines().any(listed), "{name} is not in tests/abi.rs");
        }
    }
}

/// The numbers that the C macros of `<asm-generic/ioctl.h>` give, computed by hand for one of them.
#[test]
fn ioctl_numbers_are_made_as_c_makes_them() {
    // _IOWR(0xb5, 1, 48 bytes)
    assert_eq!(control::HELLO, (3 << 30) | (48 << 16) | (0xb5 << 8) | 1);
    // _IO(0xb5, 5)
    assert_eq!(control::ENTER, (0xb5 << 8) | 5);
}
