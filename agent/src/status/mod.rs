// SPDX-License-Identifier: GPL-2.0-only
//! What others may know of the agent: HTTP and JSON on a Unix socket, for `srbctl` and Prometheus.
//!
//! Before: whoever connects to [`socket`]. After: [`view`] takes snapshots of what the layers below
//! hold; [`inflight`] is that of the requests under way, `metrics` and [`exposition`] the page for
//! Prometheus. Nothing below imports it: what is shown is written where it happens
//! ([`crate::kernel::counters`], [`crate::kernel::tags`], [`crate::base::failures`], the URLs'
//! own). The types that go over the socket are the crate `srb_status`, which `srbctl` reads.
//!
//! # Who owns what
//! All of it belongs to the main thread, beside the control worker, and keeps no data worker
//! waiting.
//!
//! # Errors
//! An answer with an errno and words. A socket that cannot be had costs the status, and no device.

pub mod exposition;
pub mod inflight;
mod metrics;
pub mod socket;
pub mod view;
