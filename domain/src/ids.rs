//! Identifiers in MGN's form: a prefix and seventeen characters of `[0-9a-zA-Z]`.
//!
//! New identifiers are made from 68 random bits given by the caller and use lower-case hexadecimal,
//! as AWS does; every identifier that AWS could have issued is accepted.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de};

const SUFFIX_LEN: usize = 17;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("{given:?} is not an identifier of the form {prefix}- and 17 letters or digits")]
    Form { prefix: &'static str, given: String },
    #[error("{0:?} is not an account: 12 digits are needed")]
    Account(String),
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            pub const PREFIX: &'static str = $prefix;

            /// Makes an identifier from the low 68 bits of `entropy`.
            pub fn from_entropy(entropy: u128) -> Self {
                Self(format!("{}-{:017x}", $prefix, entropy & ((1 << 68) - 1)))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(given: &str) -> Result<Self, InvalidId> {
                let suffix = given.strip_prefix($prefix).and_then(|rest| rest.strip_prefix('-'));
                match suffix {
                    Some(s) if s.len() == SUFFIX_LEN && s.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                        Ok(Self(given.to_owned()))
                    }
                    _ => Err(InvalidId::Form { prefix: $prefix, given: given.chars().take(64).collect() }),
                }
            }
        }
        string_form!($name);
    )*};
}

macro_rules! string_form {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(de::Error::custom)
            }
        }
    };
}

ids! {
    /// A server that is being moved.
    SourceServerId = "s";
    /// A launch or termination of one or more servers.
    JobId = "mgnjob";
    ApplicationId = "app";
    WaveId = "wave";
    /// A file that was handed in to be imported.
    ImportId = "import";
    ReplicationTemplateId = "rct";
    LaunchTemplateId = "lct";
    /// A member-runner. MGN's nearest word is the replicator, whose form this is.
    RunnerId = "r";
    /// A set of accounts with one way to reach them.
    OrganizationId = "org";
}

/// An AWS account number: twelve digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = InvalidId;

    fn from_str(given: &str) -> Result<Self, InvalidId> {
        if given.len() == 12 && given.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(given.to_owned()))
        } else {
            Err(InvalidId::Account(given.chars().take(64).collect()))
        }
    }
}
string_form!(AccountId);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn new_identifiers_have_the_lengths_that_mgn_documents() {
        assert_eq!(
            SourceServerId::from_entropy(u128::MAX).as_str(),
            "s-fffffffffffffffff"
        );
        assert_eq!(JobId::from_entropy(0).as_str().len(), 24);
    }

    #[test]
    fn an_identifier_of_another_kind_is_refused() {
        assert!("app-0123456789abcdef0".parse::<SourceServerId>().is_err());
        assert!("s-0123456789abcdef".parse::<SourceServerId>().is_err());
        assert!("12345678901".parse::<AccountId>().is_err());
    }

    proptest! {
        #[test]
        fn every_identifier_reads_back(entropy: u128) {
            let id = WaveId::from_entropy(entropy);
            prop_assert_eq!(id.as_str().parse::<WaveId>().unwrap(), id);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = text.parse::<SourceServerId>();
            let _ = text.parse::<AccountId>();
        }
    }
}
