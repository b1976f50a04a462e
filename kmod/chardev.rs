// SPDX-License-Identifier: GPL-2.0-only
//! `/dev/srb-control`: where the agent comes in.
//!
//! A file is fresh, then a session's or a worker's for good. On a fresh one an agent may stand by:
//! read the configuration, and poll(2) until it can begin a session. Everything that arrives here
//! is hostile until checked.

use crate::{
    ffi::{
        chardev::ControlFile,
        errors::{EPROTO, ESHUTDOWN, ESTALE},
        machine,
        mm::{AddressSpace, NewMapping},
        process,
        wait::Waiting,
    },
    log, params,
    proto::{
        control::{
            ActiveUrl, Config, DeviceInfo, Enter, Hello, Join, ACTIVE_URL, CONFIG, DEVICE, ENTER,
            HELLO, HELLO_TAKEOVER, JOIN, URLS_CAPACITY,
        },
        layout::{Mapping, ABI_VERSION, DATA, MAGIC},
    },
    registry,
    session::{self, Session, TakingOver},
    urls,
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc, SetOnce,
    },
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice},
};

/// An argument of an ioctl, with a layout of its own so that the kernel's traits can be implemented
/// for it.
#[repr(transparent)]
struct Argument<T>(T);

// SAFETY: proto's arguments are integers and arrays of them, and any bits make such.
unsafe impl<T: IoctlArgument> FromBytes for Argument<T> {}
// SAFETY: proto's arguments have no padding: their sizes are the sums of their fields', as proto
// asserts.
unsafe impl<T: IoctlArgument> AsBytes for Argument<T> {}

/// The structs that ioctls take.
///
/// # Safety
/// `repr(C)`, integers and arrays of them alone, no padding.
unsafe trait IoctlArgument: Copy {}
// SAFETY: Integers of 32 and 64 bits alone.
unsafe impl IoctlArgument for Hello {}
// SAFETY: Integers of 32 and 64 bits alone.
unsafe impl IoctlArgument for Join {}
// SAFETY: Integers of 32 and 64 bits alone.
unsafe impl IoctlArgument for Config {}
// SAFETY: Integers of 32 and 64 bits, and arrays of bytes.
unsafe impl IoctlArgument for DeviceInfo {}
// SAFETY: Integers of 32 and 64 bits alone.
unsafe impl IoctlArgument for ActiveUrl {}

fn read<T: IoctlArgument>(from: UserPtr) -> Result<T> {
    let mut reader = UserSlice::new(from, size_of::<T>()).reader();
    Ok(reader.read::<Argument<T>>()?.0)
}

fn write<T: IoctlArgument>(to: UserPtr, value: T) -> Result {
    UserSlice::new(to, size_of::<T>()).writer().write(&Argument(value))
}

enum Role {
    Session(Arc<Session>),
    Worker(Arc<Session>, u32),
}

/// What an open file is.
pub(crate) struct Handle {
    space: AddressSpace,
    role: SetOnce<Role>,
    /// Since it was polled, while it is fresh.
    stands_by: Atomic<bool>,
}

/// Files by which agents stand by.
static STANDBYS: Atomic<u32> = Atomic::new(0);

/// How many agents stand by.
pub(crate) fn standbys() -> u32 {
    STANDBYS.load(Relaxed)
}

impl ControlFile for Handle {
    fn open(space: AddressSpace) -> Self {
        Self { space, role: SetOnce::new(), stands_by: Atomic::new(false) }
    }

    /// If it is the agent on its way out, others may still hold the file (a forked child), but
    /// nobody serves it any more.
    fn flush(&self, exiting: bool) {
        if let Some(Role::Session(session)) = self.role.as_ref() {
            if exiting && session.peer().is_caller() {
                session.end("its process has ended");
            }
        }
    }

    fn release(&self) {
        self.stand_by_no_more();
        if let Some(Role::Session(session)) = self.role.as_ref() {
            session.end("it has closed the control device");
            if session.peer().is_caller() && !process::current_is_exiting() {
                process::stays_awake(false);
            }
        }
    }

