//! Three networks and the firewall between them, as network namespaces.
//!
//! ```text
//! source 192.168.10.10 ─┐
//!                       ├─ router: nftables, drops what no rule names
//! staging 10.20.0.7 ────┤
//! hub 10.9.0.4 ─────────┘
//! ```

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    os::fd::AsFd,
    path::PathBuf,
    process::{Command, Stdio},
};

use lab::programs::folder_under_test;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

pub const SOURCES: &str = "192.168.10.0/24";
pub const SOURCE: &str = "192.168.10.10";
pub const RUNNER: &str = "10.20.0.7";
pub const HUB: &str = "10.9.0.4";

#[derive(Debug, Clone, Copy)]
pub enum Zone {
    Source,
    Staging,
    Hub,
}

impl Zone {
    const ALL: [Self; 3] = [Self::Source, Self::Staging, Self::Hub];

    fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Staging => "staging",
            Self::Hub => "hub",
        }
    }

    fn address(self) -> &'static str {
        match self {
            Self::Source => SOURCE,
            Self::Staging => RUNNER,
            Self::Hub => HUB,
        }
    }

    /// The router's address there.
    fn gateway(self) -> String {
        let (network, _) = self.address().rsplit_once('.').unwrap();
        format!("{network}.1")
    }
}

/// One line of a firewall request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    pub source: String,
    pub destination: String,
    pub port: String,
}

/// Removes its namespaces when it is dropped.
pub struct Site {
    names: String,
    pub folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        let zones = Zone::ALL.map(Zone::name);
        for zone in zones.iter().chain(&["router"]) {
            // It may never have been made.
            let _ = command("ip", &["netns", "delete", &format!("{}-{zone}", self.names)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Site {
    /// `None`, and why on one line, where the machine does not let a test do this. Where `CI=true`, that is a failure.
    pub fn new() -> Option<Self> {
        let site = Self {
            names: format!("orglift-{}", std::process::id()),
            folder: tempfile::tempdir().unwrap(),
        };
        let router = site.namespace("router");
        let possible = if rustix::process::geteuid().is_root() {
            ip(&["netns", "add", &router]).and_then(|()| site.firewall(&[]))
        } else {
            Err("only root makes network namespaces".into())
        };
        if let Err(why) = possible {
            eprintln!("cannot run here: networks behind a firewall: {why}");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
            return None;
        }
        for zone in Zone::ALL {
            site.join(zone, &router).unwrap();
        }
        let forward = "echo 1 >/proc/sys/net/ipv4/ip_forward";
        ip(&["netns", "exec", &router, "sh", "-c", forward]).unwrap();
        Some(site)
    }

    fn join(&self, zone: Zone, router: &str) -> Result<(), String> {
        let (there, name) = (self.namespace(zone.name()), zone.name());
        ip(&["netns", "add", &there])?;
        let peer = ["peer", "name", "eth0", "netns", &there];
        ip(&[&["link", "add", name, "netns", router, "type", "veth"][..], &peer].concat())?;
        let (gateway, address) = (zone.gateway(), zone.address());
        ip(&[
            "-n",
            router,
            "address",
            "add",
            &format!("{gateway}/24"),
            "dev",
            name,
        ])?;
        ip(&["-n", router, "link", "set", name, "up"])?;
        ip(&[
            "-n",
            &there,
            "address",
            "add",
            &format!("{address}/24"),
            "dev",
            "eth0",
        ])?;
        ip(&["-n", &there, "link", "set", "lo", "up"])?;
        ip(&["-n", &there, "link", "set", "eth0", "up"])?;
        ip(&["-n", &there, "route", "add", "default", "via", &gateway])
    }

    fn namespace(&self, zone: &str) -> String {
        format!("{}-{zone}", self.names)
    }

    /// Lets through what is listed and nothing else, answers included: by address and port alone, so that a line that
    /// is taken out ends connections that were open.
    pub fn firewall(&self, openings: &[Opening]) -> Result<(), String> {
        let mut rules = String::from(
            "flush ruleset\ntable inet firewall {\n chain forward {\n  type filter hook forward priority 0; policy drop;\n",
        );
        for Opening {
            source,
            destination,
            port,
        } in openings
        {
            // Writing to a String cannot fail.
            let _ = write!(
                rules,
                "  ip saddr {source} ip daddr {destination} tcp dport {port} accept\n  \
                 ip saddr {destination} ip daddr {source} tcp sport {port} tcp flags & (syn | ack) != syn accept\n"
            );
        }
        rules.push_str(" }\n}\n");
        self.nft(&rules)
    }

    /// Long packets between the source network and the runner vanish, and nobody is told.
    pub fn swallow_long_packets(&self, mtu: &str) {
        let router = self.namespace("router");
        ip(&["-n", &router, "link", "set", Zone::Staging.name(), "mtu", mtu]).unwrap();
        let silence = "table inet silence {\n chain output {\n  type filter hook output priority 0;\n  \
                       meta l4proto icmp drop\n }\n}\n";
        self.nft(silence).unwrap();
    }

    fn nft(&self, rules: &str) -> Result<(), String> {
        let file = self.folder.path().join("rules.nft");
        fs::File::create(&file)
            .and_then(|mut file| file.write_all(rules.as_bytes()))
            .map_err(|error| error.to_string())?;
        let router = self.namespace("router");
        ip(&["netns", "exec", &router, "nft", "-f", file.to_str().unwrap()])
    }

    /// Does something in a zone, on a thread of its own.
    pub fn inside<T: Send>(&self, zone: Zone, task: impl Future<Output = T> + Send) -> T {
        let namespace = fs::File::open(format!("/run/netns/{}", self.namespace(zone.name()))).unwrap();
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(task)
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// A program of ours in a zone.
    pub fn program(&self, zone: Zone, program: &str) -> Command {
        let file: PathBuf = folder_under_test().unwrap().join(program);
        let namespace = self.namespace(zone.name());
        let mut command = command("ip", &["netns", "exec", &namespace]);
        command.arg(file);
        command
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output = command("ip", args)
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}

fn command(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}
