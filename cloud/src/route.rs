//! How the accounts of an organization are reached, and on whose errand.
//!
//! ```text
//! the hub's own credentials ─▶ roles on the way, such as a delegate's ─▶ the member role of an account
//! ```

use std::{collections::BTreeSet, path::PathBuf};

use domain::ids::AccountId;
use serde::{Deserialize, Serialize};

/// The role in every account, unless its organization names it otherwise.
pub const MEMBER_ROLE: &str = "OrgliftMember";

/// What the onboarding template calls the role of a runner, before the region.
pub const RUNNER_ROLE: &str = "OrgliftRunner";

/// The way into all accounts of one organization or roster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Route {
    /// With which the hub sets out; `None` for what its environment or instance gives it.
    pub profile: Option<Profile>,
    /// Roles that are assumed one after the other, before that of a member.
    pub through: Vec<Hop>,
    /// The role in every account, by its name.
    pub member_role: String,
    /// The role of each account's runner, by its name; `None` for what the onboarding template calls it.
    pub runner_role: Option<String>,
    /// Says to the member role on whose behalf the hub comes. Whoever wrote the role knows it as well.
    pub external_id: Option<String>,
    /// Where the hub may act. It calls no other region.
    pub regions: BTreeSet<String>,
    /// Accounts that the hub never enters, whatever their organization lists.
    pub denied: BTreeSet<AccountId>,
    /// Whether the hub may act in the account that it sets out from.
    pub own_account: bool,
    pub endpoints: Endpoints,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            profile: None,
            through: Vec::new(),
            member_role: MEMBER_ROLE.into(),
            runner_role: None,
            external_id: None,
            regions: BTreeSet::new(),
            denied: BTreeSet::new(),
            own_account: false,
            endpoints: Endpoints::default(),
        }
    }
}

impl Route {
    /// The role by which a runner in this region proves who it is.
    pub fn runner_role(&self, region: &str) -> String {
        let of_template = || format!("{RUNNER_ROLE}-{region}");
        self.runner_role.clone().unwrap_or_else(of_template)
    }
}

/// Of AWS's files of credentials.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    /// `None` for those in the usual places.
    pub file: Option<PathBuf>,
}

/// A role on the way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hop {
    pub role_arn: String,
    pub external_id: Option<String>,
}

/// What is called, if not the public endpoints of a region.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Endpoints {
    pub url: Option<String>,
    pub fips: bool,
    pub dual_stack: bool,
}

/// Who has something done, and why: every session in an account says it, in the account's own audit log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Errand {
    pub who: String,
    pub why: String,
}

impl Errand {
    /// What the hub does by itself.
    pub fn own(why: impl Into<String>) -> Self {
        Self {
            who: "hub".into(),
            why: why.into(),
        }
    }
}
