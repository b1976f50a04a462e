// SPDX-License-Identifier: GPL-2.0-only
//! What is asked of a repository, and the HTTP request that asks it.
//!
//! Before: [`super::Cdmi`] makes an operation. After: [`super::answer`] reads what comes back.
//! The protocol's table of requests is `write_head`.

use std::fmt;

use srb_proto::descriptor::DataOp;

use crate::base::window::Io;
use crate::http::digits::put_number;
use crate::http::target::Target;
use crate::store::kind::words;
use crate::store::subject::Subject;

/// An operation that one request carries out. Repeating any of them is harmless by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    /// The names of the volumes.
    List,
    /// The size of a volume.
    Size(&'a Subject),
    /// A new, empty volume.
    Create(&'a Subject),
    /// A volume's size, set.
    SetSize(&'a Subject, u64),
    /// The end of a volume.
    Delete(&'a Subject),
    /// Bytes of a volume into a window.
    Read(&'a Subject, Io<'a>),
    /// Bytes of a window into a volume.
    Write(&'a Subject, Io<'a>),
}

/// The header that says which bytes of a volume are meant.
fn write_range(io: &Io<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"range: bytes=");
    put_number(out, io.offset);
    out.push(b'-');
    put_number(out, io.last());
}

impl Operation<'_> {
    /// The volume that it is about.
    pub(super) const fn volume(&self) -> Option<&Subject> {
        match self {
            Self::List => None,
            Self::Size(volume)
            | Self::Create(volume)
            | Self::SetSize(volume, _)
            | Self::Delete(volume)
            | Self::Read(volume, _)
            | Self::Write(volume, _) => Some(volume),
        }
    }

    /// Writes the head of the request, in origin form; what `out` had is forgotten.
    pub(super) fn write_head(&self, target: &Target, out: &mut Vec<u8>) {
        out.clear();
        let mut put = |text: &[u8]| out.extend_from_slice(text);
        put(match self {
            Self::List | Self::Size(_) | Self::Read(..) => b"GET ",
            Self::Create(_) | Self::SetSize(..) | Self::Write(..) => b"PUT ",
            Self::Delete(_) => b"DELETE ",
        });
        put(target.path());
        put(b"/");
        put(self.volume().map_or(b"", |volume| volume.segment().as_bytes()));
        put(if matches!(self, Self::Size(_)) { b"?metadata" } else { b"" });
        put(target.headers());
        match self {
            Self::List => {
                put(b"x-cdmi-specification-version: 1.0.1\r\n");
                put(b"accept: application/cdmi-container\r\n");
            }
            Self::Size(_) | Self::Delete(_) => {}
            Self::Create(_) => put(b"if-none-match: *\r\ncontent-length: 0\r\n"),
            Self::SetSize(_, size) => {
                put(b"x-scal-truncate: ");
                put_number(out, *size);
                out.extend_from_slice(b"\r\ncontent-length: 0\r\n");
            }
            Self::Read(_, io) => {
                write_range(io, out);
                out.extend_from_slice(b"\r\n");
            }
            Self::Write(_, io) => {
                write_range(io, out);
                out.extend_from_slice(b"\r\ncontent-length: ");
                put_number(out, io.len as u64);
                out.extend_from_slice(b"\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List => f.write_str("list of volumes"),
            Self::Size(volume) => write!(f, "size of volume {}", volume.name()),
            Self::Create(volume) => write!(f, "create of volume {}", volume.name()),
            Self::SetSize(volume, size) => {
                write!(f, "setting the size of volume {} to {size} bytes", volume.name())
            }
            Self::Delete(volume) => write!(f, "delete of volume {}", volume.name()),
            Self::Read(volume, io) => f.write_str(&words(DataOp::Read, volume, io)),
            Self::Write(volume, io) => f.write_str(&words(DataOp::Write, volume, io)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::window::Window;

    #[test]
    fn each_operation_has_its_head() {
        let (volume, window) = (Subject::new("a b"), Window::from_vec(vec![0; 8]));
        let io = Io { offset: 4096, window: &window, len: 8 };
        let target = Target::new("/x/y", "[::1]:81").expect("valid");
        let common = "HTTP/1.1\r\nhost: [::1]:81\r\nuser-agent: srb-agent\r\n";
        for (operation, line, headers) in [
            (
                Operation::List,
                "GET /x/y/",
                "x-cdmi-specification-version: 1.0.1\r\naccept: application/cdmi-container\r\n",
            ),
            (Operation::Size(&volume), "GET /x/y/a%20b?metadata", ""),
            (
                Operation::Create(&volume),
                "PUT /x/y/a%20b",
                "if-none-match: *\r\ncontent-length: 0\r\n",
            ),
            (
                Operation::SetSize(&volume, 10 << 30),
                "PUT /x/y/a%20b",
                "x-scal-truncate: 10737418240\r\ncontent-length: 0\r\n",
            ),
            (Operation::Delete(&volume), "DELETE /x/y/a%20b", ""),
            (Operation::Read(&volume, io), "GET /x/y/a%20b", "range: bytes=4096-4103\r\n"),
            (
                Operation::Write(&volume, io),
                "PUT /x/y/a%20b",
                "range: bytes=4096-4103\r\ncontent-length: 8\r\n",
            ),
        ] {
            let mut head = b"of the last one".to_vec();
            operation.write_head(&target, &mut head);
            let expected = format!("{line} {common}{headers}\r\n");
            assert_eq!(String::from_utf8(head).as_deref(), Ok(&*expected));
        }
    }
}