    fn map(&self, new: NewMapping<'_>) -> Result {
        let session = self.session()?;
        if session.has_ended() {
            return Err(ESHUTDOWN);
        }
        let mapping = Mapping::at(new.offset()).ok_or(EINVAL)?;
        // By another node of the device it would be mapped where `revoke` does not look.
        if new.bytes() > mapping.bytes() || session.peer().space() != self.space {
            return Err(EINVAL);
        }
        new.serve_from(session.memory_at(mapping)?.view())
    }

    fn poll(&self, waiting: Waiting<'_>) -> Result<bool> {
        if self.role.as_ref().is_none() {
            self.stand_by();
            if let Some(vacancy) = session::vacancy() {
                // SAFETY: The module has it until its exit, and each file holds the module.
                unsafe { waiting.on(vacancy.wakeup()) };
            }
            return Ok(session::is_vacant());
        }
        let (session, number) = self.worker()?;
        let worker = session.worker(number)?;
        // SAFETY: The session's, which is this file's until its release.
        unsafe { waiting.on(worker.wakeup()) };
        if session.has_ended() {
            return Err(ESHUTDOWN);
        }
        Ok(worker.is_wanted())
    }

    fn ioctl(&self, cmd: u32, arg: u64, at: UserPtr) -> Result<usize> {
        match cmd {
            ENTER => {
                let (session, number) = self.worker()?;
                // A thread of an agent that stood by is older than the session.
                process::stays_awake(true);
                let entered = session.enter(number, Enter::from_bits(arg).ok_or(EINVAL)?);
                if session.has_ended() {
                    // Nobody waits for this thread any more.
                    process::stays_awake(false);
                }
                return entered;
            }
            HELLO => self.hello(at)?,
            JOIN => self.join(at)?,
            CONFIG => self.config(at)?,
            DEVICE => self.device(at)?,
            ACTIVE_URL => self.active_url(at)?,
            _ => return Err(ENOTTY),
        }
        Ok(0)
    }
}

impl Handle {
    fn stand_by(&self) {
        if !self.stands_by.xchg(true, Full) {
            STANDBYS.fetch_add(1, Relaxed);
        }
        // It may have become something else meanwhile, and have found nothing to undo.
        if self.role.as_ref().is_some() {
            self.stand_by_no_more();
        }
    }

    fn stand_by_no_more(&self) {
        if self.stands_by.xchg(false, Full) {
            STANDBYS.fetch_sub(1, Relaxed);
        }
    }

    fn session(&self) -> Result<&Arc<Session>> {
        match self.role.as_ref() {
            Some(Role::Session(session) | Role::Worker(session, _)) => Ok(session),
            None => Err(EINVAL),
        }
    }

    /// The session, for what is asked on its own file.
    fn owned_session(&self) -> Result<&Arc<Session>> {
        match self.role.as_ref() {
            Some(Role::Session(session)) if session.has_ended() => Err(ESHUTDOWN),
            Some(Role::Session(session)) => Ok(session),
            _ => Err(EINVAL),
        }
    }

    fn worker(&self) -> Result<(&Arc<Session>, u32)> {
        match self.role.as_ref() {
            Some(Role::Worker(session, number)) => Ok((session, *number)),
            _ => Err(EINVAL),
        }
    }

