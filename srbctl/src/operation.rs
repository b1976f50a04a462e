// SPDX-License-Identifier: GPL-2.0-only
//! What the module can be asked for, and how that is called in a sentence.

use srb_proto::command::Policy;

use crate::output::human_size;

/// Something that the module was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    /// `add_urls`, with one URL.
    AddUrl(&'a str),
    /// `remove_urls`, with one URL.
    RemoveUrl(&'a str),
    /// `urls`
    ListUrls,
    /// `volumes`, or the agent's listing.
    ListVolumes,
    /// `create`
    Create {
        /// Name.
        volume: &'a str,
    },
    /// `extend`
    Extend {
        /// Name.
        volume: &'a str,
        /// The new size.
        size_bytes: u64,
    },
    /// `destroy`
    Destroy {
        /// Name.
        volume: &'a str,
    },
    /// `attach`
    Attach {
        /// Name.
        volume: &'a str,
        /// Name.
        device: &'a str,
    },
    /// `detach`
    Detach {
        /// Name.
        device: &'a str,
    },
    /// `detach`, with `force`
    ForceDetach {
        /// Name.
        device: &'a str,
    },
    /// All devices.
    ListDevices,
    /// The requests of a device.
    ListRequests {
        /// Name.
        device: &'a str,
    },
    /// `srb_policy`, read
    ShowPolicy {
        /// Name.
        device: &'a str,
    },
    /// `srb_policy`, written
    SetPolicy {
        /// Name.
        device: &'a str,
        /// The new one.
        policy: Policy,
    },
    /// All parameters.
    ListParameters,
    /// One parameter.
    SetParameter {
        /// Name.
        name: &'a str,
        /// The new value.
        value: &'a str,
    },
}

impl Operation<'_> {
    /// What was asked for, after "cannot".
    pub(crate) fn asked(self) -> String {
        match self {
            Self::AddUrl(url) => format!("add {url}"),
            Self::RemoveUrl(url) => format!("remove {url}"),
            Self::ListUrls => "list the URLs".to_owned(),
            Self::ListVolumes => "list the volumes".to_owned(),
            Self::Create { volume } => format!("create {volume}"),
            Self::Extend { volume, size_bytes } => {
                format!("extend {volume} to {}", human_size(size_bytes))
            }
            Self::Destroy { volume } => format!("destroy {volume}"),
            Self::Attach { volume, device } => format!("attach {volume} as {device}"),
            Self::Detach { device } => format!("detach {device}"),
            Self::ForceDetach { device } => format!("detach {device} by force"),
            Self::ListDevices => "list the devices".to_owned(),
            Self::ListRequests { device } => format!("list the requests of {device}"),
            Self::ShowPolicy { device } => format!("read the policy of {device}"),
            Self::SetPolicy { device, policy } => format!("set the policy of {device} to {policy}"),
            Self::ListParameters => "read the parameters".to_owned(),
            Self::SetParameter { name, value } => format!("set {name} to {value}"),
        }
    }

    /// The volume whose failures the agent is asked for; `None` if it has no part in this.
    pub(crate) fn agents_part(self) -> Option<Option<String>> {
        match self {
            Self::Create { volume }
            | Self::Extend { volume, .. }
            | Self::Destroy { volume }
            | Self::Attach { volume, .. } => Some(Some(volume.to_owned())),
            Self::ListVolumes => Some(None),
            _ => None,
        }
    }
}
