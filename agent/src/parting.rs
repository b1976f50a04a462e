// SPDX-License-Identifier: GPL-2.0-only
//! What an agent says that is asked to end while devices are attached: whoever uses them waits, and
//! loses what is not written if no agent comes in time.
//!
//! Called from the main thread, at the signal.

use std::fmt::Write;
use std::sync::Arc;

use srb_proto::descriptor::DataOp;

use crate::kernel::device::Device;

/// A device that stays behind.
#[derive(Debug, Default)]
struct Left {
    name: String,
    reads: usize,
    writes: usize,
}

/// What to say of `devices`; `None` if there is none.
#[must_use]
pub fn words(devices: &[Arc<Device>]) -> Option<String> {
    let left = |device: &Arc<Device>| {
        let mut left = Left { name: device.name.clone(), ..Left::default() };
        for seen in device.counters.iter().flat_map(|queue| queue.tags.seen()) {
            let count = match seen.op {
                DataOp::Read => &mut left.reads,
                DataOp::Write => &mut left.writes,
            };
            *count = count.saturating_add(1);
        }
        left
    };
    say(devices.iter().map(left).collect())
}

fn say(mut devices: Vec<Left>) -> Option<String> {
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut text = match devices.len() {
        0 => return None,
        1 => "stopping while a device is attached: ".to_owned(),
        count => format!("stopping while {count} devices are attached: "),
    };
    for (place, Left { name, reads, writes }) in devices.iter().enumerate() {
        text.push_str(if place == 0 { "" } else { ", " });
        text.push_str(name);
        if (*writes, *reads) != (0, 0) {
            // Writing to a string cannot fail.
            let _ =
                write!(text, " (under way: {}, {})", many(*writes, "write"), many(*reads, "read"));
        }
    }
    text.push_str(
        "; who uses them waits for the next agent, for agent_grace seconds, and then loses what is \
         not written. Before a shutdown: unmount, and srbctl detach",
    );
    Some(text)
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_device_is_named_with_what_is_under_way() {
        assert_eq!(say(Vec::new()), None);
        let left = |name: &str, reads, writes| Left { name: name.into(), reads, writes };
        let one = say(vec![left("disk1", 0, 0)]).expect("something");
        assert!(one.starts_with("stopping while a device is attached: disk1; who "), "{one}");
        let many = [left("d", 2, 3), left("c", 1, 0), left("b", 0, 4), left("a", 0, 0)];
        let many = say(many.into()).expect("something");
        let names = "4 devices are attached: a, b (under way: 4 writes, 0 reads), \
                     c (under way: 0 writes, 1 read), d (under way: 3 writes, 2 reads); ";
        assert!(many.contains(names), "{many}");
    }
}
