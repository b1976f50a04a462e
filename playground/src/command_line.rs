// SPDX-License-Identifier: GPL-2.0-only
//! The words of the command line: one definition gives the parser, `--help`, the manual page and
//! completion.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Parser};

use crate::{Config, Plan, Quirk};

/// A REST server for trying, testing and breaking srb. Not a storage product.
#[derive(Debug, Parser)]
#[command(name = "srb-playground", version)]
pub struct Options {
    /// The folder of the volumes, made if missing
    #[arg(long, value_name = "FOLDER", default_value_os_t = Config::default().datapath)]
    datapath: PathBuf,

    /// The port to listen on; 0 takes any free one
    #[arg(long, default_value_t = Config::default().port)]
    port: u16,

    /// The address to listen on; 0.0.0.0 or :: opens the server to the network
    #[arg(long, value_name = "ADDRESS", default_value_t = Config::default().listen)]
    listen: IpAddr,

    /// The repository's path in its URL
    #[arg(long, default_value_t = Config::default().path)]
    path: String,

    /// Answer a change when it is on the disk (fdatasync)
    #[arg(long)]
    sync: bool,

    /// Take a ranged PUT whose body is not as long as its range: the body's length counts
    #[arg(long)]
    lenient: bool,

    /// Let requests meet faults, as docs/faults.md describes:
    /// "seed=42 read:2%:delay=20..200 write:1%:lost-reply any:0.5%:reset-amid"
    #[arg(long, value_name = "PLAN")]
    faults: Option<Plan>,

    /// Change and count faults over HTTP on this port of 127.0.0.1; 0 takes any free one
    #[arg(long, value_name = "PORT")]
    admin_port: Option<u16>,

    /// Log each request to stderr; -vv logs what the libraries do
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Imitate a server's deviation; may be repeated
    #[arg(long = "quirk", value_name = "NAME", hide = true)]
    quirks: Vec<Quirk>,
}

impl From<Options> for Config {
    fn from(options: Options) -> Self {
        Self {
            datapath: options.datapath,
            listen: options.listen,
            port: options.port,
            path: options.path,
            sync: options.sync,
            lenient: options.lenient,
            quirks: options.quirks.into_iter().collect(),
            faults: options.faults,
            admin_port: options.admin_port,
            ..Self::default()
        }
    }
}
