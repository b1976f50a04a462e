// SPDX-License-Identifier: GPL-2.0-only
//! A playground outside the VM, on a port of the loopback; ends with its owner.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::vm::{host, Error};

/// See the module's documentation.
pub(crate) struct Server {
    child: Child,
    port: u16,
    data: PathBuf,
}

impl Server {
    /// Starts it with an empty folder for the volumes.
    pub(crate) fn start(data: &Path) -> Result<Self, Error> {
        if data.exists() {
            fs::remove_dir_all(data).map_err(host("removing the last run's volumes"))?;
        }
        Self::serve(data, 0)
    }

    /// Starts it with the volumes that there are, on this port.
    pub(crate) fn serve(data: &Path, port_wanted: u16) -> Result<Self, Error> {
        let program = std::env::current_exe().map_err(host("finding this program"))?;
        let program = program.with_file_name("srb-playground");
        let mut command = Command::new(&program);
        command.args(["--port", &port_wanted.to_string(), "--datapath"]).arg(data);
        command.stdin(Stdio::null());
        crate::vm::die_with_us(&mut command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(host(format!("starting {}", program.display())))?;
        let port = child.stdout.take().and_then(port);
        match port {
            Some(port) => Ok(Self { child, port, data: data.to_owned() }),
            None => {
                // It has not said where it listens: whether it ended or hangs, it is of no use.
                let _ = child.kill();
                let _ = child.wait();
                Err(Error::Tool("srb-playground does not say where it listens".to_owned()))
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The file of a volume.
    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the port from `listening on http://ADDRESS:PORT/ with...`; whatever else is printed is
/// read and dropped, so that the server never waits for us.
fn port(stdout: impl std::io::Read + Send + 'static) -> Option<u16> {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    thread::spawn(move || {
        // Nobody cares for what it says.
        let _ = std::io::copy(&mut reader, &mut std::io::sink());
    });
    parse_port(&line)
}

fn parse_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("://")?;
    let (_, rest) = rest.split_once(':')?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_port;

    #[test]
    fn the_port_is_found() {
        assert_eq!(parse_port("listening on http://127.0.0.1:8080/ with data in x\n"), Some(8080));
        assert_eq!(parse_port("listening on http://127.0.0.1:81"), Some(81));
        assert_eq!(parse_port(""), None);
    }
}
