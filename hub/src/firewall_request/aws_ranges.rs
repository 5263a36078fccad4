//! The ranges of AWS's services, from the file `ip-ranges.json` that AWS publishes and an operator brings along.
//!
//! The hub fetches nothing: where firewalls are asked for by paper, it has no way to.

use std::{collections::BTreeSet, fs, io::Read, path::Path};

use domain::network::cidr::{Cidr, InvalidCidr};
use serde::Deserialize;

/// Ten times what AWS publishes.
const FILE_MAX: u64 = 32 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsRange {
    /// As the file calls it: `EBS`, `S3`.
    pub service: String,
    pub range: Cidr,
}

#[derive(Debug, thiserror::Error)]
pub enum RangesError {
    #[error("cannot read the ranges of AWS")]
    Read(#[source] std::io::Error),
    #[error("this file is longer than {} MiB, which no ip-ranges.json is", FILE_MAX >> 20)]
    TooLong,
    #[error("this is no ip-ranges.json as AWS publishes it")]
    Json(#[source] serde_json::Error),
    #[error("ip-ranges.json has a range of {service} in {region} that is none")]
    Range {
        service: String,
        region: String,
        #[source]
        source: InvalidCidr,
    },
    #[error("ip-ranges.json has no range of {service} in {region}; there it has {known}")]
    Unknown {
        service: String,
        region: String,
        known: String,
    },
}

#[derive(Deserialize)]
struct Published {
    prefixes: Vec<Prefix>,
    #[serde(default)]
    ipv6_prefixes: Vec<Prefix>,
}

#[derive(Deserialize)]
struct Prefix {
    #[serde(alias = "ip_prefix", alias = "ipv6_prefix")]
    range: String,
    region: String,
    service: String,
}

pub fn read(path: &Path, region: &str, services: &[String]) -> Result<Vec<AwsRange>, RangesError> {
    let mut text = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text))
        .map_err(RangesError::Read)?;
    if text.len() as u64 > FILE_MAX {
        return Err(RangesError::TooLong);
    }
    parse(&text, region, services)
}

/// The ranges of some services in a region; what lies within another range of the same service is left out.
fn parse(text: &[u8], region: &str, services: &[String]) -> Result<Vec<AwsRange>, RangesError> {
    let published: Published = serde_json::from_slice(text).map_err(RangesError::Json)?;
    let all = published.prefixes.iter().chain(&published.ipv6_prefixes);
    let here: Vec<_> = all.filter(|prefix| prefix.region == region).collect();
    let mut found = Vec::new();
    for service in services {
        let mut ranges = BTreeSet::new();
        for prefix in here.iter().filter(|prefix| prefix.service == *service) {
            let range: Cidr = prefix.range.parse().map_err(|source| RangesError::Range {
                service: service.clone(),
                region: region.to_owned(),
                source,
            })?;
            ranges.insert(range);
        }
        if ranges.is_empty() {
            return Err(RangesError::Unknown {
                service: service.clone(),
                region: region.to_owned(),
                known: known(&here),
            });
        }
        let outermost = |range: &&Cidr| {
            !ranges
                .iter()
                .any(|other| other != *range && other.contains(**range))
        };
        found.extend(ranges.iter().filter(outermost).map(|range| AwsRange {
            service: service.clone(),
            range: *range,
        }));
    }
    Ok(found)
}

fn known(here: &[&Prefix]) -> String {
    // A stranger's file: neither long nor able to write into a terminal.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: BTreeSet<&str> = here
        .iter()
        .map(|prefix| prefix.service.as_str())
        .filter(|name| name.len() <= 64 && name.chars().all(plain))
        .collect();
    if names.is_empty() {
        return "nothing: is this the name of a region?".into();
    }
    names.into_iter().take(50).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "syncToken": "1", "createDate": "2026-11-20-00-00-00",
        "prefixes": [
            {"ip_prefix": "198.51.100.0/24", "region": "ap-northeast-1", "service": "EBS", "network_border_group": "x"},
            {"ip_prefix": "198.51.100.64/26", "region": "ap-northeast-1", "service": "EBS", "network_border_group": "x"},
            {"ip_prefix": "203.0.113.0/24", "region": "us-east-1", "service": "EBS", "network_border_group": "x"},
            {"ip_prefix": "192.0.2.0/24", "region": "ap-northeast-1", "service": "S3", "network_border_group": "x"},
            {"ip_prefix": "192.0.2.1/24", "region": "ap-northeast-1", "service": "EC2", "network_border_group": "x"}
        ],
        "ipv6_prefixes": [
            {"ipv6_prefix": "2001:db8::/40", "region": "ap-northeast-1", "service": "S3", "network_border_group": "x"}
        ]
    }"#;

    fn ranges(region: &str, services: &[&str]) -> Result<Vec<String>, RangesError> {
        let services: Vec<_> = services.iter().map(|name| (*name).to_owned()).collect();
        let found = parse(FILE.as_bytes(), region, &services)?;
        Ok(found
            .iter()
            .map(|found| format!("{} {}", found.service, found.range))
            .collect())
    }

    #[test]
    fn the_ranges_of_a_service_in_a_region_are_found() {
        let found = ranges("ap-northeast-1", &["EBS", "S3"]).unwrap();
        assert_eq!(
            found,
            ["EBS 198.51.100.0/24", "S3 192.0.2.0/24", "S3 2001:db8::/40"]
        );
    }

    #[test]
    fn a_file_that_does_not_serve_says_why() {
        let unknown = ranges("ap-northeast-1", &["MGN"]).unwrap_err().to_string();
        assert!(unknown.ends_with("there it has EBS, EC2, S3"), "{unknown}");
        let nowhere = ranges("tokyo", &["EBS"]).unwrap_err().to_string();
        assert!(nowhere.ends_with("is this the name of a region?"), "{nowhere}");
        assert!(matches!(
            ranges("ap-northeast-1", &["EC2"]),
            Err(RangesError::Range { .. })
        ));
        assert!(matches!(parse(b"<html>", "x", &[]), Err(RangesError::Json(_))));
        assert!(matches!(
            read(Path::new("/dev/zero"), "x", &[]),
            Err(RangesError::TooLong)
        ));
        assert!(matches!(
            read(Path::new("/nowhere"), "x", &[]),
            Err(RangesError::Read(_))
        ));
    }
}
