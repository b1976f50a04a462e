// SPDX-License-Identifier: GPL-2.0-only
//! An agent that stands by: it has all that it needs, and takes the place of another one, at once
//! when that one has gone or, taking over, now.
//!
//! The hop before is `main`, whose wish for a session the module has refused; the hop after is
//! [`crate::agent`]. Runs on the main thread.
//!
//! What a running agent's death leaves is a machine where every program may wait for a device: what
//! had to be loaded, looked up or asked for then might wait for this very process. So while it
//! stands by its files are open, its threads run, its stacks and some heap are locked in memory,
//! and the URLs' hosts are looked up again and again. Configuration and URLs are read anew each
//! second.

use std::convert::Infallible;
use std::future::Future;
use std::pin::{pin, Pin};
use std::time::{Duration, Instant};

use tokio::time::{interval, sleep, MissedTickBehavior};

use crate::agent::{self, AgentError, Prepared};
use crate::base::settings::Settings;
use crate::kernel::ended::BeginError;
use crate::kernel::session::{Begun, Entrance, Entry, Standby};
use crate::process::config::Config;
use crate::process::logging::Log;
use crate::process::memory;
use crate::process::notify::{keep_alive, notify, NotifyState};
use crate::volume::Repository;

/// Memory that each thread has ready.
const HEAP_BYTES: usize = 256 << 10;
/// How often the configuration is read, and whether another agent has taken over is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How often the URLs' hosts are looked up: often enough that what was found is fresh.
const LOOK_UP_PERIOD: Duration = Duration::from_secs(20);
/// Before the next attempt to begin, when one has failed.
const PAUSE: Duration = Duration::from_millis(5);
/// For an agent to end once nothing is in flight any more.
const HAND_OVER: Duration = Duration::from_secs(1);

/// Serves once there is a session, until `stop` is ready; ends before that as well, and when it is
/// not needed as it is. Must be run inside a `LocalSet` on a current-thread runtime.
///
/// # Errors
/// See [`AgentError`].
pub async fn run(
    config: &Config,
    standby: Standby,
    log: Log,
    stop: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let stop = pin!(stop);
    tokio::select! {
        result = prepare_and_serve(config, standby, log, stop) => result,
        never = keep_alive(config.takeover) => match never {},
    }
}

async fn prepare_and_serve(
    config: &Config,
    standby: Standby,
    log: Log,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), AgentError> {
    if config.takeover {
        let prepared = Prepared::new(config, standby.queues(), 0)?;
        let begun = take_over(config, standby).await?;
        return agent::serve(config, prepared, begun, log, stop).await;
    }
    memory::keep_heap();
    let prepared = Prepared::new(config, standby.queues(), HEAP_BYTES)?;
    memory::fill_heap(HEAP_BYTES);
    if config.lock_memory {
        memory::lock_more();
    }
    notify(&[NotifyState::Ready, NotifyState::Status("standing by")]);
    tracing::info!("standing by");
    let begun = tokio::select! {
        begun = wait(standby, prepared.repository(), &log) => begun?,
        () = stop.as_mut() => {
            notify(&[NotifyState::Stopping]);
            tracing::info!("stopping");
            return Ok(());
        }
    };
    match begun {
        Some(begun) => agent::serve(config, prepared, begun, log, stop).await,
        None => {
            notify(&[NotifyState::Stopping]);
            tracing::info!(
                "an agent has taken over, perhaps of another version: who stands by ends, to be \
                 started anew"
            );
            Ok(())
        }
    }
}

/// In the place of the running agent; of others that take over, too, the first one wins.
async fn take_over(config: &Config, mut standby: Standby) -> Result<Begun, BeginError> {
    let (since, patience) = (Instant::now(), config.drain.saturating_add(HAND_OVER));
    loop {
        match standby.begin(Entry::TakeOver)? {
            Entrance::Begun(begun) => return Ok(begun),
            Entrance::Occupied(_) if since.elapsed() >= patience => return Err(BeginError::Busy),
            Entrance::Occupied(next) => standby = next,
        }
        sleep(PAUSE).await;
    }
}

/// Waits for a session; `None` if an agent has taken over.
async fn wait(
    mut standby: Standby,
    repository: &Repository,
    log: &Log,
) -> Result<Option<Begun>, AgentError> {
    let mut looks = interval(LOOK_PERIOD);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look_ups = pin!(look_up(repository));
    let mut version = None;
    loop {
        tokio::select! {
            biased;
            vacant = standby.vacancy() => vacant?,
            _ = looks.tick() => {
                let (config, urls) = standby.config()?;
                if version.replace(config.version) != Some(config.version) {
                    log.follow(config.debug);
                    repository.apply(Settings::new(&config, urls));
                    look_ups.set(look_up(repository));
                }
            }
            never = &mut look_ups => match never {},
        }
        match standby.begin(Entry::IfFree)? {
            Entrance::Begun(begun) => return Ok(Some(begun)),
            Entrance::Occupied(next) if next.is_superseded() => return Ok(None),
            Entrance::Occupied(next) => standby = next,
        }
        sleep(PAUSE).await;
    }
}

async fn look_up(repository: &Repository) -> Infallible {
    loop {
        repository.paths().look_up().await;
        sleep(LOOK_UP_PERIOD).await;
    }
}
