// SPDX-License-Identifier: GPL-2.0-only
//! How long users of a device wait when its agent is killed: with another one that stands by, and
//! with one that is started then.

use std::time::Duration;

use super::Figure;
use crate::guest::pauses::Pauses;
use crate::guest::{udev, Device, Machine, TestResult};

/// How often the agent is killed, each way.
const KILLS: usize = 9;

fn millis(pause: Duration) -> f64 {
    pause.as_secs_f64() * 1e3
}

/// The longest pause and the usual one of each way.
pub(super) fn figures(machine: &mut Machine, device: &Device) -> TestResult<Vec<Figure>> {
    udev::settle()?;
    let pauses = Pauses::of(&device.path())?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..KILLS {
        let standby = machine.start_standby()?;
        with.push(pauses.caused_by(|| machine.kill_agent_for(standby))?);
        without.push(pauses.caused_by(|| {
            machine.kill_agent()?;
            machine.start_agent()
        })?);
    }
    pauses.finish()?;
    println!("with a standby: {with:.1?}; without: {without:.1?}");
    let mut figures = Vec::new();
    for (name, mut found) in [("with", with), ("without", without)] {
        found.sort();
        let (usual, longest) = (found.get(KILLS / 2), found.last());
        let (Some(usual), Some(longest)) = (usual, longest) else { continue };
        let name = format!("resume_{name}_standby_ms");
        figures.push(Figure::new(format!("{name}_usually"), millis(*usual), "ms"));
        figures.push(Figure::new(name, millis(*longest), "ms"));
    }
    Ok(figures)
}
