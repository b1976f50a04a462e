// SPDX-License-Identifier: GPL-2.0-only
//! The words of the command line, and their help: one definition gives the parser, `--help` and
//! completion.
//!
//! Names and sizes are checked by the parsers that the module runs, so that a wrong one is refused
//! with the same reason before anything is asked of the module.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use srb_proto::command::{check_device_name, check_volume_name, parse_size, Policy};
use srb_status::DEFAULT_SOCKET;

const EXAMPLES: &str = "\
Examples:
  srbctl url add http://127.0.0.1:8080/     where the volumes are kept
  srbctl volume create vol1 10G             a volume of 10 GiB
  srbctl attach vol1 disk1                  /dev/disk1: mkfs, fdisk, LVM, mount
  srbctl status                             all of it on one screen
  srbctl volume extend vol1 20G             grow it, attached or not
  srbctl detach disk1                       the volume stays on the store
  srbctl inflight                           what is waited for
  srbctl device policy disk1 queue          wait while no server answers, instead of failing
  srbctl status --json | jq '.devices[] | select(.errors > 0) | .name'

Exit status:
  0  done (a change that worked prints nothing)
  1  the module, the agent or a server refused, or could not be reached
  2  the command line makes no sense; nothing was tried

Errors go to stderr: what failed and why, then what to do about it, then what the agent knows of
it. With --json each is one line of JSON instead:
  {\"error\":{\"errno\":107,\"name\":\"ENOTCONN\",\"message\":\"…\",\"hint\":\"…\",\"agent\":\"…\"}}
errno and name are null where no system call failed, hint and agent where there is none.

Files:
  /sys/class/srb/               the module's commands, which echo serves as well
  /sys/module/srb/parameters/   its parameters
  /run/srb/agent.sock           the agent, which knows of health, latencies and errors";

const STATUS_HELP: &str = "\
Without an agent it shows what the module knows. It fails only when the module is not loaded.

JSON:
  module   version, parameters: [{name, value, writable, description}]
  agent    version, abi, pid, uptime_secs, session, queues; null when none answers
  urls     [{url}], and from the agent state (up, down, unknown), reason, active, requests, errors,
           latency_us, read_latency_us, probes, hedged, hedge_wins, connections_opened, last_error;
           null when they cannot be read
  devices  [{name, volume, size_bytes, urls, log_level, policy}], and from the agent attachment,
           in_flight, oldest_age_ms, reads, writes, read_bytes, written_bytes, errors, held,
           retries, read_latency and write_latency {mean_us, p50_us, p99_us, max_us}
  notes    what could not be read, and why
Fields of the agent are absent when it does not answer. Fields are added, never changed.";

const DETACH_HELP: &str = "\
--force pulls the device out, as if it were a disk: requests in flight fail, a file system on it
sees its disk die, and what the kernel has not written yet is lost. It is for a device that nobody
will get back, when neither umount nor ending the processes helps. Who lost it is said; they keep a
dead device until they let go of it.

JSON, with --force:
  device, openers [{description, remedy}]";

const INFLIGHT_HELP: &str = "\
TRIES 0 is a request that waits for its turn: behind thread_pool_size others, or behind a write to
the same blocks that may still land. LAST says why the try before failed.

Requests that the agent does not have are counted by the kernel, which keeps them until an agent
comes (agent_grace), a server answers (srbctl device policy) or there is room for them: a note says
how many there are. Without an agent there are these counts alone.

JSON:
  requests  [{device, queue, tag, op, offset, len, age_us, tries, url, last}]; null when no agent
            answers; url and last are null before the first try and the first failure
  devices   [{name, reads, writes, waiting}]: what the kernel counts, reads and writes that the
            agent was given, and those that wait for it
  notes     what could not be read, and why";

const LIST_HELP: &str = "\
On a terminal there is a header; in a pipe there is none, and a missing value is a dash.";

/// Controls volumes on a REST store and the block devices that they are attached as.
///
/// Changes go through the sysfs files of the srb module, exactly as echo would write them; what is
/// shown comes from there and, where it answers, from srb-agent.
#[derive(Debug, Parser)]
#[command(name = "srbctl", version, after_long_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Print JSON, for programs: all that is shown, and errors
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The agent's socket
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,
    /// Where sysfs is mounted
    #[arg(long, global = true, value_name = "DIR", default_value = "/sys", hide = true)]
    pub(crate) sysfs_root: PathBuf,
    /// Where the configuration is
    #[arg(long, global = true, value_name = "DIR", default_value = "/etc", hide = true)]
    pub(crate) etc_root: PathBuf,
    /// Where procfs is mounted
    #[arg(long, global = true, value_name = "DIR", default_value = "/proc", hide = true)]
    pub(crate) proc_root: PathBuf,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show module, agent, URLs and devices on one screen
    #[command(after_long_help = STATUS_HELP)]
    Status,
    /// The URLs of the repository
    #[command(subcommand)]
    Url(UrlCommand),
    /// The volumes of the repository
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Attach a volume as /dev/DEVICE
    ///
    /// The device is there when the command returns. The volume must exist, and may be attached
    /// only once.
    Attach {
        /// Name of the volume
        #[arg(value_parser = volume_name)]
        volume: String,
        /// Name that the device is to have: letters, digits and #+-.:=@_, at most 31
        #[arg(value_parser = device_name)]
        device: String,
    },
    /// Detach a device; its volume stays on the store
    ///
    /// Refused while somebody has the device or a partition of it open: who that is, is said.
    #[command(after_long_help = DETACH_HELP)]
    Detach {
        /// Name of the device, without /dev/
        #[arg(value_parser = device_name)]
        device: String,
        /// Take it from whoever has it open: what is not on the store yet is lost
        #[arg(long)]
        force: bool,
    },
    /// The attached devices
    #[command(subcommand)]
    Device(DeviceCommand),
    /// Show the requests that the agent has taken and not completed, the oldest first
    #[command(after_long_help = INFLIGHT_HELP)]
    Inflight {
        /// Those of one device
        #[arg(value_parser = device_name)]
        device: Option<String>,
        /// Those that the agent took longer ago than this
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        older_than: u64,
    },
    /// Show or set the module's parameters
    ///
    /// Without a word all of them are shown. NAME shows one, NAME=VALUE sets one, at once in force
    /// for the devices that are attached. thread_pool_size is set when the module is loaded.
    #[command(after_long_help = "\
Examples:
  srbctl params
  srbctl params req_timeout=60 nb_req_retries=5
  srbctl params agent_grace=-1       wait for an agent for ever

JSON:
  parameters  [{name, value, writable, description}]")]
    Params {
        /// A parameter, or a parameter and its new value
        #[arg(value_name = "NAME[=VALUE]")]
        words: Vec<String>,
    },
    /// What systemd calls at boot and at shutdown
    ///
    /// /etc/srb/srb.conf has the URLs and the module's parameters, /etc/srb/srbtab the volumes that
    /// are attached at boot: see srb.conf(5) and srbtab(5).
    #[command(subcommand)]
    Boot(BootCommand),
    /// Print a completion script for a shell
    #[command(after_long_help = "\
Examples:
  srbctl completion bash > /usr/share/bash-completion/completions/srbctl
  source <(srbctl completion zsh)")]
    Completion {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// What is to be done at boot and shutdown.
#[derive(Debug, Subcommand)]
pub(crate) enum BootCommand {
    /// Say what is wrong with srb.conf and srbtab, line by line
    Check,
    /// Load the module with the parameters of srb.conf, and add its URLs
    ///
    /// A module that is loaded already gets the parameters that can be set at any time.
    Load,
    /// Attach the volume that srbtab has for a device
    ///
    /// Tries for the time that the line says. Exit status 2: srbtab has no such line.
    Attach {
        /// Name of the device, without /dev/
        #[arg(value_parser = device_name)]
        device: String,
    },
    /// Detach a device, waiting some seconds for those who use it
    Detach {
        /// Name of the device, without /dev/
        #[arg(value_parser = device_name)]
        device: String,
    },
    /// When the machine stops: wait until no device is in use, then take away those that still are
    ///
    /// Waits for the shutdown_secs of srb.conf. Does nothing while the machine is not stopping.
    Shutdown,
}

/// What is to be done with URLs.
#[derive(Debug, Subcommand)]
pub(crate) enum UrlCommand {
    /// Show the URLs and how they fare
    #[command(after_long_help = format!("{LIST_HELP}\n
JSON:
  urls   as in srbctl status --json
  notes  what could not be read, and why"))]
    List,
    /// Add URLs: paths to one and the same repository
    ///
    /// A URL that is refused does not keep the others out. No agent is needed.
    #[command(after_long_help = "\
Examples:
  srbctl url add http://127.0.0.1:8080/
  srbctl url add http://10.0.0.1/volumes,http://10.0.0.2/volumes")]
    Add {
        /// `http://HOST[:PORT][/PATH]`, or `null:[SIZE]` for measuring; several by spaces or commas
        #[arg(required = true, value_name = "URL")]
        urls: Vec<String>,
    },
    /// Remove URLs
    ///
    /// The last one stays while a device is attached.
    Remove {
        /// As they were added, or as srbctl url list shows them
        #[arg(required = true, value_name = "URL")]
        urls: Vec<String>,
    },
}

/// What is to be done with devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices, with volume, size and policy
    #[command(after_long_help = format!("{LIST_HELP}\n
JSON:
  devices  [{{name, volume, size_bytes, urls, log_level, policy}}]"))]
    List,
    /// Show or set what becomes of requests that no server answers
    ///
    /// fail gives them an error, after their tries. queue holds them until a server answers,
    /// however long that takes; queue=SECONDS does so for that long. Whoever uses the device waits
    /// meanwhile. A change holds at once, for requests that are held already, too. Devices begin
    /// with the policy that srbctl params shows.
    #[command(after_long_help = "\
Examples:
  srbctl device policy disk1             what it is
  srbctl device policy disk1 queue=600   ten minutes without a server are survived
  srbctl device policy disk1 fail        let go of what is held, with an error

JSON:
  device, policy")]
    Policy {
        /// Name of the device, without /dev/
        #[arg(value_parser = device_name)]
        device: String,
        /// fail, queue or queue=SECONDS
        #[arg(value_parser = policy)]
        policy: Option<Policy>,
    },
}

/// What is to be done with volumes.
#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the volumes, and what each is attached as
    ///
    /// The agent gives all of them, however many. Where its socket does not answer, the module's
    /// listing is taken, which may end early, and says so.
    #[command(after_long_help = format!("{LIST_HELP}\n
JSON:
  volumes  [{{name, device, size_bytes}}]; device is null where it is not attached here, size_bytes
           where it is not known without asking for each
  notes    what could not be read, and why"))]
    List,
    /// Create a volume
    ///
    /// It is not attached by that.
    #[command(after_long_help = "\
Example:
  srbctl volume create vol1 10G")]
    Create {
        /// Name of the volume: at most 255 bytes, no slash, no space
        #[arg(value_parser = volume_name)]
        volume: String,
        /// Bytes, or a number with k, M, G or T (powers of 1024)
        #[arg(value_parser = size)]
        size: Size,
    },
    /// Make a volume larger, attached or not
    ///
    /// Users of an attached device see the new size at once; what is on it is grown afterwards,
    /// with resize2fs, xfs_growfs or pvresize.
    #[command(after_long_help = "\
Example:
  srbctl volume extend vol1 20G && resize2fs /dev/disk1")]
    Extend {
        /// Name of the volume
        #[arg(value_parser = volume_name)]
        volume: String,
        /// The new size, above the present one: bytes, or a number with k, M, G or T
        #[arg(value_parser = size)]
        size: Size,
    },
    /// Delete a volume and all that is on it
    Destroy {
        /// Name of the volume
        #[arg(value_parser = volume_name)]
        volume: String,
    },
}

