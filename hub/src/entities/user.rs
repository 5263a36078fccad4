//! Somebody who may sign in.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Doc;

/// What a user may do; each may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    Viewer,
    /// Replication and tests.
    Operator,
    /// Cutover, finalize and disconnect.
    Approver,
    /// Accounts, tokens, certificates and users.
    Administrator,
}

impl UserRole {
    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Administrator => "administrator",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Argon2id, as a PHC string. Empty for whom the identity provider vouches.
    pub password: String,
    pub created_at: i64,
    /// Issuer and subject at the identity provider.
    pub subject: Option<String>,
    /// The password was made by somebody else: it is good for nothing but to choose another.
    pub one_time: bool,
    /// For the day on which nobody else gets in.
    pub break_glass: bool,
    /// The secret of the authenticator app, sealed.
    pub totp: Option<String>,
    /// The period of the last code that was used: none is good twice.
    pub totp_step: i64,
    /// Since the last success.
    pub failures: i32,
    pub locked_until: Option<i64>,
    pub disabled_at: Option<i64>,
    pub signed_in_at: Option<i64>,
    /// `en` or `ja`; empty for what the browser asks for.
    pub language: String,
    pub preferences: Doc<Preferences>,
}

/// What somebody has set for oneself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Of the list of source servers; `None` for the usual ones.
    pub columns: Option<Vec<String>>,
    pub filters: Vec<SavedFilter>,
    /// Single keys do nothing.
    pub no_keys: bool,
}

/// A list of source servers that somebody comes back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFilter {
    pub name: String,
    /// Of the address of the list, without its question mark.
    pub query: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
