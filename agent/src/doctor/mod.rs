//! `orglift-agent doctor`: whether the network lets this server replicate, and whose rule to change if not.
//!
//! It looks at what the agent will need and at nothing else: the two ports of the runner, since the agent never calls
//! the hub. Nothing is changed, no identity is made and no token is used up; every step has a time limit, and what is
//! sent to measure is bounded. The runner keeps nothing of it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use domain::ids::SourceServerId;
use identity::Credentials;

use self::{
    report::{Check, Measured, Report, Verdict},
    talk::{Answer, Broken, Talk},
};
use crate::{cli::chain, config::Config, names, session::inspect::Inspection, status::human_bytes};

mod certificate;
mod reach;
pub mod report;
mod socket;
mod talk;

/// Of a name that has more, the first ones are tried.
const ADDRESSES_MAX: usize = 4;
/// Segments of packets of 1400, 1280 and 576 bytes over IPv4: tunnels, the least of IPv6, the least of IPv4.
const SEGMENTS: [u16; 3] = [1360, 1240, 536];
/// More is worth a word; certificates bear an hour.
const CLOCK_MAX: Duration = Duration::from_mins(1);
/// For an answer within a connection that is open.
const IDENTITY_MAX: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub struct Doctor {
    pub runner_host: String,
    pub enrol_port: u16,
    pub data_port: u16,
    /// SHA-256 of the console's authority, if a token or an enrolment tells.
    pub authority: Option<[u8; 32]>,
    /// Of an agent that is installed for this very runner: it has no more use for the enrolment port.
    pub enrolled: Option<Enrolled>,
}

#[derive(Debug)]
pub struct Enrolled {
    pub credentials: Credentials,
    pub config: Config,
    pub server: SourceServerId,
}

impl Doctor {
    pub async fn run(self) -> Report {
        let mut checks = Vec::new();
        match names::addresses(&self.runner_host, self.enrol_port).await {
            Ok(addresses) => {
                let addresses: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).take(ADDRESSES_MAX).collect();
                checks.push(found(&self.runner_host, &addresses));
                checks.extend(self.enrolment(&addresses).await);
                checks.extend(self.replication(&addresses).await);
            }
            Err(error) => checks.push(Check {
                remedy: Some(
                    "Give the runner's IP address instead: the agent needs no name service. The console shows it."
                        .into(),
                ),
                ..Check::new("address", Verdict::NeedsAHand, chain(&error))
            }),
        }
        Report {
            runner: self.runner_host,
            checks,
        }
    }

    async fn enrolment(&self, addresses: &[IpAddr]) -> Vec<Check> {
        let (mut checks, spoken) = self.port(addresses, self.enrol_port).await;
        if let Some((to, talk)) = spoken {
            checks.extend(measure(to, talk).await);
        }
        if self.enrolled.is_some() {
            for check in &mut checks {
                if check.verdict == Verdict::NeedsAHand {
                    check.verdict = Verdict::NotTested;
                    check.detail += "; this server is enrolled, and does not need it";
                    check.remedy = None;
                }
            }
        }
        checks
    }

    async fn replication(&self, addresses: &[IpAddr]) -> Vec<Check> {
        let (mut checks, spoken) = self.port(addresses, self.data_port).await;
        if let (Some(enrolled), Some((to, _))) = (&self.enrolled, spoken) {
            checks.push(enrolled.check(to).await);
        }
        checks
    }

    /// Connects to each address, and gives the first on which the runner itself answers.
    async fn port(&self, addresses: &[IpAddr], port: u16) -> (Vec<Check>, Option<(SocketAddr, Talk)>) {
        let (mut checks, mut spoken) = (Vec::new(), None);
        for to in addresses.iter().map(|ip| SocketAddr::new(*ip, port)) {
            let between = (reach::source_towards(to), to);
            match Talk::open(to, None).await {
                Ok(talk) => {
                    checks.push(connected(between, talk.connected_in));
                    let shown = certificate::check(talk.chain(), self.authority, between);
                    if shown.verdict != Verdict::NeedsAHand {
                        spoken.get_or_insert((to, talk));
                    }
                    checks.push(shown);
                }
                Err(Broken::Unreached(unreached)) => checks.push(reach::check(to, &unreached)),
                Err(Broken::Stalled) => checks.push(stalled(between).await),
                Err(Broken::Foreign(error)) => checks.push(certificate::foreign(&error, between)),
                Err(Broken::Here(error)) => {
                    checks.push(Check::new("certificate", Verdict::NotTested, chain(&error)));
                }
            }
        }
        (checks, spoken)
    }
}