/// A size, as it was written and in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    pub(crate) text: String,
    pub(crate) bytes: u64,
}

fn size(text: &str) -> Result<Size, &'static str> {
    let bytes = parse_size(text).map_err(|error| error.reason())?;
    Ok(Size { text: text.to_owned(), bytes })
}

fn name(
    text: &str,
    check: fn(&str) -> Result<(), srb_proto::command::NameError>,
) -> Result<String, &'static str> {
    check(text).map_err(|error| error.reason())?;
    Ok(text.to_owned())
}

fn volume_name(text: &str) -> Result<String, &'static str> {
    name(text, check_volume_name)
}

fn device_name(text: &str) -> Result<String, &'static str> {
    if text.starts_with("/dev/") {
        return Err("give the name alone, without /dev/");
    }
    name(text, check_device_name)
}

fn policy(text: &str) -> Result<Policy, &'static str> {
    Policy::parse(text.as_bytes()).map_err(|error| error.reason())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_are_checked_as_the_module_checks_them() {
        for (words, reason) in [
            (&["volume", "create", "a/b", "1G"][..], "contains a slash"),
            (&["volume", "create", "a b", "1G"], "contains a space"),
            (&["volume", "create", "a", "1.5G"], "an integer, or one followed by"),
            (&["volume", "extend", "a", "513"], "not a multiple of 512"),
            (&["volume", "extend", "a", "0"], "the size is zero"),
            (&["volume", "destroy", ".."], "is . or .."),
            (&["attach", "a", "/dev/sda"], "without /dev/"),
            (&["attach", "a", "b!c"], "may have letters, digits"),
            (&["detach", ""], "the name is empty"),
            (&["device", "policy", "disk1", "hold"], "a policy is fail, queue or queue=SECONDS"),
            (&["device", "policy", "disk1", "queue=0"], "a number from 1 to 86400"),
        ] {
            let words = std::iter::once("srbctl").chain(words.iter().copied());
            let error = Cli::try_parse_from(words).expect_err("refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
