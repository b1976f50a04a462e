// SPDX-License-Identifier: GPL-2.0-only
//! A whole machine, Debian with systemd, in which srb's packages are installed: it starts, its
//! services meet what can befall them, and it stops.
//!
//! Each test starts a machine from a copy of one disk, has it do a step ([`steps`]), and looks how
//! long it took to power off after that. The server is on the host, so that it can be away while
//! the machine starts or stops, and its volumes can be looked at afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::faults::server::Server;
use crate::vm::{self, host, Accel, Error, Folders, Job, Options, Stopped};

use power::Kind;

mod power;
pub mod steps;

/// A boot, a step and an end.
const BOUND: Duration = Duration::from_secs(900);
/// The same where a compiler runs in between, which TCG makes slow.
const BOUND_OF_BUILD: Duration = Duration::from_secs(3600);
/// A machine's memory, and that of one where a compiler runs.
const MEMORY_MIB: u64 = 1024;
const MEMORY_OF_BUILD_MIB: u64 = 3072;
/// How long a machine may take to stop that has nothing to wait for; TCG is slow.
const STOPS: Duration = Duration::from_secs(60);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Run {
    /// With the image of a whole machine, and the packages in `deb` of the payload.
    pub folders: Folders,
    /// Where logs go.
    pub results: PathBuf,
    /// The tests with this in their name.
    pub filter: String,
    /// How often each way of stopping is tried.
    pub rounds: u32,
}

/// The machine's disk, and its server.
struct Site<'a> {
    run: &'a Run,
    server: Mutex<Option<Server>>,
    port: u16,
    volumes: PathBuf,
    installed: PathBuf,
}

/// One start of a machine, what it does, and its end.
struct Boot<'a> {
    /// The test's, of which its log has its name.
    name: &'a str,
    /// With its arguments.
    step: &'a [&'a str],
    disk: &'a Path,
    kernel: Kernel,
    memory_mib: u64,
    bound: Duration,
}

/// What a machine starts with.
#[derive(Clone, Copy)]
enum Kernel {
    /// Debian's default, which the image has.
    Default,
    /// The one that [`steps`] installs.
    Later,
}

type Outcome = Result<String, String>;

/// A name, and what the machine does.
type Test<'a> = (&'a str, Box<dyn Fn(&Site<'_>, &str) -> Outcome + 'a>);

fn tests() -> Vec<Test<'static>> {
    let one = |step: &'static [&'static str], server: bool| {
        move |site: &Site<'_>, name: &str| site.boot(name, step, server, STOPS)
    };
    let stop = |kind: &'static Kind| move |site: &Site<'_>, name: &str| site.stops(name, kind);
    vec![
        ("boots::a_mount_of_fstab_comes_back_by_itself", Box::new(one(&["look"], true))),
        ("boots::services_survive_what_befalls_the_agent", Box::new(one(&["services"], true))),
        ("boots::the_next_version_takes_over", Box::new(one(&["next-version"], true))),
        ("boots::purging_leaves_nothing", Box::new(one(&["purge"], true))),
        (
            "boots::without_its_server_the_machine_starts",
            Box::new(|site, name| {
                site.boot(name, &["no-server", &site.port.to_string()], false, STOPS)
            }),
        ),
        ("boots::the_power_goes_off_soon", Box::new(stop(&power::WELL))),
        ("boots::the_power_goes_off_though_the_server_is_away", Box::new(stop(&power::NO_SERVER))),
        ("boots::the_power_goes_off_though_requests_are_stuck", Box::new(stop(&power::STUCK))),
        ("boots::the_power_goes_off_though_agents_are_killed", Box::new(stop(&power::KILLED))),
        ("boots::without_any_agent_it_stops_all_the_same", Box::new(stop(&power::NO_AGENT))),
        (
            "boots::a_later_kernel_is_installed_and_booted",
            Box::new(|site, name| site.later_kernel(name)),
        ),
    ]
}

