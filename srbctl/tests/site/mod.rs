// SPDX-License-Identifier: GPL-2.0-only
//! A machine made of files: a sysfs tree, a procfs tree and an agent's socket in a temporary
//! directory.
//!
//! A plain file stands for each command file and keeps what was written to it. What the kernel
//! alone can do, failing a write(2) with a certain errno, a seccomp filter does in the program
//! under test.

#![allow(dead_code, reason = "a test binary may use a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::libc;
use serde_json::Value;
use tempfile::TempDir;

/// Which system call is to fail, and with what.
#[derive(Clone, Copy)]
pub(crate) enum Fault {
    /// Every write(2) of this many bytes.
    Write { bytes: usize, errno: i32 },
    /// Every open(2) for writing alone.
    OpenForWriting { errno: i32 },
}

/// What the program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).expect("JSON on stdout")
    }

    pub(crate) fn error(&self) -> Value {
        let value: Value = serde_json::from_str(&self.err).expect("JSON on stderr");
        value["error"].clone()
    }
}

pub(crate) struct Site {
    dir: TempDir,
}

const COMMANDS: [&str; 7] =
    ["add_urls", "remove_urls", "create", "extend", "destroy", "attach", "detach"];

impl Site {
    /// No module, no agent.
    pub(crate) fn bare() -> Self {
        let site = Self { dir: tempfile::tempdir().expect("a directory") };
        fs::create_dir_all(site.sys().join("block")).expect("created");
        site.file("proc/self/mountinfo", "");
        site
    }

    /// The module, just loaded.
    pub(crate) fn loaded() -> Self {
        let site = Self::bare();
        for name in COMMANDS {
            site.file(&format!("sys/class/srb/{name}"), "");
        }
        site.file("sys/class/srb/urls", "\n");
        site.file("sys/class/srb/volumes", "");
        site.file("sys/module/srb/version", "0.1.0\n");
        for (name, value) in [
            ("debug", "6"),
            ("req_timeout", "30"),
            ("nb_req_retries", "3"),
            ("server_conn_timeout", "30"),
            ("thread_pool_size", "8"),
            ("agent_grace", "-1"),
            ("policy", "fail"),
        ] {
            site.file(&format!("sys/module/srb/parameters/{name}"), &format!("{value}\n"));
        }
        let fixed = site.path("sys/module/srb/parameters/thread_pool_size");
        fs::set_permissions(fixed, fs::Permissions::from_mode(0o444)).expect("set");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn sys(&self) -> PathBuf {
        self.path("sys")
    }

    pub(crate) fn file(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("readable")
    }

    /// What was written to a command file.
    pub(crate) fn commanded(&self, name: &str) -> String {
        self.read(&format!("sys/class/srb/{name}"))
    }

    /// Whether nothing was written to any command file.
    pub(crate) fn is_untouched(&self) -> bool {
        COMMANDS.iter().all(|name| self.commanded(name).is_empty())
    }

    pub(crate) fn device(&self, name: &str, volume: &str, size_bytes: u64) {
        let dir = format!("sys/block/{name}");
        self.file(&format!("{dir}/srb_name"), &format!("{volume}\n"));
        self.file(&format!("{dir}/srb_size"), &format!("{size_bytes}\n"));
        self.file(&format!("{dir}/srb_urls"), &format!("http://a/{volume},http://b/{volume}\n"));
        self.file(&format!("{dir}/srb_debug"), "6\n");
        self.file(&format!("{dir}/srb_policy"), "fail\n");
        self.file(&format!("{dir}/srb_agent_wait"), "connected\n");
        self.file(&format!("{dir}/dev"), "259:7\n");
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path("agent.sock")
    }

    /// An agent that answers each path with a status and a body, and every other with 404.
    pub(crate) fn agent(&self, answers: Vec<(&'static str, u16, Value)>) {
        let listener = UnixListener::bind(self.socket()).expect("bound");
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(&stream, &answers);
            }
        });
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_srbctl"));
        command.arg("--sysfs-root").arg(self.sys()).arg("--proc-root").arg(self.path("proc"));
        command.arg("--socket").arg(self.socket()).args(words);
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        finish(&mut self.command(words))
    }

    pub(crate) fn run_with(&self, fault: Fault, words: &[&str]) -> Outcome {
        let mut command = self.command(words);
        let program = filter(fault);
        // SAFETY: between fork and exec only prctl(2) is called, which is async-signal-safe.
        unsafe { command.pre_exec(move || install(&program)) };
        finish(&mut command)
    }
}

fn finish(command: &mut Command) -> Outcome {
    let output = command.output().expect("started");
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

fn answer(stream: &UnixStream, answers: &[(&'static str, u16, Value)]) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (code, body) = match answers.iter().find(|(known, ..)| *known == path) {
        Some((_, code, body)) => (*code, body.to_string()),
        None => (404, "{}".to_owned()),
    };
    let head = format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

const fn op(code: u32, jump_true: u8, jump_false: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: jump_true, jf: jump_false, k: value }
}

/// The low half of the third argument in `struct seccomp_data`.
const THIRD_ARGUMENT: u32 = 16 + 2 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };

fn filter(fault: Fault) -> Vec<libc::sock_filter> {
    let (call, mask, third, errno) = match fault {
        Fault::Write { bytes, errno } => (libc::SYS_write, u32::MAX, bytes as u32, errno),
        Fault::OpenForWriting { errno } => {
            (libc::SYS_openat, libc::O_ACCMODE as u32, libc::O_WRONLY as u32, errno)
        }
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    vec![
        op(load, 0, 0, 0),
        op(equal, 0, 4, call as u32),
        op(load, 0, 0, THIRD_ARGUMENT),
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, mask),
        op(equal, 0, 1, third),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn install(program: &[libc::sock_filter]) -> std::io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: it takes numbers alone.
    let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel copies the program, which lives until the call returns.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    if result != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
