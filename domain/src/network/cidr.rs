//! A range of addresses, as route tables, security groups and firewalls write it.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The address has no bit set beyond the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCidr {
    #[error("{0:?} is not a range of addresses such as 10.0.0.0/16, or one address")]
    Form(String),
    #[error("{given} has bits set beyond its prefix; did you mean {meant}?")]
    Bits { given: String, meant: Cidr },
}

impl Cidr {
    /// Every address of IPv4.
    pub const ANY_V4: Self = Self {
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        prefix: 0,
    };

    pub fn of(address: IpAddr) -> Self {
        let prefix = width(address);
        Self { address, prefix }
    }

    pub fn address(self) -> IpAddr {
        self.address
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether every address of `other` is one of these.
    pub fn contains(self, other: Self) -> bool {
        self.is_ipv6() == other.is_ipv6()
            && self.prefix <= other.prefix
            && cut(other.address, self.prefix) == self.address
    }

    /// Ranges are nested or apart.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// `None` for a single address.
    pub fn halves(self) -> Option<[Self; 2]> {
        let prefix = self.prefix + 1;
        if prefix > width(self.address) {
            return None;
        }
        let bit = u32::from(width(self.address) - prefix);
        let upper = match self.address {
            IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() | 1 << bit).into()),
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() | 1 << bit).into()),
        };
        Some([self.address, upper].map(|address| Self { address, prefix }))
    }

    /// Whether its addresses are for private networks only (RFC 1918, RFC 6598, RFC 4193).
    pub fn is_private(self) -> bool {
        [
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "fc00::/7",
        ]
        .iter()
        .filter_map(|range| range.parse::<Self>().ok())
        .any(|range| range.contains(self))
    }

    fn is_ipv6(self) -> bool {
        self.address.is_ipv6()
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

/// `address` without the bits beyond `prefix`.
fn cut(address: IpAddr, prefix: u8) -> IpAddr {
    let beyond = u32::from(width(address) - prefix);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(beyond).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(beyond).unwrap_or(0)).into()),
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let form = || InvalidCidr::Form(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| form())?;
        let prefix = match prefix {
            // A sign or a leading zero is somebody's mistake.
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|prefix: &u8| prefix.to_string() == digits)
                .ok_or_else(form)?,
            None => width(address),
        };
        if prefix > width(address) {
            return Err(form());
        }
        let meant = Self {
            address: cut(address, prefix),
            prefix,
        };
        if meant.address != address {
            return Err(InvalidCidr::Bits {
                given: format!("{address}/{prefix}"),
                meant,
            });
        }
        Ok(meant)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Cidr {
    type Error = InvalidCidr;

    fn try_from(text: String) -> Result<Self, InvalidCidr> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_nested_or_apart() {
        let outer = cidr("10.0.0.0/8");
        assert!(outer.contains(cidr("10.1.0.0/16")) && !cidr("10.1.0.0/16").contains(outer));
        assert!(outer.overlaps(cidr("0.0.0.0/0")) && !outer.overlaps(cidr("11.0.0.0/8")));
        assert!(!Cidr::ANY_V4.contains(cidr("::1")) && cidr("::/0").contains(cidr("fd00::/8")));
        assert_eq!(cidr("10.0.0.7"), cidr("10.0.0.7/32"));
        assert_eq!(
            cidr("10.0.0.0/31").halves(),
            Some([cidr("10.0.0.0"), cidr("10.0.0.1")])
        );
        assert_eq!(cidr("10.0.0.1").halves(), None);
        assert!(cidr("192.168.7.0/24").is_private() && !cidr("198.51.100.0/24").is_private());
        assert!(!Cidr::ANY_V4.is_private());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/08",
            "10.0.0/8",
            "x",
            "::/129",
        ] {
            assert!(matches!(bad.parse::<Cidr>(), Err(InvalidCidr::Form(_))), "{bad}");
        }
        let said = "10.1.2.3/16".parse::<Cidr>().unwrap_err().to_string();
        assert!(said.contains("did you mean 10.1.0.0/16?"), "{said}");
    }

    proptest! {
        #[test]
        fn a_range_is_its_halves(bits: u32, prefix in 0u8..32) {
            let whole = Cidr { address: cut(IpAddr::V4(bits.into()), prefix), prefix };
            prop_assert_eq!(whole.to_string().parse::<Cidr>().unwrap(), whole);
            let [low, high] = whole.halves().unwrap();
            prop_assert!(whole.contains(low) && whole.contains(high) && !low.overlaps(high));
        }
    }
}
