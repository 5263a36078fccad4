//! What a template is made for, as it is given on the command line. Each value is of a form that leaves no room for
//! anything else: no quote, no line end, no `$`. It is a value of a parameter of the template, never a part of its text.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Serialize, Serializer};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {what}")]
pub struct InvalidValue {
    given: String,
    what: &'static str,
}

/// The patterns are those that the parameters of the template ask for, too.
macro_rules! values {
    ($($(#[$doc:meta])* $name:ident is $what:literal if $holds:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(given: &str) -> Result<Self, InvalidValue> {
                let holds: fn(&str) -> bool = $holds;
                if given.len() <= LONGEST && holds(given) {
                    return Ok(Self(given.to_owned()));
                }
                let given = given.chars().take(64).collect();
                Err(InvalidValue { given, what: $what })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}

/// An ARN has at most so many characters, and nothing else here has more.
const LONGEST: usize = 2048;

values! {
    /// A role or user of the hub.
    Principal is "the ARN of an IAM role or user, such as arn:aws:iam::444455556666:role/OrgliftHub"
        if |text| iam_arn(text, &["role/", "user/"]);
    /// A role that launched instances may have.
    InstanceRole is "the ARN of an IAM role" if |text| iam_arn(text, &["role/"]);
    Key is "the ARN of a KMS key, such as arn:aws:kms:eu-central-1:111122223333:key/…"
        if |text| arn(text, "kms").is_some_and(|(region, resource)| {
            is_region(region) && resource.strip_prefix("key/").is_some_and(|id| is_name(id, 36, "-"))
        });
    ExternalId is "an external id: 8 to 128 letters, digits and +=,.@:/-_"
        if |text| text.len() >= 8 && is_name(text, 128, "+=,.@:/-_");
    RoleName is "the name of a role: at most 64 letters, digits and +=,.@-_"
        if |text| is_name(text, 64, "+=,.@-_");
    Region is "a region, such as eu-central-1" if is_region;
    SourceRange is "a range of IPv4 addresses, such as 10.20.0.0/16" if is_range;
    RunnerVersion is "a version: letters, digits, dots, dashes and plus signs"
        if |text| is_name(text, 64, ".-+") && !text.contains("..");
    Sha256 is "a SHA-256 digest: 64 hexadecimal digits in lower case"
        if |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    HostName is "a name or an IPv4 address" if |text| is_name(text, 253, ".-") && !text.starts_with('-');
}

impl Region {
    /// Of the region's partition, for policies that are not resolved by CloudFormation: its name and its suffix.
    pub fn partition(&self) -> (&'static str, &'static str) {
        partition(&self.0)
    }
}

/// Name and suffix of the partition that a region is of.
pub fn partition(region: &str) -> (&'static str, &'static str) {
    match region.split('-').next() {
        Some("cn") => ("aws-cn", "amazonaws.com.cn"),
        Some("us") if region.starts_with("us-gov-") => ("aws-us-gov", "amazonaws.com"),
        _ => ("aws", "amazonaws.com"),
    }
}

/// Where runners reach the hub, HOST:PORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubAddress {
    pub host: HostName,
    pub port: u16,
}

impl FromStr for HubAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts = text.rsplit_once(':');
        let parsed = parts.and_then(|(host, port)| Some((host.parse().ok()?, port.parse().ok()?)));
        match parsed {
            Some((host, port)) if port > 0 => Ok(Self { host, port }),
            _ => Err(InvalidValue {
                given: text.chars().take(64).collect(),
                what: "the address of a hub: HOST:PORT",
            }),
        }
    }
}

fn is_name(text: &str, most: usize, marks: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || marks.contains(c);
    !text.is_empty() && text.len() <= most && text.chars().all(allowed)
}

fn is_region(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let (Some(number), true) = (parts.last(), (3..=4).contains(&parts.len())) else {
        return false;
    };
    let words = &parts[..parts.len() - 1];
    number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
        && words
            .iter()
            .all(|word| !word.is_empty() && word.len() <= 12 && word.bytes().all(|b| b.is_ascii_lowercase()))
}