/// Installs the packages, and runs the tests; returns whether all passed.
///
/// # Errors
/// When the results cannot be written or the server not be started.
pub fn run(run: &Run) -> Result<bool, Error> {
    fs::create_dir_all(&run.results).map_err(host("making the folder of results"))?;
    fs::create_dir_all(&run.folders.runs).map_err(host("making the folder of the runs"))?;
    let volumes = run.folders.runs.join(format!("volumes-{}", std::process::id()));
    let server = Server::start(&volumes)?;
    let site = Site {
        run,
        port: server.port(),
        server: Mutex::new(Some(server)),
        volumes,
        installed: run.folders.runs.join(format!("installed-{}.img", std::process::id())),
    };
    let (mut passed, mut failed) = (0, 0);
    let mut count = |name: &str, outcome: &Outcome| match outcome {
        Ok(figures) => {
            passed += 1;
            println!("test {name} ... ok ({figures})");
        }
        Err(why) => {
            failed += 1;
            println!("test {name} ... FAILED\n{why}");
        }
    };
    let installed = site.install();
    count("boots::packages_install_and_attach_a_volume", &installed);
    if installed.is_ok() {
        for (name, test) in tests().iter().filter(|(name, _)| name.contains(&run.filter)) {
            count(name, &test(&site, name));
        }
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed");
    Ok(failed == 0)
}

impl Site<'_> {
    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the server run, or not.
    fn serve(&self, wanted: bool) -> Result<(), String> {
        let mut server = self.server();
        if !wanted {
            *server = None;
        } else if server.is_none() {
            let again = Server::serve(&self.volumes, self.port);
            *server = Some(again.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    fn install(&self) -> Outcome {
        copy(&self.run.folders.image.join("root.img"), &self.installed)?;
        let port = self.port.to_string();
        let stopped = self.machine(Boot::new("install", &["install", &port], &self.installed))?;
        power_off(stopped, STOPS)
    }

    /// A copy of the disk on which all is installed, for one machine.
    fn disk(&self) -> Result<Disk, String> {
        let disk = self.run.folders.runs.join(format!("boots-{}.img", std::process::id()));
        copy(&self.installed, &disk)?;
        Ok(Disk(disk))
    }

    /// Starts a machine of its own, and does a step; its power must be off within `bound` after
    /// that.
    fn boot(&self, name: &str, step: &[&str], server: bool, bound: Duration) -> Outcome {
        self.serve(server)?;
        let stopped = self.machine(Boot::new(name, step, &self.disk()?.0))?;
        let mut figures = self.figures(name);
        figures.push(power_off(stopped, bound)?);
        Ok(figures.join(", "))
    }

    /// A machine that gets a later kernel, and starts again with it.
    fn later_kernel(&self, name: &str) -> Outcome {
        self.serve(true)?;
        let disk = self.disk()?;
        let release = self.run.folders.image.join("later/release");
        let text = fs::read_to_string(&release);
        let text = text.map_err(|error| format!("{}: {error}", release.display()))?;
        let step = ["later-kernel", text.trim()];
        let boot = Boot::new(name, &step, &disk.0);
        let boot = Boot { memory_mib: MEMORY_OF_BUILD_MIB, bound: BOUND_OF_BUILD, ..boot };
        power_off(self.machine(boot)?, STOPS)?;
        let mut figures = self.figures(name);
        let step = ["on-later-kernel", text.trim()];
        let boot = Boot::new(name, &step, &disk.0);
        let stopped = self.machine(Boot { kernel: Kernel::Later, ..boot })?;
        figures.extend(self.figures(name));
        figures.push(power_off(stopped, STOPS)?);
        Ok(figures.join(", "))
    }

    /// What the last step has measured.
    fn figures(&self, name: &str) -> Vec<String> {
        let said = fs::read_to_string(self.log(name)).unwrap_or_default();
        let figures = said.lines().filter_map(|line| line.strip_prefix(steps::FIGURE));
        figures.map(str::to_owned).collect()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.run.results.join(format!("{}.log", name.replace("::", "-")))
    }

    /// Runs the machine; does what the step wants of the server.
    fn machine(&self, boot: Boot<'_>) -> Result<Stopped, String> {
        let Boot { name, step, disk, kernel, memory_mib, bound } = boot;
        let log = self.log(name);
        let mut folders = self.run.folders.clone();
        if matches!(kernel, Kernel::Later) {
            folders.image.push("later");
        }
        let command = ["/srb/bin/srb-guest-tests", steps::WORD];
        let command = command.iter().chain(step).map(ToString::to_string);
        let options = Options {
            folders,
            root_disk: Some(disk.to_owned()),
            console: log.with_extension("console"),
            memory_mib,
            cpus: 2,
            accel: Accel::Auto,
            disk_bytes: None,
            timeout: Some(bound),
            network: true,
            copy_output: Some(log.clone()),
            job: Job::Run(command.collect()),
        };
        let heed = || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let order = said
                .lines()
                .rev()
                .find(|line| [steps::END_SERVER, steps::START_SERVER].contains(line));
            if let Some(order) = order {
                // If it cannot be started, the guest says what it misses.
                let _ = self.serve(order == steps::START_SERVER);
            }
            false
        };
        // What the last run said is none of this one's.
        let _ = fs::remove_file(&log);
        let stopped = vm::run_to_the_end(&options, &heed).map_err(|error| error.to_string())?;
        let stopped = stopped.ok_or("the machine was cut off")?;
        if stopped.status == 0 {
            return Ok(stopped);
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        Err(format!("{}: exit status {}\n{said}", step.join(" "), stopped.status))
    }
}

impl<'a> Boot<'a> {
    fn new(name: &'a str, step: &'a [&'a str], disk: &'a Path) -> Self {
        let (kernel, memory_mib, bound) = (Kernel::Default, MEMORY_MIB, BOUND);
        Self { name, step, disk, kernel, memory_mib, bound }
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        *self.server() = None;
        // Nobody needs them; the next run has its own.
        let _ = fs::remove_file(&self.installed);
        let _ = fs::remove_dir_all(&self.volumes);
    }
}

/// A disk that goes with its machine.
struct Disk(PathBuf);

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing is lost if it stays.
        let _ = fs::remove_file(&self.0);
    }
}

/// How long it took, in words.
fn power_off(stopped: Stopped, bound: Duration) -> Outcome {
    off_after(stopped, bound).map(|took| format!("off after {:.1} s", took.as_secs_f64()))
}

/// How long it took, if not too long.
fn off_after(stopped: Stopped, bound: Duration) -> Result<Duration, String> {
    match stopped.power_off {
        Some(took) if took <= bound => Ok(took),
        Some(took) => Err(format!("the power went off after {took:?}, more than {bound:?}")),
        None => Err("the power did not go off".to_owned()),
    }
}

/// Copies a disk, its holes as holes.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let status = Command::new("cp")
        .args(["--reflink=auto", "--sparse=always", "--"])
        .args([from, to])
        .status()
        .map_err(|error| format!("cp: {error}"))?;
    status.success().then_some(()).ok_or_else(|| format!("cannot copy {}", from.display()))
}
