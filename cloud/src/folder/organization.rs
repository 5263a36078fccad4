//! Who belongs to the organization, and who lets us in.

use std::{fs, path::Path};

use domain::{
    account::{ListedAccount, Reach},
    ids::AccountId,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::faults::Call;
use crate::{control::CloudError, files::write_json};

/// Stands where errors name an account, in calls that go to the organization as a whole.
pub(super) const NAME: &str = "of the organization";

/// `organization.json`: what the management account sees, itself included.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Organization {
    pub accounts: Vec<ListedAccount>,
}

/// `trust.json`: accounts outside of the organization whose administrators let us in by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Trust {
    pub accounts: Vec<AccountId>,
}

impl Organization {
    /// Writes the organization of a cloud.
    pub fn save(&self, root: &Path) -> std::io::Result<()> {
        write_json(&root.join("organization.json"), self)
    }
}

impl Trust {
    /// Writes who trusts us in a cloud.
    pub fn save(&self, root: &Path) -> std::io::Result<()> {
        write_json(&root.join("trust.json"), self)
    }
}

pub(super) fn list(root: &Path, reach: Reach) -> Result<Vec<ListedAccount>, CloudError> {
    let call = Call::ListAccounts;
    if reach == Reach::Roster {
        return Err(CloudError::Rejected {
            call: call.name(),
            account: NAME.into(),
            reason: "the accounts of a roster are listed by hand; there is nobody to ask".into(),
        });
    }
    let file = root.join("organization.json");
    let organization: Option<Organization> = read_json(call, NAME, &file)?;
    match organization {
        Some(organization) => Ok(organization.accounts),
        None => Err(CloudError::Denied {
            call: call.name(),
            account: NAME.into(),
            remedy: format!(
                "this cloud has no organization; list its accounts in {}",
                file.display()
            ),
        }),
    }
}

/// Whether the account lets us in.
pub(super) fn check_access(root: &Path, call: Call, account: &AccountId) -> Result<(), CloudError> {
    let denied = |remedy: String| {
        Err(CloudError::Denied {
            call: call.name(),
            account: account.to_string(),
            remedy,
        })
    };
    let organization: Organization =
        read_json(call, account.as_str(), &root.join("organization.json"))?.unwrap_or_default();
    match organization.accounts.iter().find(|listed| listed.id == *account) {
        Some(listed) if listed.suspended => {
            return denied("the account is suspended; its owner must have it reopened".into());
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let file = root.join("trust.json");
    let trust: Trust = read_json(call, account.as_str(), &file)?.unwrap_or_default();
    if trust.accounts.contains(account) {
        return Ok(());
    }
    denied(format!(
        "the account does not trust this hub; its administrator must add {account} to {}",
        file.display()
    ))
}

fn read_json<T: DeserializeOwned>(call: Call, account: &str, file: &Path) -> Result<Option<T>, CloudError> {
    let unreadable = |detail: String| CloudError::Unknown {
        call: call.name(),
        account: account.to_owned(),
        detail: format!("{}: {detail}", file.display()),
    };
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|e| unreadable(e.to_string())),
        Err(absent) if absent.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(unreadable(other.to_string())),
    }
}
