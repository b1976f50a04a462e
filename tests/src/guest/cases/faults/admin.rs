// SPDX-License-Identifier: GPL-2.0-only
//! The playground's admin API (docs/faults.md), by hand.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::guest::TestResult;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The API at a port of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Admin(pub(super) u16);

impl Admin {
    /// Puts a plan in force.
    pub(super) fn set_plan(self, plan: &str) -> TestResult {
        self.ask("PUT", "/faults", plan).map(drop)
    }

    /// Ends the plan.
    pub(super) fn clear_plan(self) -> TestResult {
        self.ask("DELETE", "/faults", "").map(drop)
    }

    /// Applies what is late.
    pub(super) fn flush_late(self) -> TestResult {
        self.ask("POST", "/late/flush", "").map(drop)
    }

    /// What happened so far.
    pub(super) fn report(self) -> TestResult<Value> {
        self.ask("GET", "/faults", "")
    }

    /// Requests that have met a fault since the server's start.
    pub(super) fn faulty(self) -> TestResult<u64> {
        Ok(self.report()?.get("faulty").and_then(Value::as_u64).ok_or("no count of faults")?)
    }

    fn ask(self, method: &str, path: &str, body: &str) -> TestResult<Value> {
        let mut link = TcpStream::connect(("127.0.0.1", self.0))?;
        link.set_read_timeout(Some(ANSWER))?;
        let len = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len}\r\n"
        );
        link.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let mut answer = String::new();
        link.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer of the admin API")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(format!("{method} {path} {body}: {head}").into());
        }
        let start = body.find('{').ok_or("no report")?;
        let end = body.rfind('}').ok_or("no report")?;
        Ok(serde_json::from_str(body.get(start..=end).unwrap_or_default())?)
    }
}
