//! Who somebody is to AWS: a request to STS that they signed, and that somebody else sends.
//!
//! The signature covers the host, the time, and two headers that say for whom and for which key the proof is. Whoever
//! checks it compares those, and asks STS, which alone can tell whether the signature is right.

use std::collections::BTreeMap;

use domain::ids::AccountId;
use serde::{Deserialize, Serialize};

/// SHA-256 of the certificate of the hub's authority, in hexadecimal.
pub const HUB_HEADER: &str = "x-orglift-hub";
/// SHA-256 of the public key that is to be certified, in hexadecimal.
pub const KEY_HEADER: &str = "x-orglift-key";
pub const CONTENT_TYPE: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Method and path are as fixed as it: `POST /`.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A signed `GetCallerIdentity`, as far as it is not the same each time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedCall {
    /// The host that was signed, with its port if that is unusual.
    pub host: String,
    /// With names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What a proof is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub hub: String,
    pub key: String,
}

/// A role as somebody has assumed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub account: AccountId,
    pub role: String,
    /// Of an instance, its id.
    pub session: String,
}

impl Caller {
    /// Reads `arn:aws:sts::111122223333:assumed-role/ROLE/SESSION`; `None` for users and for anything else.
    pub fn from_arn(arn: &str) -> Option<Self> {
        let parts: Vec<_> = arn.splitn(6, ':').collect();
        let [
            "arn",
            "aws" | "aws-us-gov" | "aws-cn",
            "sts",
            "",
            account,
            resource,
        ] = parts[..]
        else {
            return None;
        };
        let (role, session) = resource.strip_prefix("assumed-role/")?.split_once('/')?;
        Some(Self {
            account: account.parse().ok()?,
            role: role.to_owned(),
            session: session.to_owned(),
        })
    }
}

/// Where a proof for `host` may be sent: to a public endpoint of STS, or to one of `others`, which an administrator has
/// set. `None` for every other host: whoever proves something must not choose whom the hub calls.
pub fn endpoint(host: &str, others: &[String]) -> Option<String> {
    let authority = |url: &str| {
        let (_, rest) = url.split_once("://")?;
        Some(rest.trim_end_matches('/').to_owned())
    };
    if let Some(url) = others.iter().find(|url| authority(url).as_deref() == Some(host)) {
        return Some(format!("{}/", url.trim_end_matches('/')));
    }
    is_public(host).then(|| format!("https://{host}/"))
}

fn is_public(host: &str) -> bool {
    let (name, is_china) = match host.strip_suffix(".amazonaws.com.cn") {
        Some(name) => (name, true),
        None => match host.strip_suffix(".amazonaws.com") {
            Some(name) => (name, false),
            None => return false,
        },
    };
    if name == "sts" {
        return !is_china;
    }
    let region = name
        .strip_prefix("sts.")
        .or_else(|| name.strip_prefix("sts-fips."));
    region.is_some_and(|region| is_region(region) && region.starts_with("cn-") == is_china)
}

fn is_region(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else {
        return false;
    };
    let is_word =
        |word: &&str| (1..=12).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_lowercase());
    (2..=3).contains(&words.len())
        && words.iter().all(is_word)
        && number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_goes_to_sts_and_to_nobody_else() {
        for host in [
            "sts.amazonaws.com",
            "sts.eu-central-1.amazonaws.com",
            "sts-fips.us-east-1.amazonaws.com",
            "sts.us-gov-west-1.amazonaws.com",
            "sts.cn-north-1.amazonaws.com.cn",
        ] {
            assert_eq!(endpoint(host, &[]), Some(format!("https://{host}/")));
        }
        for host in [
            "",
            "localhost",
            "169.254.169.254",
            "[::1]",
            "sts.amazonaws.com.evil.example",
            "evil.example/sts.amazonaws.com",
            "sts.amazonaws.com:8443",
            "sts.amazonaws.com@evil.example",
            "evil.example#.amazonaws.com",
            "sts.eu-central-1.evil.amazonaws.com",
            "s3.eu-central-1.amazonaws.com",
            "sts.x.amazonaws.com",
            "sts.eu-central-1.amazonaws.com.cn",
            "sts.cn-north-1.amazonaws.com",
            "STS.amazonaws.com",
            "sts.amazonaws.com.",
        ] {
            assert_eq!(endpoint(host, &[]), None, "{host}");
        }
    }

    #[test]
    fn an_administrators_endpoint_is_called_as_it_was_set() {
        let others = ["http://127.0.0.1:5000".to_owned()];
        assert_eq!(
            endpoint("127.0.0.1:5000", &others).unwrap(),
            "http://127.0.0.1:5000/"
        );
        assert_eq!(endpoint("127.0.0.1:5001", &others), None);
        assert_eq!(endpoint("127.0.0.1", &others), None);
    }

    #[test]
    fn only_an_assumed_role_is_a_caller() {
        let arn = "arn:aws-us-gov:sts::111122223333:assumed-role/OrgliftRunner-us-gov-west-1/i-0abc";
        let caller = Caller::from_arn(arn).unwrap();
        assert_eq!(caller.account.as_str(), "111122223333");
        assert_eq!(
            (caller.role.as_str(), caller.session.as_str()),
            ("OrgliftRunner-us-gov-west-1", "i-0abc")
        );
        for other in [
            "arn:aws:iam::111122223333:user/assumed-role/OrgliftRunner/i-1",
            "arn:aws:iam::111122223333:root",
            "arn:aws:sts::111122223333:federated-user/OrgliftRunner",
            "arn:elsewhere:sts::111122223333:assumed-role/OrgliftRunner/i-1",
            "arn:aws:sts::1111:assumed-role/OrgliftRunner/i-1",
            "",
        ] {
            assert_eq!(Caller::from_arn(other), None, "{other}");
        }
    }
}
