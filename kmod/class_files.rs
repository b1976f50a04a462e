// SPDX-License-Identifier: GPL-2.0-only
//! The files below `/sys/class/srb`; docs/ABI describes them for users.

use crate::{
    chardev, commands,
    ffi::sysfs::{class_of, ClassFile, Page},
    peer, urls,
};
use core::fmt::Write as _;
use kernel::prelude::*;

class_of!(pub(crate) CLASS: [
    Urls, Volumes, BadAnswers, Standbys, AddUrls, RemoveUrls, Create, Extend, Destroy, Attach,
    Detach
]);

/// A control file: writing does something, reading tells how.
macro_rules! control_file {
    ($type:ident, $name:literal, $run:path, $usage:literal) => {
        pub(crate) struct $type;

        impl ClassFile for $type {
            const NAME: &'static CStr = $name;
            const MODE: u16 = 0o600;

            fn show(page: &mut Page<'_>) -> Result {
                page.push($usage).then_some(()).ok_or(EIO)
            }

            fn store(text: &[u8]) -> Result {
                $run(text)
            }
        }
    };
}

control_file!(
    AddUrls,
    c"add_urls",
    commands::add_urls,
    "Usage: echo 'http://HOST[:PORT]/PATH[,URL...]' > add_urls\n"
);
control_file!(
    RemoveUrls,
    c"remove_urls",
    commands::remove_urls,
    "Usage: echo 'URL[,URL...]' > remove_urls\n"
);
control_file!(
    Create,
    c"create",
    commands::create,
    "Usage: echo 'VOLUME SIZE' > create   (SIZE: bytes, or an integer with k, M, G or T)\n"
);
control_file!(
    Extend,
    c"extend",
    commands::extend,
    "Usage: echo 'VOLUME SIZE' > extend   (SIZE: bytes, or an integer with k, M, G or T)\n"
);
control_file!(Destroy, c"destroy", commands::destroy, "Usage: echo VOLUME > destroy\n");
control_file!(Attach, c"attach", commands::attach, "Usage: echo 'VOLUME DEVICE' > attach\n");
control_file!(Detach, c"detach", commands::detach, "Usage: echo 'DEVICE [force]' > detach\n");

/// `urls`: the list as `add_urls` takes it.
pub(crate) struct Urls;

impl ClassFile for Urls {
    const NAME: &'static CStr = c"urls";
    const MODE: u16 = 0o400;

    fn show(page: &mut Page<'_>) -> Result {
        let (mut first, mut left_out) = (true, 0u32);
        urls::for_each(|url| {
            let comma = if first { "" } else { "," };
            first = false;
            if left_out > 0 || !page.push_reserving(&[comma, url.as_str()]) {
                left_out += 1;
            }
            true
        });
        page.finish(left_out.into(), "URLs", "url list")
    }
}

/// `volumes`: a name a line.
pub(crate) struct Volumes;

impl ClassFile for Volumes {
    const NAME: &'static CStr = c"volumes";
    const MODE: u16 = 0o400;

    fn show(page: &mut Page<'_>) -> Result {
        let left_out = commands::volumes(|name| page.push_reserving(&[name, "\n"]))?;
        match left_out {
            0 => Ok(()),
            left_out => page.note_left_out(left_out, "volumes", "volume list"),
        }
    }
}

/// `bad_answers`: a number.
pub(crate) struct BadAnswers;

impl ClassFile for BadAnswers {
    const NAME: &'static CStr = c"bad_answers";
    const MODE: u16 = 0o400;

    fn show(page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", peer::bad_answers()).map_err(|_| EIO)
    }
}

/// `standbys`: a number.
pub(crate) struct Standbys;

impl ClassFile for Standbys {
    const NAME: &'static CStr = c"standbys";
    const MODE: u16 = 0o400;

    fn show(page: &mut Page<'_>) -> Result {
        writeln!(page, "{}", chardev::standbys()).map_err(|_| EIO)
    }
}
