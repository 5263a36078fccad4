//! Accounts and the ways to reach them.

use serde::{Deserialize, Serialize};

use crate::ids::AccountId;

/// How the hub learns which accounts an organization has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Reach {
    /// The hub's own credentials belong to the management account.
    ManagementAccount,
    /// The hub's account was registered as a delegated administrator.
    DelegatedAdministrator,
    /// The accounts were listed by hand: for tenants whose management account is not theirs.
    Roster,
}

impl Reach {
    pub fn name(self) -> &'static str {
        match self {
            Self::ManagementAccount => "MANAGEMENT_ACCOUNT",
            Self::DelegatedAdministrator => "DELEGATED_ADMINISTRATOR",
            Self::Roster => "ROSTER",
        }
    }
}

/// An account as its organization, or the roster, lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAccount {
    pub id: AccountId,
    pub name: String,
    /// Where it is in its organization, such as `Root/Production`; nothing for a roster's.
    #[serde(default)]
    pub unit: String,
    pub suspended: bool,
}

/// What came of reaching into one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "access", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Access {
    NotAttempted,
    Ok,
    /// `call` was refused; `remedy` says who must change what.
    Denied {
        call: String,
        remedy: String,
    },
    Throttled,
    Suspended,
    /// The hub was told not to act there.
    LeftAlone {
        why: String,
    },
    /// Neither yes nor no: a fault on the way.
    Unknown {
        detail: String,
    },
}

impl Access {
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotAttempted => "NOT_ATTEMPTED",
            Self::Ok => "OK",
            Self::Denied { .. } => "DENIED",
            Self::Throttled => "THROTTLED",
            Self::Suspended => "SUSPENDED",
            Self::LeftAlone { .. } => "LEFT_ALONE",
            Self::Unknown { .. } => "UNKNOWN",
        }
    }
}
