//! What a network team is asked to let through: every connection that the programs open, and no other.
//!
//! ```text
//! source servers ──1500, 443──▶ runner ──▶ hub
//!                                  └─443─▶ AWS, where its VPC has no endpoints for it
//! ```
//!
//! Nobody connects the other way, and no name service or proxy is on it: addresses are all that it takes.

use chrono::NaiveDate;
use domain::{ids::AccountId, network::cidr::Cidr};

pub mod aws_ranges;
mod render;
mod text;

pub use render::render;

use aws_ranges::AwsRange;

/// What is asked for. Built from a command line, so that each part is checked already.
#[derive(Debug, Clone)]
pub struct Request {
    pub account: AccountId,
    pub sources: Vec<Cidr>,
    pub runners: Vec<Cidr>,
    pub data_port: u16,
    pub enrol_port: u16,
    pub hub: Cidr,
    pub hub_port: u16,
    pub from: Option<NaiveDate>,
    pub until: Option<NaiveDate>,
    /// Where the runner reaches AWS over the internet; none if its VPC has endpoints.
    pub aws: Vec<AwsRange>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    Markdown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    En,
    Ja,
}

/// One rule of a firewall. All are TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub source: Cidr,
    pub destination: Cidr,
    pub port: u16,
    pub purpose: Purpose,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            source,
            destination,
            port,
            purpose,
        } = self;
        let direction = text::direction(Language::En, purpose);
        write!(f, "{direction}, {source} → {destination}, TCP {port}")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    Replication,
    Enrolment,
    Hub,
    /// A service of AWS, by the name it has in the published ranges.
    Aws(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{0} has no counterpart of its kind: give IPv4 with IPv4, and IPv6 with IPv6")]
    Family(Cidr),
    #[error("the period ends on {until}, before it begins on {from}")]
    Period { from: NaiveDate, until: NaiveDate },
    #[error(
        "{0} rules are more than a firewall is asked for at a time: give larger ranges, or fewer of them"
    )]
    TooMany(usize),
}

/// The most rules of one request.
const LINES_MAX: usize = 2000;

impl Request {
    /// The rules, in the order in which a server meets them.
    pub fn lines(&self) -> Result<Vec<Line>, RequestError> {
        if let (Some(from), Some(until)) = (self.from, self.until)
            && until < from
        {
            return Err(RequestError::Period { from, until });
        }
        let at_most = self.sources.len() * self.runners.len() * 2 + self.runners.len() * (1 + self.aws.len());
        if at_most > LINES_MAX {
            return Err(RequestError::TooMany(at_most));
        }
        let hub = [self.hub];
        let (sources, runners) = (&self.sources[..], &self.runners[..]);
        let mut lines = between(sources, runners, self.data_port, &Purpose::Replication)?;
        lines.extend(between(sources, runners, self.enrol_port, &Purpose::Enrolment)?);
        lines.extend(between(runners, &hub, self.hub_port, &Purpose::Hub)?);
        for range in &self.aws {
            let purpose = Purpose::Aws(range.service.clone());
            // AWS publishes ranges of both kinds, of which a runner may have one.
            let reached = runners
                .iter()
                .filter(|runner| is_same_kind(**runner, range.range));
            lines.extend(reached.map(|runner| Line {
                source: *runner,
                destination: range.range,
                port: HTTPS,
                purpose: purpose.clone(),
            }));
        }
        Ok(lines)
    }
}

const HTTPS: u16 = 443;

fn between(from: &[Cidr], to: &[Cidr], port: u16, purpose: &Purpose) -> Result<Vec<Line>, RequestError> {
    let mut lines = Vec::new();
    for source in from {
        let before = lines.len();
        let reached = to
            .iter()
            .filter(|destination| is_same_kind(*source, **destination));
        lines.extend(reached.map(|destination| Line {
            source: *source,
            destination: *destination,
            port,
            purpose: purpose.clone(),
        }));
        if lines.len() == before {
            return Err(RequestError::Family(*source));
        }
    }
    let unreached = to
        .iter()
        .find(|destination| !lines.iter().any(|line| line.destination == **destination));
    match unreached {
        Some(destination) => Err(RequestError::Family(*destination)),
        None => Ok(lines),
    }
}

fn is_same_kind(one: Cidr, other: Cidr) -> bool {
    one.address().is_ipv4() == other.address().is_ipv4()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn request() -> Request {
        let cidr = |text: &str| text.parse().unwrap();
        Request {
            account: "640000000001".parse().unwrap(),
            sources: vec![cidr("192.168.10.0/24"), cidr("192.168.20.0/24")],
            runners: vec![cidr("10.20.0.7")],
            data_port: 1500,
            enrol_port: 443,
            hub: cidr("10.9.0.4"),
            hub_port: 8443,
            from: NaiveDate::from_ymd_opt(2026, 12, 1),
            until: NaiveDate::from_ymd_opt(2027, 3, 31),
            aws: vec![AwsRange {
                service: "EBS".into(),
                range: cidr("198.51.100.0/24"),
            }],
        }
    }

    #[test]
    fn a_request_is_what_the_programs_open_and_no_more() {
        let lines = request().lines().unwrap();
        let told: Vec<_> = lines
            .iter()
            .map(|line| format!("{} -> {}:{}", line.source, line.destination, line.port))
            .collect();
        assert_eq!(
            told,
            [
                "192.168.10.0/24 -> 10.20.0.7/32:1500",
                "192.168.20.0/24 -> 10.20.0.7/32:1500",
                "192.168.10.0/24 -> 10.20.0.7/32:443",
                "192.168.20.0/24 -> 10.20.0.7/32:443",
                "10.20.0.7/32 -> 10.9.0.4/32:8443",
                "10.20.0.7/32 -> 198.51.100.0/24:443",
            ]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut mixed = request();
        mixed.sources.push("fd00::/64".parse().unwrap());
        assert_eq!(
            mixed.lines(),
            Err(RequestError::Family("fd00::/64".parse().unwrap()))
        );
        let mut backwards = request();
        std::mem::swap(&mut backwards.from, &mut backwards.until);
        assert!(matches!(backwards.lines(), Err(RequestError::Period { .. })));
        let mut endless = request();
        endless.sources = vec![endless.sources[0]; LINES_MAX];
        assert!(matches!(endless.lines(), Err(RequestError::TooMany(_))));
    }
}