fn is_range(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let plain_number = bits.len() <= 2 && !bits.starts_with('+');
    match (address.parse::<IpAddr>(), bits.parse::<u32>()) {
        (Ok(IpAddr::V4(address)), Ok(bits @ 1..=32)) if plain_number => {
            u32::from(address).checked_shl(bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Region and resource of an ARN of `service`.
fn arn<'a>(text: &'a str, service: &str) -> Option<(&'a str, &'a str)> {
    let parts: Vec<_> = text.splitn(6, ':').collect();
    let [
        "arn",
        "aws" | "aws-us-gov" | "aws-cn",
        of,
        region,
        account,
        resource,
    ] = parts[..]
    else {
        return None;
    };
    let is_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    (of == service && is_account).then_some((region, resource))
}

fn iam_arn(text: &str, kinds: &[&str]) -> bool {
    arn(text, "iam").is_some_and(|(region, resource)| {
        let name = kinds.iter().find_map(|kind| resource.strip_prefix(kind));
        // A path of the role may stand before its name.
        region.is_empty() && name.is_some_and(|name| is_name(name, 576, "+=,.@-_/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<T: FromStr>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text}");
        }
        let hostile = [
            "",
            "'; rm -rf / #",
            "\"}]}",
            "${AWS::AccountId}",
            "a\nb",
            "a b",
            "$(id)",
            "`id`",
            "a\\b",
            "*",
            "ä",
            "{\"Ref\":\"x\"}",
        ];
        for text in bad.iter().chain(&hostile) {
            assert!(text.parse::<T>().is_err(), "{text}");
        }
        assert!("a".repeat(5000).parse::<T>().is_err());
    }

    #[test]
    fn arns_name_one_thing_in_one_account() {
        takes::<Principal>(
            &[
                "arn:aws:iam::444455556666:role/OrgliftHub",
                "arn:aws-us-gov:iam::444455556666:role/path/to/Hub",
                "arn:aws-cn:iam::444455556666:user/hub",
            ],
            &[
                "arn:aws:iam::444455556666:root",
                "arn:aws:iam::444455556666:role/",
                "arn:aws:iam::444455556666:role/*",
                "arn:aws:iam::4444:role/Hub",
                "arn:nowhere:iam::444455556666:role/Hub",
                "arn:aws:sts::444455556666:assumed-role/Hub/x",
                "444455556666",
            ],
        );
        takes::<InstanceRole>(
            &["arn:aws:iam::111122223333:role/Web"],
            &["arn:aws:iam::111122223333:user/Web"],
        );
        takes::<Key>(
            &["arn:aws:kms:eu-central-1:111122223333:key/0c1d2e3f-0000-4000-8000-000000000000"],
            &[
                "arn:aws:kms:eu-central-1:111122223333:alias/orglift",
                "arn:aws:kms::111122223333:key/0c1d2e3f",
                "arn:aws:kms:eu-central-1:111122223333:key/*",
            ],
        );
    }

    #[test]
    fn plain_values_are_of_few_characters() {
        takes::<ExternalId>(&["orglift-7f3c", "a:b/c@d.e,f=g+h"], &["short", "seven77"]);
        takes::<RoleName>(&["OrgliftMember"], &["a/b", "a:b"]);
        takes::<Region>(
            &[
                "eu-central-1",
                "us-gov-west-1",
                "cn-northwest-1",
                "ap-southeast-7",
            ],
            &["eu-central", "eu--1", "EU-central-1", "eu-central-1a"],
        );
        takes::<SourceRange>(
            &["10.0.0.0/8", "192.168.7.9/32", "10.20.0.0/16"],
            // Everybody; bits beyond the prefix; not IPv4.
            &[
                "0.0.0.0/0",
                "10.0.0.1/8",
                "10.0.0.0/33",
                "10.0.0.0",
                "10.0.0.0/+8",
                "fd00::/8",
            ],
        );
        takes::<RunnerVersion>(&["0.1.0", "1.2.3-rc.1+5"], &["../../x", "1..2", "1/2"]);
        takes::<Sha256>(
            &[&"0a".repeat(32)],
            &[&"0A".repeat(32), &"0g".repeat(32), &"0a".repeat(31)],
        );
    }

    #[test]
    fn a_hub_has_a_host_and_a_port() {
        takes::<HubAddress>(
            &["hub.example.com:8443", "10.1.2.3:443"],
            &["hub", "hub:0", "hub:70000", "-hub:1", ":8443", "https://hub:8443"],
        );
    }

    #[test]
    fn a_region_tells_its_partition() {
        let partition = |text: &str| text.parse::<Region>().unwrap().partition().0;
        assert_eq!(partition("us-gov-east-1"), "aws-us-gov");
        assert_eq!(partition("cn-north-1"), "aws-cn");
        assert_eq!(partition("us-east-1"), "aws");
    }
}
