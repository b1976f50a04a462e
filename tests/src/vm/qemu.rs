// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's command line, and its life: it dies with this process, and at the latest with its
//! [`Qemu`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::rundir::RunDir;
use super::{host, Accel, Error, Job, Options};

/// The program's name, to be found in PATH.
pub(super) const PROGRAM: &str = "qemu-system-x86_64";

/// A running QEMU, and the thread that copies what the guest's command prints.
pub(super) struct Qemu {
    child: Child,
    output: Option<JoinHandle<()>>,
}

/// The error for a QEMU that cannot be started.
pub(super) fn missing(error: io::Error) -> Error {
    Error::Tool(format!("{PROGRAM}: {error}: install the package qemu-system-x86"))
}

/// Makes the kernel end the child when this process ends, even if killed.
pub(crate) fn die_with_us(command: &mut Command) {
    // SAFETY: between fork and exec, the closure only makes one system call.
    unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) };
}

impl Qemu {
    /// Starts the VM; its command's output is copied to stdout as it comes.
    pub(super) fn start(options: &Options, accel: Accel, dir: &RunDir) -> Result<Self, Error> {
        if let Some(bytes) = options.disk_bytes {
            let disk = File::create(dir.path("scratch.img")).map_err(host("making the disk"))?;
            disk.set_len(bytes).map_err(host("sizing the scratch disk"))?;
        }
        let shell = options.job == Job::Shell;
        let mut command = Command::new(PROGRAM);
        command.args(arguments(options, accel, dir));
        if !shell {
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            // Ctrl-C is for the launcher, which ends QEMU when it has cleaned up.
            command.process_group(0);
        }
        die_with_us(&mut command);
        let mut child = command.spawn().map_err(missing)?;
        let copy = options.copy_output.as_ref().map(File::create).transpose();
        let copy = copy.map_err(host("making the copy of the output"))?;
        let output = child.stdout.take().map(|from| {
            std::thread::spawn(move || {
                // A reader of ours that went away is no reason to stop the run.
                let _ = pass_on(from, copy);
            })
        });
        Ok(Self { child, output })
    }

    /// Whether QEMU still runs.
    pub(super) fn is_alive(&mut self) -> Result<bool, Error> {
        let ended = self.child.try_wait().map_err(host("waiting for QEMU"))?;
        Ok(ended.is_none())
    }

    /// Ends QEMU, and waits for the last of the output.
    pub(super) fn stop(&mut self) {
        // It may have ended by itself, and then there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(copier) = self.output.take() {
            let _ = copier.join();
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Copies what the guest's command prints to stdout, and to a file, as it comes.
fn pass_on(mut from: impl Read, mut copy: Option<File>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = from.read(&mut buffer)?;
        let Some(text) = buffer.get(..bytes).filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        if let Some(file) = &mut copy {
            file.write_all(text)?;
        }
        // Even if nobody reads it any more, the copy is to be whole.
        let _ = io::stdout().write_all(text).and_then(|()| io::stdout().flush());
    }
}

/// A command line that grows.
struct Arguments(Vec<OsString>);

impl Arguments {
    fn plain(&mut self, words: &[&str]) {
        self.0.extend(words.iter().map(OsString::from));
    }

    /// An option whose value ends in a path; QEMU reads a doubled comma as one.
    fn path(&mut self, option: &str, before: &str, path: &Path, after: &str) {
        let path = path.display().to_string().replace(',', ",,");
        self.plain(&[option, &format!("{before}{path}{after}")]);
    }

    fn disk(&mut self, id: &str, path: &Path, after: &str) {
        self.path("-drive", &format!("if=none,id={id},format=raw,file="), path, after);
        self.plain(&["-device", &format!("virtio-blk-pci,drive={id},serial={id}")]);
    }
}

fn arguments(options: &Options, accel: Accel, dir: &RunDir) -> Vec<OsString> {
    let mut list = Arguments(Vec::new());
    list.plain(&["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none"]);
    list.plain(&["-no-reboot", "-m", &options.memory_mib.to_string()]);
    list.plain(&["-smp", &processors(options)]);
    list.plain(accel.arguments());
    list.0.push("-kernel".into());
    list.0.push(options.folders.image.join("vmlinuz").into());
    list.0.push("-initrd".into());
    list.0.push(options.folders.image.join("initrd.img").into());
    list.plain(&["-append", &kernel_command_line(options)]);
    // The guest names them in this order: vda, vdb, vdc.
    match &options.root_disk {
        Some(disk) => list.disk("root", disk, ",cache=unsafe"),
        None => list.disk("root", &options.folders.image.join("root.img"), ",readonly=on"),
    }
    list.disk("payload", &dir.path("payload.img"), ",readonly=on");
    if options.disk_bytes.is_some() {
        list.disk("scratch", &dir.path("scratch.img"), ",cache=unsafe,discard=unmap");
    }
    if options.network {
        list.plain(&["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    }
    list.path("-chardev", "file,id=console,path=", &options.console, "");
    list.plain(&["-serial", "chardev:console", "-device", "virtio-serial-pci"]);
    if options.job == Job::Shell {
        list.plain(&["-chardev", "stdio,id=out,signal=off", "-device", "virtconsole,chardev=out"]);
    } else {
        list.path("-chardev", "file,id=out,path=", Path::new("/dev/stdout"), ",append=on");
        list.plain(&["-device", "virtserialport,chardev=out,name=srb.out"]);
    }
    list.path("-chardev", "file,id=status,path=", &dir.path("status"), "");
    list.plain(&["-device", "virtserialport,chardev=status,name=srb.status"]);
    list.0
}

/// How many processors there are, and how they are arranged if the image's kernel cares.
fn processors(options: &Options) -> String {
    let cpus = options.cpus;
    match std::fs::read_to_string(options.folders.image.join("topology")) {
        Ok(topology) => format!("{cpus},sockets={cpus},{}", topology.trim()),
        Err(_) => cpus.to_string(),
    }
}

fn kernel_command_line(options: &Options) -> String {
    // A panic reboots at once, which with -no-reboot ends QEMU. A slow host must not look like a
    // stall, nor like a clock that cannot be trusted.
    // Tests look at the whole log of what they did.
    let common = "console=ttyS0 panic=-1 quiet tsc=reliable rcupdate.rcu_cpu_stall_timeout=120 \
                  log_buf_len=2M";
    // What the kernel of this image wants besides.
    let own = std::fs::read_to_string(options.folders.image.join("cmdline")).unwrap_or_default();
    let root = if options.root_disk.is_some() { " srb.root=disk" } else { "" };
    let common = format!("{common}{root} {}", own.trim());
    match &options.job {
        Job::Run(_) => format!("{common} srb.mode=run"),
        Job::Shell => format!("{common} srb.mode=shell{}", window()),
    }
}

/// The terminal's size as options of the guest's init.
fn window() -> String {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).output();
    let text = output.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let text = text.unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rows), Some(columns)) => format!(" srb.rows={rows} srb.columns={columns}"),
        _ => String::new(),
    }
}
