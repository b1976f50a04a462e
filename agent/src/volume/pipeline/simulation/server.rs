// SPDX-License-Identifier: GPL-2.0-only
//! A server that holds one volume in memory and misbehaves in every way that is allowed: it may
//! apply a write late, but no later than its lateness after the connection was closed or the
//! request was answered with an excuse.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::Rng;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

pub(super) const SECTOR_BYTES: usize = 512;
/// What a sector would hold that is none: half of one and half of another.
pub(super) const TORN: u64 = u64::MAX;

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    sectors: RefCell<Vec<u64>>,
    chance: RefCell<StdRng>,
    /// Of requests, in percent.
    fault_rate: u32,
    lateness: Duration,
    /// How long a try may take, for pauses around it.
    req_timeout: Duration,
    faults: Cell<u64>,
}

type Connection = BufReader<DuplexStream>;

/// What happens to one request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Served,
    /// Served after a time that may be too long.
    Slow,
    /// Applied, but the connection is closed instead of an answer.
    ReplyLost,
    /// Applied, and never answered.
    Silent,
    /// The connection is closed, and the request is applied afterwards.
    ResetAndLate,
    /// Applied after the other side has given up.
    Late,
    /// Answered that it cannot be, and applied afterwards.
    RefusedAndLate,
    /// As promised.
    Refused,
    Reset,
    Frozen,
}

/// Where a request is to be served, and with what.
#[derive(Debug)]
struct Request {
    sectors: Range<usize>,
    /// Of a write.
    values: Option<Vec<u64>>,
}

const REFUSED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const DONE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

impl Server {
    pub(super) fn new(
        sectors: usize,
        chance: StdRng,
        (fault_rate, lateness, req_timeout): (u32, Duration, Duration),
    ) -> Rc<Self> {
        let (sectors, chance) = (RefCell::new(vec![0; sectors]), RefCell::new(chance));
        let faults = Cell::new(0);
        Rc::new(Self { sectors, chance, fault_rate, lateness, req_timeout, faults })
    }

    /// Requests that were not simply served.
    pub(super) fn faults(&self) -> u64 {
        self.faults.get()
    }

    /// Serves connections until nobody can make one any more.
    pub(super) async fn run(
        self: Rc<Self>,
        mut connections: mpsc::UnboundedReceiver<DuplexStream>,
    ) {
        while let Some(connection) = connections.recv().await {
            spawn_local(Rc::clone(&self).serve(BufReader::new(connection)));
        }
    }

    async fn serve(self: Rc<Self>, mut connection: Connection) {
        while let Some(request) = receive(&mut connection).await {
            let fate = self.fate();
            if !matches!(fate, Fate::Served) {
                self.faults.set(self.faults.get() + 1);
            }
            if self.meet(fate, &request, &mut connection).await.is_none() {
                return;
            }
        }
    }

    /// `None` if the connection is over; it is closed then.
    async fn meet(
        self: &Rc<Self>,
        fate: Fate,
        request: &Request,
        connection: &mut Connection,
    ) -> Option<()> {
        match fate {
            Fate::Served | Fate::Slow => {
                let most = match fate {
                    Fate::Slow => self.req_timeout * 3 / 2,
                    _ => Duration::from_millis(8),
                };
                if self.pause(most, connection).await {
                    // The other side has gone before it was applied.
                    sleep(self.up_to(self.lateness)).await;
                    self.apply(request);
                    return None;
                }
                self.apply(request);
                let answer = self.answer(request);
                if self.pause(most / 4, connection).await {
                    return None;
                }
                connection.write_all(&answer).await.ok()
            }
            Fate::ReplyLost => {
                self.apply(request);
                None
            }
            Fate::Silent => {
                self.apply(request);
                closed(connection).await;
                None
            }
            Fate::ResetAndLate => {
                self.apply_later(request);
                None
            }
            Fate::Late => {
                closed(connection).await;
                self.apply_later(request);
                None
            }
            Fate::RefusedAndLate => {
                self.apply_later(request);
                connection.write_all(REFUSED).await.ok()
            }
            Fate::Refused => connection.write_all(REFUSED).await.ok(),
            Fate::Reset => None,
            Fate::Frozen => {
                closed(connection).await;
                None
            }
        }
    }