    fn hello(&self, at: UserPtr) -> Result {
        let mut hello: Hello = read(at)?;
        if hello.magic != MAGIC {
            return Err(EINVAL);
        }
        let theirs = hello.abi_version;
        hello.abi_version = ABI_VERSION;
        if theirs != ABI_VERSION {
            log::error!(
                "an agent of ABI {theirs} was refused: this module has {}; install matching ones\n",
                ABI_VERSION
            );
            write(at, hello)?;
            return Err(EPROTO);
        }
        let known = hello.flags & !HELLO_TAKEOVER == 0 && hello.reserved == 0;
        if !known || self.role.as_ref().is_some() {
            return Err(EINVAL);
        }
        // Those that stand by are not to begin between the end of the old one and this one.
        let turn = (hello.flags & HELLO_TAKEOVER != 0).then(TakingOver::new);
        let old = session::session();
        if let (Some(_), Some(old)) = (&turn, &old) {
            log::info!("session {}: another agent takes over\n", old.id());
            old.make_way()?;
        }
        hello.features = 0;
        hello.session = old.as_ref().map_or(0, |old| old.id());
        hello.queues = machine::queues();
        hello.depth = DATA.depth;
        hello.window_bytes = DATA.window_bytes;
        let session = match Session::begin(self.space, turn.as_ref()) {
            Ok(session) => session,
            Err(error) => {
                // Who is to stand by can see what it has to prepare for, and for whom.
                let took_over = old.is_some_and(|old| old.took_over());
                hello.flags = if took_over { HELLO_TAKEOVER } else { 0 };
                write(at, hello)?;
                return Err(error);
            }
        };
        drop(turn);
        // Before it makes its other threads, which take after this one.
        process::stays_awake(true);
        hello.session = session.id();
        let written = write(at, hello);
        if !self.role.populate(Role::Session(session.clone())) {
            session.end("its file was in use");
            return Err(EINVAL);
        }
        self.stand_by_no_more();
        written
    }

    fn join(&self, at: UserPtr) -> Result {
        let join: Join = read(at)?;
        let session = session::session().ok_or(ESTALE)?;
        if session.id() != join.session || !session.peer().is_caller() {
            return Err(ESTALE);
        }
        if self.role.as_ref().is_some() {
            return Err(EINVAL);
        }
        session.worker(join.worker)?.join()?;
        if !self.role.populate(Role::Worker(session.clone(), join.worker)) {
            session.worker(join.worker)?.leave();
            return Err(EINVAL);
        }
        process::stays_awake(true);
        self.stand_by_no_more();
        Ok(())
    }

    fn config(&self, at: UserPtr) -> Result {
        if self.role.as_ref().is_some() {
            self.owned_session()?;
        }
        let mut config: Config = read(at)?;
        let mut text = KVVec::with_capacity(URLS_CAPACITY, GFP_KERNEL | __GFP_NOWARN)?;
        let mut pushed = Ok(());
        (config.version, config.fit_urls) = urls::for_each(|url| {
            pushed = text
                .extend_from_slice(url.as_str().as_bytes(), GFP_KERNEL)
                .and_then(|()| text.push(b'\n', GFP_KERNEL));
            pushed.is_ok()
        });
        pushed?;
        config.urls_bytes = text.len() as u32;
        config.req_timeout_secs = params::req_timeout_secs();
        config.nb_req_retries = params::nb_req_retries();
        config.server_conn_timeout_secs = params::server_conn_timeout_secs();
        config.thread_pool_size = params::thread_pool_size();
        config.debug = params::debug();
        let fits = text.len() <= config.urls_capacity as usize;
        if fits {
            let buffer = UserPtr::from_addr(config.urls as usize);
            UserSlice::new(buffer, text.len()).writer().write_slice(&text)?;
        }
        write(at, config)?;
        if fits {
            Ok(())
        } else {
            Err(ENOSPC)
        }
    }

    fn device(&self, at: UserPtr) -> Result {
        self.owned_session()?;
        let asked: DeviceInfo = read(at)?;
        let device = registry::device_from(asked.index).ok_or(ENOENT)?;
        let mut info = DeviceInfo {
            index: device.index(),
            queues: machine::queues(),
            attachment: device.attachment(),
            size_bytes: device.size_bytes(),
            policy_secs: device.fate().policy().to_secs(),
            ..DeviceInfo::default()
        };
        fill(&mut info.name, device.name().as_str());
        fill(&mut info.volume, device.volume().as_str());
        write(at, info)
    }

    fn active_url(&self, at: UserPtr) -> Result {
        self.owned_session()?;
        let active: ActiveUrl = read(at)?;
        urls::set_active(active.version, active.index as usize, active.fit_urls)
    }
}

fn fill(field: &mut [u8], text: &str) {
    for (to, from) in field.iter_mut().zip(text.bytes()) {
        *to = from;
    }
}
