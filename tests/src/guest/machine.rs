// SPDX-License-Identifier: GPL-2.0-only
//! The machine of a test: module loaded, playgrounds and agent running, URLs configured; and what a
//! user does with it.
//!
//! All of it ends with its owner: a [`Device`] is detached, the [`Machine`] removes its URLs and
//! ends the agent and the playgrounds. The module is unloaded by the check after the test
//! ([`super::clean`]).

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;

use super::process::{self, Daemon};
use super::sysfs;
use super::wait::{wait_for, wait_until};
use super::{Failed, TestResult};

/// The module that is tested.
const MODULE: &str = "/srb/srb.ko";
/// The agent's socket.
const AGENT_SOCKET: &str = "/run/srb/agent.sock";
/// The port of the first playground; the next ones follow.
const FIRST_PORT: u16 = 8080;
/// How long a daemon may take to be ready: the VM may be slow, not its programs.
const READY: Duration = Duration::from_secs(20);
/// How long a new agent may take for each device that is attached; on a busy host a hundred take
/// three seconds.
const ADOPTED: Duration = Duration::from_millis(100);
/// The bound of a command given to [`Machine::sh`].
const SHELL: Duration = Duration::from_secs(90);

/// What a [`Machine`] is to be made of.
#[derive(Debug, Clone)]
pub struct MachineBuilder {
    parameters: Vec<String>,
    playgrounds: u16,
    playground_args: Vec<String>,
    data: PathBuf,
    agent: bool,
    agent_args: Vec<String>,
    urls: bool,
}

impl MachineBuilder {
    /// Loads the module with `name=value`; may be repeated.
    #[must_use]
    pub fn parameter(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.parameters.push(format!("{name}={value}"));
        self
    }

    /// Starts this many playgrounds instead of one, all on the same data: paths to one repository.
    #[must_use]
    pub fn playgrounds(mut self, count: u16) -> Self {
        self.playgrounds = count;
        self
    }

    /// Gives every playground one more argument.
    #[must_use]
    pub fn playground_arg(mut self, argument: impl Into<String>) -> Self {
        self.playground_args.push(argument.into());
        self
    }

    /// Keeps the volumes in this folder (`/scratch/...` is the scratch disk) instead of one in
    /// memory.
    #[must_use]
    pub fn data(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data = folder.into();
        self
    }

    /// Starts no agent.
    #[must_use]
    pub fn without_agent(mut self) -> Self {
        self.agent = false;
        self
    }

    /// Gives the agent one more argument.
    #[must_use]
    pub fn agent_arg(mut self, argument: impl Into<String>) -> Self {
        self.agent_args.push(argument.into());
        self
    }

    /// Configures no URL.
    #[must_use]
    pub fn without_urls(mut self) -> Self {
        self.urls = false;
        self
    }

    /// Makes the machine.
    ///
    /// # Errors When the module does not load, or a daemon is not ready in time; the error has what
    /// they said.
    pub fn start(self) -> TestResult<Machine> {
        load_module(&self.parameters)?;
        let mut machine =
            Machine { playgrounds: Vec::new(), agent: None, agent_args: self.agent_args };
        fresh_folder(&self.data)?;
        for index in 0..self.playgrounds {
            let port = FIRST_PORT.saturating_add(index);
            machine.playgrounds.push(Playground::new(port, &self.data, &self.playground_args));
        }
        for playground in &mut machine.playgrounds {
            playground.start()?;
        }
        if self.agent {
            machine.start_agent()?;
        }
        if self.urls && !machine.playgrounds.is_empty() {
            let urls: Vec<String> = machine.playgrounds.iter().map(Playground::url).collect();
            sysfs::command("add_urls", urls.join(","))
                .map_err(|errno| format!("add_urls {urls:?}: {errno}"))?;
        }
        Ok(machine)
    }
}

