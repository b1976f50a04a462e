// SPDX-License-Identifier: GPL-2.0-only
//! Agents that stand by, against the module's side of the ring.

use std::thread;
use std::time::{Duration, Instant};

use srb_agent::sim::{RunningAgent, SimModule};

const SOON: Duration = Duration::from_secs(20);

struct Setup {
    module: SimModule,
    disk: u32,
    folder: tempfile::TempDir,
}

fn setup() -> Setup {
    let module = SimModule::new(2);
    module.configure(|parameters| parameters.urls = vec!["null:".into()]);
    let disk = module.add_device("disk1", "vol1", 1 << 20).expect("memory");
    Setup { module, disk, folder: tempfile::tempdir().expect("a folder") }
}

impl Setup {
    fn start(&self) -> RunningAgent {
        RunningAgent::start(&self.module, RunningAgent::config(self.folder.path()))
    }

    fn stand_by(&self) -> RunningAgent {
        RunningAgent::stand_by(&self.module, RunningAgent::config(self.folder.path()))
    }

    /// Reads a block; the answer comes from whichever agent there is then.
    fn read(&self) -> i32 {
        self.module.read(self.disk, 0, 0, 4096).status
    }
}

#[test]
fn the_place_of_an_agent_that_goes_is_taken() {
    let setup = setup();
    let first = setup.start();
    let second = setup.stand_by();
    assert_eq!(setup.read(), 0);
    setup.module.cut_off();
    assert!(first.wait().is_err(), "it was cut off");
    assert_eq!(setup.read(), 0, "by the other one");
    let third = setup.stand_by();
    second.stop().expect("it served");
    assert_eq!(setup.read(), 0);
    third.stop().expect("it served");
}

#[test]
fn of_several_one_serves_and_the_others_wait_on() {
    let setup = setup();
    let first = setup.start();
    let mut waiting: Vec<_> = (0..3).map(|_| setup.stand_by()).collect();
    first.stop().expect("it served");
    for left in (0..3).rev() {
        assert_eq!(setup.read(), 0, "with {left} left");
        assert!(waiting.iter().all(|agent| !agent.is_over()));
        setup.module.cut_off();
        let begun = Instant::now();
        let over = loop {
            if let Some(place) = waiting.iter().position(RunningAgent::is_over) {
                break waiting.swap_remove(place);
            }
            assert!(begun.elapsed() < SOON, "no agent has noticed");
            thread::sleep(Duration::from_millis(1));
        };
        assert!(over.wait().is_err(), "it was cut off");
        assert_eq!(waiting.len(), left);
    }
}

#[test]
fn one_that_waits_can_be_ended() {
    let setup = setup();
    let first = setup.start();
    setup.stand_by().stop().expect("asked to");
    assert_eq!(setup.read(), 0);
    first.stop().expect("it served");
}

#[test]
fn with_nobody_to_wait_for_it_is_a_start() {
    let setup = setup();
    let agent = setup.stand_by();
    assert_eq!(setup.read(), 0);
    agent.stop().expect("it served");
}