    fn fate(&self) -> Fate {
        let chance = &mut *self.chance.borrow_mut();
        if chance.random_range(0..100) >= self.fault_rate {
            return Fate::Served;
        }
        match chance.random_range(0..9) {
            0 => Fate::Slow,
            1 => Fate::ReplyLost,
            2 => Fate::Silent,
            3 => Fate::ResetAndLate,
            4 => Fate::Late,
            5 => Fate::RefusedAndLate,
            6 => Fate::Refused,
            7 => Fate::Reset,
            _ => Fate::Frozen,
        }
    }

    fn up_to(&self, most: Duration) -> Duration {
        self.chance.borrow_mut().random_range(Duration::ZERO..=most)
    }

    /// Whether the other side closed the connection during a pause.
    async fn pause(&self, most: Duration, connection: &mut Connection) -> bool {
        timeout(self.up_to(most), closed(connection)).await.is_ok()
    }

    fn apply(&self, request: &Request) {
        if let Some(values) = &request.values {
            self.sectors.borrow_mut()[request.sectors.clone()].copy_from_slice(values);
        }
    }

    fn apply_later(self: &Rc<Self>, request: &Request) {
        let (server, pause) = (Rc::clone(self), self.up_to(self.lateness));
        let Request { sectors, values } = request;
        let request = Request { sectors: sectors.clone(), values: values.clone() };
        spawn_local(async move {
            sleep(pause).await;
            server.apply(&request);
        });
    }

    fn answer(&self, request: &Request) -> Vec<u8> {
        if request.values.is_some() {
            return DONE.to_vec();
        }
        let len = request.sectors.len() * SECTOR_BYTES;
        let mut answer =
            format!("HTTP/1.1 206 Partial Content\r\ncontent-length: {len}\r\n\r\n").into_bytes();
        let sectors = self.sectors.borrow();
        answer.extend(bytes(&sectors[request.sectors.clone()]));
        answer
    }
}

/// Waits until the other side has closed the connection; it sends nothing before an answer.
async fn closed(connection: &mut Connection) {
    let read = connection.read(&mut [0; 1]).await;
    assert!(matches!(read, Ok(0) | Err(_)), "a request was sent before the answer to the last one");
}

/// The next request; `None` if there is none, or not all of it.
async fn receive(connection: &mut Connection) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let read = connection.read_until(b'\n', &mut head).await;
        read.ok().filter(|bytes| *bytes > 0)?;
    }
    let head = String::from_utf8(head).expect("text").to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let range = header("range: bytes=").expect("a range");
    let (first, last) = range.split_once('-').expect("FIRST-LAST");
    let sector = |byte: usize| byte / SECTOR_BYTES;
    let number = |text: &str| text.trim().parse::<usize>().expect("a number");
    let sectors = sector(number(first))..sector(number(last) + 1);
    if head.starts_with("get ") {
        return Some(Request { sectors, values: None });
    }
    let len = number(header("content-length: ").expect("a length"));
    assert_eq!(len, sectors.len() * SECTOR_BYTES);
    let mut body = vec![0; len];
    connection.read_exact(&mut body).await.ok()?;
    Some(Request { sectors, values: Some(values(&body)) })
}

/// The bytes of sectors that hold these values.
pub(super) fn bytes(values: &[u64]) -> Vec<u8> {
    let words = values.iter().flat_map(|value| [value.to_le_bytes(); SECTOR_BYTES / 8]);
    words.flatten().collect()
}

/// What sectors hold.
pub(super) fn values(bytes: &[u8]) -> Vec<u64> {
    let value = |sector: &[u8]| {
        let (first, rest) = sector.split_first_chunk::<8>().expect("a whole sector");
        let whole = rest.chunks(8).all(|word| word == first);
        if whole {
            u64::from_le_bytes(*first)
        } else {
            TORN
        }
    };
    bytes.chunks(SECTOR_BYTES).map(value).collect()
}
