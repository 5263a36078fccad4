//! Whether rules that are tried in order let all of a traffic through.
//!
//! Security groups, network ACLs and route tables are all of this kind: entries in an order, each for a range of
//! addresses and ports, of which the first that matches decides. A security group has no entry that forbids; a route
//! table is in the order of its prefixes, the longest first.

use std::ops::RangeInclusive;

use super::cidr::Cidr;

pub type Ports = RangeInclusive<u16>;

pub const ALL_PORTS: Ports = 0..=u16::MAX;

/// Traffic with, or to, these addresses at these ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    pub with: Cidr,
    pub ports: Ports,
}

/// `name` is the caller's, to tell which entry decided.
#[derive(Debug, Clone)]
pub struct Entry<N> {
    pub name: N,
    pub permits: bool,
    pub with: Cidr,
    pub ports: Ports,
}

/// Some of the traffic does not get through: by an entry that forbids it, or for want of one that permits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped<N> {
    pub by: Option<N>,
    /// A part that is stopped, not all of it.
    pub part: Traffic,
}

pub fn permits<N: Clone>(entries: &[Entry<N>], traffic: &Traffic) -> Result<(), Stopped<N>> {
    let mut undecided = vec![traffic.clone()];
    for entry in entries {
        let mut left = Vec::new();
        for part in undecided {
            if !entry.matches(&part) {
                left.push(part);
                continue;
            }
            if !entry.permits {
                return Err(Stopped {
                    by: Some(entry.name.clone()),
                    part: entry.common(&part),
                });
            }
            entry.take_from(part, &mut left);
        }
        undecided = left;
    }
    match undecided.pop() {
        Some(part) => Err(Stopped { by: None, part }),
        None => Ok(()),
    }
}

impl<N> Entry<N> {
    fn matches(&self, part: &Traffic) -> bool {
        self.with.overlaps(part.with)
            && self.ports.start() <= part.ports.end()
            && part.ports.start() <= self.ports.end()
    }

    /// What is in both, if they match.
    fn common(&self, part: &Traffic) -> Traffic {
        Traffic {
            with: if part.with.contains(self.with) {
                self.with
            } else {
                part.with
            },
            ports: *self.ports.start().max(part.ports.start())..=*self.ports.end().min(part.ports.end()),
        }
    }

    /// Leaves what of a part that it matches is not its own. At most two pieces for ports, and one for each bit by
    /// which its prefix is longer.
    fn take_from(&self, part: Traffic, left: &mut Vec<Traffic>) {
        let Traffic { mut with, ports } = part;
        while !self.with.contains(with) {
            // They overlap, so that this one is the larger.
            let Some([low, high]) = with.halves() else { break };
            let (inside, outside) = if low.overlaps(self.with) {
                (low, high)
            } else {
                (high, low)
            };
            left.push(Traffic {
                with: outside,
                ports: ports.clone(),
            });
            with = inside;
        }
        if ports.start() < self.ports.start() {
            let ports = *ports.start()..=self.ports.start() - 1;
            left.push(Traffic { with, ports });
        }
        if self.ports.end() < ports.end() {
            let ports = self.ports.end() + 1..=*ports.end();
            left.push(Traffic { with, ports });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    /// What the first entry that matches says of one packet.
    fn passes(entries: &[Entry<usize>], address: Ipv4Addr, port: u16) -> bool {
        let address = Cidr::of(IpAddr::V4(address));
        let first = entries
            .iter()
            .find(|entry| entry.with.contains(address) && entry.ports.contains(&port));
        first.is_some_and(|entry| entry.permits)
    }

    /// Eight addresses and eight ports, so that entries often meet.
    fn small() -> impl Strategy<Value = Traffic> {
        (0u32..8, 29u8..=32, 0u16..8, 0u16..8).prop_map(|(bits, prefix, one, other)| {
            let bits = bits & u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap();
            Traffic {
                with: format!("{}/{prefix}", Ipv4Addr::from(bits)).parse().unwrap(),
                ports: one.min(other)..=one.max(other),
            }
        })
    }

    proptest! {
        #[test]
        fn all_of_a_traffic_passes_if_each_packet_does(
            traffic in small(),
            entries in prop::collection::vec((small(), any::<bool>()), 0..8),
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .enumerate()
                .map(|(name, (Traffic { with, ports }, permits))| Entry { name, permits, with, ports })
                .collect();
            let packets = (0u32..8).flat_map(|bits| (0u16..8).map(move |port| (Ipv4Addr::from(bits), port)));
            let mut of_it = packets.filter(|(address, port)| {
                traffic.with.contains(Cidr::of(IpAddr::V4(*address))) && traffic.ports.contains(port)
            });
            let all_pass = of_it.all(|(address, port)| passes(&entries, address, port));
            let outcome = permits(&entries, &traffic);
            prop_assert_eq!(outcome.is_ok(), all_pass, "{:?}", outcome);
        }
    }
}