fn fresh_folder(folder: &Path) -> TestResult {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// Loads the module with these parameters (`name=value`).
///
/// # Errors
/// What insmod said.
pub fn load_module(parameters: &[String]) -> TestResult {
    let mut command = Command::new("insmod");
    process::run(command.arg(MODULE).args(parameters), SHELL)?.success().map(drop)
}

/// A machine with srb running.
#[derive(Debug)]
pub struct Machine {
    playgrounds: Vec<Playground>,
    agent: Option<Daemon>,
    agent_args: Vec<String>,
}

impl Machine {
    /// The usual machine: one playground with its data in memory, the agent, the playground's URL.
    #[must_use]
    pub fn builder() -> MachineBuilder {
        MachineBuilder {
            parameters: Vec::new(),
            playgrounds: 1,
            playground_args: Vec::new(),
            data: PathBuf::from("/tmp/playground"),
            agent: true,
            agent_args: Vec::new(),
            urls: true,
        }
    }

    /// The playground of this index, from 0.
    ///
    /// # Errors
    /// When there are fewer.
    pub fn playground(&mut self, index: usize) -> TestResult<&mut Playground> {
        self.playgrounds
            .get_mut(index)
            .ok_or_else(|| Failed::from(format!("no playground {index}")))
    }

    /// The running agent.
    ///
    /// # Errors
    /// When none was started, or it was taken away.
    pub fn agent(&mut self) -> TestResult<&mut Daemon> {
        self.agent.as_mut().ok_or_else(|| Failed::from("no agent was started"))
    }

    /// The running agent, which is the caller's to end from now on.
    ///
    /// # Errors
    /// As [`Machine::agent`].
    pub fn take_agent(&mut self) -> TestResult<Daemon> {
        self.agent.take().ok_or_else(|| Failed::from("no agent was started"))
    }

    /// Starts the agent and waits until the module has it.
    ///
    /// # Errors
    /// When it is not ready in time; the error has its log.
    pub fn start_agent(&mut self) -> TestResult {
        self.agent = Some(self.spawn_agent(&[])?);
        // A listing needs a server, so only without one it tells about the agent alone.
        if sysfs::urls().is_empty() {
            let file = Path::new(sysfs::CLASS).join("volumes");
            wait_until("the module has its agent", READY, || {
                sysfs::read(&file) != Err(Errno::ENOTCONN)
            })?;
        }
        Ok(())
    }

    /// Starts another agent that takes over, and returns the old one, which is about to end.
    ///
    /// # Errors
    /// When the new one is not ready in time; the error has its log.
    pub fn take_over(&mut self) -> TestResult<Daemon> {
        let old = self.agent.take().ok_or("no agent to take over from")?;
        // Its socket must not be taken for the new one's.
        let _ = std::fs::remove_file(AGENT_SOCKET);
        self.agent = Some(self.spawn_agent(&["--takeover"])?);
        Ok(old)
    }

    /// Starts an agent that stands by, and waits until it does.
    ///
    /// # Errors
    /// When it does not in time; the error has its log.
    pub fn start_standby(&self) -> TestResult<Daemon> {
        self.start_standby_with(|_| {})
    }

    /// As [`Self::start_standby`], with a change of its command.
    ///
    /// # Errors
    /// As there.
    pub fn start_standby_with(&self, change: impl FnOnce(&mut Command)) -> TestResult<Daemon> {
        let before = sysfs::standbys()?;
        let mut command = Command::new("srb-agent");
        command.args(&self.agent_args).arg("--standby");
        change(&mut command);
        let mut daemon = Daemon::start("srb-standby", &mut command)?;
        let ready = wait_for("the agent stands by", READY, || {
            if let Some(status) = daemon.ended()? {
                return Err(Failed::from(format!("the standby ended with {status}")));
            }
            Ok((sysfs::standbys()? > before).then_some(()))
        });
        ready.map_err(|why| format!("{}\n{}", message(&why), daemon.log()))?;
        Ok(daemon)
    }

    /// Kills the agent; one that stood by is the agent from now on.
    ///
    /// # Errors
    /// When no agent runs, or it does not die.
    pub fn kill_agent_for(&mut self, standby: Daemon) -> TestResult {
        self.agent.replace(standby).ok_or("no agent to kill")?.kill()
    }

    fn spawn_agent(&self, more: &[&str]) -> TestResult<Daemon> {
        let mut command = Command::new("srb-agent");
        let mut daemon = Daemon::start("srb-agent", command.args(&self.agent_args).args(more))?;
        // It serves each of them before it says that it is ready.
        let devices = u32::try_from(sysfs::devices().len()).unwrap_or(u32::MAX);
        let bound = READY.saturating_add(ADOPTED.saturating_mul(devices));
        let ready = wait_for("the agent is ready", bound, || {
            if let Some(status) = daemon.ended()? {
                return Err(Failed::from(format!("the agent ended with {status}")));
            }
            Ok(UnixStream::connect(AGENT_SOCKET).is_ok().then_some(()))
        });
        ready.map_err(|why| format!("{}\n{}", message(&why), daemon.log()))?;
        Ok(daemon)
    }

    /// Takes the agent away with SIGKILL: a crash.
    ///
    /// # Errors
    /// When none runs, or it does not die.
    pub fn kill_agent(&mut self) -> TestResult {
        self.agent.take().ok_or("no agent to kill")?.kill()
    }

    /// Ends the agent as an operator would.
    ///
    /// # Errors
    /// When none runs, or it does not end well.
    pub fn stop_agent(&mut self) -> TestResult {
        self.agent.take().ok_or("no agent to stop")?.terminate()
    }

    /// Creates a volume: `NAME SIZE`.
    ///
    /// # Errors
    /// The command's errno, which [`Failed`] names; use [`sysfs::command`] to look at it.
    pub fn create(&self, volume: &str, size: &str) -> TestResult {
        command("create", &format!("{volume} {size}"))
    }

    /// Extends a volume to a size.
    ///
    /// # Errors
    /// As [`Machine::create`].
    pub fn extend(&self, volume: &str, size: &str) -> TestResult {
        command("extend", &format!("{volume} {size}"))
    }

    /// Destroys a volume.
    ///
    /// # Errors
    /// As [`Machine::create`].
    pub fn destroy(&self, volume: &str) -> TestResult {
        command("destroy", volume)
    }

    /// Attaches a volume and waits for its node in /dev.
    ///
    /// # Errors
    /// As [`Machine::create`]; or there is no node in time.
    pub fn attach(&self, volume: &str, name: &str) -> TestResult<Device> {
        command("attach", &format!("{volume} {name}"))?;
        let device = Device { name: name.to_owned(), attached: true };
        wait_until(&format!("/dev/{name} is there"), READY, || device.path().exists())?;
        Ok(device)
    }

    /// Runs a line of shell that must succeed within 90 s; returns its stdout.
    ///
    /// # Errors
    /// When it fails or does not end in time.
    pub fn sh(&self, line: &str) -> TestResult<String> {
        process::sh(line, SHELL)?.success()
    }
}

fn command(file: &str, words: &str) -> TestResult {
    sysfs::command(file, words).map_err(|errno| Failed::from(format!("{file} {words}: {errno}")))
}

/// The text of a failure.
pub(super) fn message(failed: &Failed) -> String {
    failed.message().unwrap_or("failed").to_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        let urls = sysfs::urls();
        if !urls.is_empty() {
            // URLs that do not go are found by the check after the test.
            let _ = sysfs::command("remove_urls", urls.join(","));
        }
    }
}

