//! The accounts of an organization, from its tree, which is walked once from its roots.
//!
//! Asking for the parents of each account instead is throttled in organizations of some hundred accounts.

use std::collections::VecDeque;

use aws_config::SdkConfig;
use aws_sdk_organizations::{
    Client,
    types::{Account, AccountState, AccountStatus, Root},
};
use domain::account::ListedAccount;

use super::{failure::Failure, sessions::ORGANIZATION};
use crate::control::CloudError;

/// A unit whose children are still to be listed.
struct Unit {
    id: String,
    path: String,
}

pub(super) async fn accounts(config: &SdkConfig) -> Result<Vec<ListedAccount>, CloudError> {
    let client = Client::new(config);
    let roots = client.list_roots().send().await;
    let roots = roots.map_err(|error| refused("organizations:ListRoots", &Failure::of(&error)))?;
    let root = |root: &Root| Unit {
        id: root.id().unwrap_or_default().to_owned(),
        path: root.name().unwrap_or("Root").to_owned(),
    };
    let mut units: VecDeque<_> = roots.roots().iter().map(root).collect();
    let mut accounts = Vec::new();
    while let Some(unit) = units.pop_front() {
        let call = "organizations:ListAccountsForParent";
        let members = client.list_accounts_for_parent().parent_id(&unit.id);
        let mut members = members.into_paginator().send();
        while let Some(page) = members.next().await {
            let page = page.map_err(|error| refused(call, &Failure::of(&error)))?;
            accounts.extend(page.accounts().iter().filter_map(|member| listed(member, &unit)));
        }
        let call = "organizations:ListOrganizationalUnitsForParent";
        let children = client.list_organizational_units_for_parent().parent_id(&unit.id);
        let mut children = children.into_paginator().send();
        while let Some(page) = children.next().await {
            let page = page.map_err(|error| refused(call, &Failure::of(&error)))?;
            units.extend(page.organizational_units().iter().map(|child| Unit {
                id: child.id().unwrap_or_default().to_owned(),
                path: format!("{}/{}", unit.path, one_name(child.name().unwrap_or_default())),
            }));
        }
    }
    Ok(accounts)
}

/// AWS allows slashes in the names of units. One that is called `A/B` must not pass for a unit `B` within `A`: people
/// are given rights by these paths.
fn one_name(name: &str) -> String {
    name.replace('/', "\u{2215}")
}

/// `None` for what is no account yet, or none any more.
fn listed(account: &Account, unit: &Unit) -> Option<ListedAccount> {
    let suspended = match (account.state(), is_active(account)) {
        (Some(AccountState::PendingActivation | AccountState::Closed), _) => return None,
        (Some(state), _) => *state != AccountState::Active,
        (None, active) => !active,
    };
    let id = account.id().unwrap_or_default();
    Some(ListedAccount {
        id: id.parse().ok()?,
        name: account.name().unwrap_or(id).to_owned(),
        unit: unit.path.clone(),
        suspended,
    })
}

/// By what the field `state` replaces; older endpoints have only this.
#[allow(deprecated)]
fn is_active(account: &Account) -> bool {
    account.status() == Some(&AccountStatus::Active)
}

fn refused(call: &'static str, failure: &Failure) -> CloudError {
    failure.at(call, ORGANIZATION, |why| {
        format!(
            "the organization may not be read ({why}); let the hub's role call it, register its account as a delegated \
             administrator, or list the accounts as a roster"
        )
    })
}
