// SPDX-License-Identifier: GPL-2.0-only
//! Why there is no session, and why there is none any more.
//!
//! [`Ended`] says that the session cannot go on, most often because the module has cut the agent
//! off and taken its memory away. Whoever sees it must not touch shared memory any more.

use nix::errno::Errno;

/// Why no session began; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The module is not there.
    #[error("{device} does not exist: load srb.ko first")]
    NotLoaded {
        /// Name of the control device.
        device: String,
    },
    /// Only root may.
    #[error("cannot open {device}: permission denied; srb-agent must run as root")]
    NotPermitted {
        /// Name of the control device.
        device: String,
    },
    /// One agent at a time.
    #[error("another agent is connected to the module; stop it first, or use --takeover")]
    Busy,
    /// Module and agent speak different versions.
    #[error(
        "the module speaks version {module} and this agent version {agent}: \
         install both from one release"
    )]
    Version {
        /// The module's.
        module: u32,
        /// This agent's.
        agent: u32,
    },
    /// Same version, other sizes.
    #[error(
        "the module's channels have {depth} tags of {window_bytes} bytes, this agent's do not"
    )]
    Geometry {
        /// Tags of the module's channels.
        depth: u32,
        /// Bytes of its windows.
        window_bytes: u32,
    },
    /// Anything else.
    #[error("cannot {doing}: {errno}")]
    Failed {
        /// The step.
        doing: String,
        /// Its error.
        errno: Errno,
    },
}

pub(super) fn failed(doing: impl Into<String>) -> impl FnOnce(Errno) -> BeginError {
    let doing = doing.into();
    move |errno| BeginError::Failed { doing, errno }
}

/// Why nothing can go on. Devices wait for the next agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The module has cut the agent off; memory must not be touched any more.
    #[error("the module has ended the session; its log says why")]
    CutOff,
    /// The module refused what it should not, or said what makes no sense.
    #[error("the module makes no sense: {0}")]
    Nonsense(String),
    /// A thread of the agent is gone.
    #[error("{0}")]
    Thread(String),
}

pub(super) fn ended(doing: &str, errno: Errno) -> Ended {
    match errno {
        Errno::ESHUTDOWN => Ended::CutOff,
        errno => Ended::Nonsense(format!("{doing}: {errno}")),
    }
}