/// A playground: a REST server on a port of its own.
#[derive(Debug)]
pub struct Playground {
    port: u16,
    data: PathBuf,
    args: Vec<String>,
    daemon: Option<Daemon>,
}

impl Playground {
    /// A playground that does not run yet.
    #[must_use]
    pub fn new(port: u16, data: &Path, args: &[String]) -> Self {
        Self { port, data: data.to_owned(), args: args.to_vec(), daemon: None }
    }

    /// Its URL, to be added.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// The folder of its volumes.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it is not ready in time; the error has its log.
    pub fn start(&mut self) -> TestResult {
        let mut command = Command::new("srb-playground");
        command.arg("--port").arg(self.port.to_string()).arg("--datapath").arg(&self.data);
        let name = format!("srb-playground-{}", self.port);
        let daemon = Daemon::start(&name, command.args(&self.args))?;
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let ready = wait_until("the playground listens", READY, || {
            TcpStream::connect_timeout(&address, READY).is_ok()
        });
        ready.map_err(|why| format!("{}\n{}", message(&why), daemon.log()))?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Its process, to be stopped and continued by signals.
    ///
    /// # Errors
    /// When it does not run.
    pub fn daemon(&mut self) -> TestResult<&mut Daemon> {
        self.daemon.as_mut().ok_or_else(|| Failed::from("the playground does not run"))
    }

    /// Kills it: a server that is gone. Its data stays.
    ///
    /// # Errors
    /// When it does not run, or does not die.
    pub fn kill(&mut self) -> TestResult {
        self.daemon.take().ok_or("no playground to kill")?.kill()
    }
}

/// An attached device; detached when dropped.
#[derive(Debug)]
pub struct Device {
    name: String,
    attached: bool,
}

impl Device {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// One of its files below `/sys/block`.
    #[must_use]
    pub fn sysfs(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(&self.name).join(file)
    }

    /// Its size in bytes, as the kernel has it.
    ///
    /// # Errors
    /// When it is gone.
    pub fn size_bytes(&self) -> TestResult<u64> {
        let sectors: u64 = sysfs::read(self.sysfs("size"))?.trim().parse()?;
        Ok(sectors.saturating_mul(512))
    }

    /// Mounts it on a new folder below /mnt; the mount ends with its owner.
    ///
    /// # Errors
    /// What mount said.
    pub fn mount(&self) -> TestResult<Mount> {
        Mount::new(&self.path(), &Path::new("/mnt").join(&self.name))
    }

    /// Detaches it.
    ///
    /// # Errors
    /// The errno; the device is then still there, and its owner no longer tries to detach it.
    pub fn detach(mut self) -> Result<(), Errno> {
        self.attached = false;
        sysfs::command("detach", &self.name)
    }

    /// Detaches it, whoever has it open.
    ///
    /// # Errors
    /// As [`Device::detach`].
    pub fn detach_by_force(mut self) -> Result<(), Errno> {
        self.attached = false;
        sysfs::command("detach", format!("{} force", self.name))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.attached {
            // A device that does not go is found by the check after the test.
            let _ = sysfs::command("detach", &self.name);
        }
    }
}

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Mount(Option<PathBuf>);

impl Mount {
    /// Mounts `device` on `folder`, which is made.
    ///
    /// # Errors
    /// What mount said.
    pub fn new(device: &Path, folder: &Path) -> TestResult<Self> {
        fs::create_dir_all(folder)?;
        process::run(Command::new("mount").arg(device).arg(folder), SHELL)?.success()?;
        Ok(Self(Some(folder.to_owned())))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or_else(|| Path::new("/"))
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// What umount said.
    pub fn unmount(mut self) -> TestResult {
        let folder = self.0.take().ok_or("not mounted")?;
        process::run(Command::new("umount").arg(folder), SHELL)?.success().map(drop)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take() {
            // A mount that does not go keeps its device, which the check after the test finds.
            let _ = process::run(Command::new("umount").arg(folder), SHELL);
        }
    }
}
