// SPDX-License-Identifier: GPL-2.0-only
//! The way from a block device's queues to the pipeline: the module's half of the rings as
//! [`crate::sim`] plays it, and the agent's own workers, on tasks of one thread.

use std::sync::Arc;

use srb_proto::descriptor::Op;
use srb_proto::layout::DATA;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{spawn_local, JoinHandle};

use crate::base::clock::Clock;
use crate::base::failures::Failures;
use crate::kernel::device::Device;
use crate::kernel::ended::Ended;
use crate::kernel::session::{Begun, Entry, Session};
use crate::kernel::worker::{serve, Naps, Order, Shared};
use crate::sim::{Reply, Request, SimModule};
use crate::volume::Repository;

pub(super) const QUEUES: u32 = 2;
const VOLUME: &str = "v";

/// A module with one device.
pub(super) struct Rings {
    module: SimModule,
    disk: u32,
}

/// The workers of an agent.
pub(super) struct Serving {
    tasks: Vec<JoinHandle<Result<(), Ended>>>,
    orders: Vec<mpsc::UnboundedSender<Order>>,
}

impl Rings {
    pub(super) fn new(size_bytes: u64) -> Self {
        let module = SimModule::new(QUEUES);
        let disk = module.add_device("disk1", VOLUME, size_bytes).expect("memory");
        Self { module, disk }
    }

    /// Begins a session, and serves the device with the workers of `repository`.
    pub(super) fn serve(&self, repository: &Arc<Repository>) -> Serving {
        let begun = Session::begin(&self.module, Entry::IfFree).expect("nobody else is there");
        let Begun { session, data, .. } = begun;
        let info = session.device(self.disk).expect("it lives").expect("the device");
        let volume = repository.volume(VOLUME);
        let device = Device::new(&info, DATA.depth as usize, volume, Arc::clone(&session));
        let device = Arc::new(device);
        let shared = Shared {
            repository: Arc::clone(repository),
            failures: Arc::new(Failures::default()),
            clock: Clock::start(),
            poll_usecs: 0,
            heap_bytes: 0,
        };
        let mut serving = Serving { tasks: Vec::new(), orders: Vec::new() };
        for (port, number) in data.into_iter().zip(0..) {
            let (orders, receiver) = mpsc::unbounded_channel();
            let channel = session.channel(self.disk, number).expect("a channel");
            let (device, (done, _)) = (Arc::clone(&device), oneshot::channel());
            let open = Order::Open { device, number, channel, done };
            assert!(orders.send(open).is_ok());
            serving.orders.push(orders);
            serving.tasks.push(spawn_local(serve(port, shared.clone(), receiver, Naps::InRuntime)));
        }
        serving
    }

    /// Kills an agent: its workers stop where they are, its connections are closed, and what it was
    /// given waits for the next one.
    pub(super) fn kill(&self, serving: Serving) {
        for task in serving.tasks {
            assert!(!task.is_finished(), "a worker ended by itself");
            task.abort();
        }
        drop(serving.orders);
        self.module.cut_off();
    }

    /// Asks for a read or, with bytes, a write of so many bytes from a sector, and waits. `None` if
    /// the module forgot it.
    pub(super) async fn ask(
        &self,
        queue: u32,
        sector: usize,
        len: usize,
        bytes: Option<Vec<u8>>,
    ) -> Option<Reply> {
        let (done, reply) = oneshot::channel();
        let op = if bytes.is_some() { Op::Write } else { Op::Read };
        let answer = move |reply| drop(done.send(reply));
        let request = Request::answered_by(op, sector as u64, len as u32, answer);
        let request = match bytes {
            Some(bytes) => request.with_payload(bytes),
            None => request.wanting_bytes(),
        };
        self.module.submit(self.disk, queue, [request]);
        reply.await.ok()
    }

    /// Answers that came for requests which were not in flight.
    pub(super) fn late_completions(&self) -> u64 {
        self.module.late_completions()
    }
}