impl Enrolled {
    /// Whether the runner takes this server. Disturbs no session that there is.
    async fn check(&self, to: SocketAddr) -> Check {
        let asked = Inspection::open(&self.credentials, &self.config, &self.server, None);
        let told = |verdict, detail: String, remedy: Option<&str>| Check {
            to: Some(to),
            remedy: remedy.map(str::to_owned),
            ..Check::new("identity", verdict, detail)
        };
        match tokio::time::timeout(IDENTITY_MAX, asked).await {
            Ok(Ok(_)) => told(
                Verdict::Ok,
                format!("the runner takes this server as {}", self.server),
                None,
            ),
            Ok(Err(error)) => told(
                Verdict::NeedsAHand,
                chain(&error),
                Some(
                    "Look up this server in the console; if it was disconnected there, install the agent anew.",
                ),
            ),
            Err(_) => told(
                Verdict::NeedsAHand,
                format!("no answer within {} s", IDENTITY_MAX.as_secs()),
                Some("Look at the runner's log."),
            ),
        }
    }
}

fn found(host: &str, addresses: &[IpAddr]) -> Check {
    let is_literal = host.parse::<IpAddr>().is_ok();
    let listed = addresses
        .iter()
        .map(IpAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    let detail = if is_literal {
        format!("{listed}, as given: no name service is needed")
    } else {
        format!("{listed}, found for {host} in /etc/hosts or by the name service")
    };
    Check::new("address", Verdict::Ok, detail)
}

fn connected((from, to): (Option<IpAddr>, SocketAddr), took: Duration) -> Check {
    let milliseconds = took.as_secs_f64() * 1000.0;
    Check {
        from,
        to: Some(to),
        measured: Some(Measured {
            value: milliseconds,
            unit: "milliseconds",
        }),
        ..Check::new(
            "tcp",
            Verdict::Ok,
            format!(
                "connected from {}; there and back in {milliseconds:.1} ms",
                reach::source_name(from)
            ),
        )
    }
}

/// A connection stood and nothing long came through: whether shorter packets do.
async fn stalled((from, to): (Option<IpAddr>, SocketAddr)) -> Check {
    for segment in SEGMENTS {
        if Talk::open(to, Some(segment)).await.is_ok() {
            return black_hole((from, to), segment);
        }
    }
    Check {
        from,
        to: Some(to),
        remedy: Some(format!(
            "See whether orglift-runner works at {to}; if it does, have every device on the way pass TCP from {} to \
             {}, port {}, without proxy or inspection.",
            reach::source_name(from),
            to.ip(),
            to.port()
        )),
        ..Check::new(
            "tcp",
            Verdict::NeedsAHand,
            "connected, and then no answer, whatever the length of packets",
        )
    }
}

fn black_hole((from, to): (Option<IpAddr>, SocketAddr), segment: u16) -> Check {
    // Addresses and ports before each segment.
    let headers = if to.is_ipv6() { 60 } else { 40 };
    let mtu = segment + headers;
    let here = reach::source_name(from);
    Check {
        from,
        to: Some(to),
        remedy: Some(format!(
            "Let ICMP \"fragmentation needed\" (IPv4 type 3 code 4; IPv6 type 2) through between {here} and {}, both \
             ways; or clamp the MSS of TCP on the tunnel to {segment}; or set the MTU of this server's route: ip \
             route add {}{} via GATEWAY mtu lock {mtu}.",
            to.ip(),
            to.ip(),
            if to.is_ipv6() { "/128" } else { "/32" }
        )),
        measured: Some(Measured {
            value: f64::from(mtu),
            unit: "bytes",
        }),
        ..Check::new(
            "path-mtu",
            Verdict::NeedsAHand,
            format!(
                "long packets vanish, and those of {mtu} bytes pass: a black hole for path MTU discovery"
            ),
        )
    }
}

/// By the enrolment port, which takes bytes from anybody: what holds for the whole way to this address.
async fn measure(to: SocketAddr, talk: Talk) -> Vec<Check> {
    let from = reach::source_towards(to);
    let told = |check: Check| Check {
        from,
        to: Some(to),
        ..check
    };
    let (talk, answer) = match talk.probe().await {
        Ok(probed) => probed,
        Err(Broken::Stalled) => return vec![probe_shorter((from, to)).await],
        Err(error) => {
            let detail = format!("the connection broke in the middle: {error}");
            return vec![told(Check::new("path-mtu", Verdict::NeedsAHand, detail))];
        }
    };
    let mut checks = vec![told(path_mtu(&talk, &answer, to)), told(clock(&answer))];
    checks.push(told(match answer.status {
        204 => match Talk::open(to, None).await {
            Ok(fresh) => throughput(fresh.pour().await),
            Err(error) => throughput(Err(error)),
        },
        404 => Check::new(
            "throughput",
            Verdict::NotTested,
            "the runner is of a version that cannot be measured",
        ),
        503 => Check::new(
            "throughput",
            Verdict::NotTested,
            "somebody else is measuring; try again",
        ),
        status => Check::new(
            "throughput",
            Verdict::NotTested,
            format!("the runner answered {status}"),
        ),
    }));
    checks
}

async fn probe_shorter((from, to): (Option<IpAddr>, SocketAddr)) -> Check {
    for segment in SEGMENTS {
        let Ok(talk) = Talk::open(to, Some(segment)).await else {
            continue;
        };
        if talk.probe().await.is_ok() {
            return black_hole((from, to), segment);
        }
    }
    Check {
        from,
        to: Some(to),
        remedy: Some("Look at the runner's log; have no device on the way hold back what is sent.".into()),
        ..Check::new(
            "path-mtu",
            Verdict::NeedsAHand,
            "what is sent is not answered, whatever the length of packets",
        )
    }
}

fn path_mtu(talk: &Talk, answer: &Answer, to: SocketAddr) -> Check {
    match (answer.status, socket::path_mtu(talk.tcp(), to.is_ipv6())) {
        (204, Ok(mtu)) => Check {
            measured: Some(Measured {
                value: f64::from(mtu),
                unit: "bytes",
            }),
            ..Check::new("path-mtu", Verdict::Ok, format!("packets of {mtu} bytes pass"))
        },
        (204, Err(error)) => Check::new("path-mtu", Verdict::NotTested, error.to_string()),
        (status, _) => Check::new(
            "path-mtu",
            Verdict::NotTested,
            format!("the runner answered {status} before it took what was sent"),
        ),
    }
}

fn clock(answer: &Answer) -> Check {
    let Some(theirs) = answer.date else {
        return Check::new("clock", Verdict::NotTested, "the runner's answer has no date");
    };
    // Their date is cut to the second.
    let ahead = (answer.at - theirs).as_seconds_f64() - 0.5;
    let measured = Some(Measured {
        value: ahead,
        unit: "seconds ahead",
    });
    let off = ahead.abs();
    if off <= CLOCK_MAX.as_secs_f64() {
        return Check {
            measured,
            ..Check::new(
                "clock",
                Verdict::Ok,
                format!("within {:.0} s of the runner's", off.ceil()),
            )
        };
    }
    let direction = if ahead > 0.0 { "ahead of" } else { "behind" };
    Check {
        measured,
        remedy: Some(
            "Set the clock that is wrong, by NTP if there is one: certificates are refused outside their validity, \
             and the age of checkpoints is told by this server's clock."
                .into(),
        ),
        ..Check::new(
            "clock",
            Verdict::NeedsAHand,
            format!("{off:.0} s {direction} the runner's"),
        )
    }
}

fn throughput(measured: Result<f64, Broken>) -> Check {
    match measured {
        Ok(rate) => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "bytes of a few seconds"
            )]
            let shown = human_bytes(rate as u64);
            Check {
                measured: Some(Measured {
                    value: rate,
                    unit: "bytes per second",
                }),
                ..Check::new(
                    "throughput",
                    Verdict::Ok,
                    format!("{shown} a second, over one connection"),
                )
            }
        }
        Err(error) => Check::new(
            "throughput",
            Verdict::NotTested,
            format!("the measurement broke off: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};

    use super::*;

    #[test]
    fn a_clock_may_be_off_by_less_than_a_minute() {
        let answer = |ahead| Answer {
            status: 204,
            date: Some(Utc::now() - TimeDelta::seconds(ahead)),
            at: Utc::now(),
        };
        assert_eq!(clock(&answer(0)).verdict, Verdict::Ok);
        assert_eq!(clock(&answer(-58)).verdict, Verdict::Ok);
        let ahead = clock(&answer(3700));
        assert_eq!(ahead.verdict, Verdict::NeedsAHand);
        assert!(
            ahead.detail.contains("s ahead of the runner's"),
            "{}",
            ahead.detail
        );
        assert!(clock(&answer(-3700)).detail.contains("behind"));
        let undated = Answer {
            date: None,
            ..answer(0)
        };
        assert_eq!(clock(&undated).verdict, Verdict::NotTested);
    }

    #[test]
    fn a_black_hole_is_told_with_the_length_that_passes() {
        let between = (
            Some("198.51.100.4".parse().unwrap()),
            "192.0.2.7:443".parse().unwrap(),
        );
        let check = black_hole(between, 1360);
        let remedy = check.remedy.unwrap();
        assert!(
            remedy.contains("192.0.2.7/32 via GATEWAY mtu lock 1400"),
            "{remedy}"
        );
        assert!(check.detail.contains("1400 bytes"), "{}", check.detail);
    }
}
