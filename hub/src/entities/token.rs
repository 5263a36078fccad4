//! A one-time enrolment token, known by the digest of its secret only.

use domain::ids::AccountId;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Word;

/// Who may enrol with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TokenPurpose {
    Agent,
    Runner,
}

impl TokenPurpose {
    pub fn whom(self) -> &'static str {
        match self {
            Self::Agent => "an agent",
            Self::Runner => "a runner",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "tokens")]
pub struct Model {
    /// SHA-256 of the secret, hexadecimal.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    pub purpose: Word<TokenPurpose>,
    pub account: Word<AccountId>,
    pub created_by: String,
    pub created_at: i64,
    pub expires_at: i64,
    pub used_at: Option<i64>,
    /// The runner or source server that it made.
    pub used_by: Option<String>,
    /// SHA-256 of the public key that it was used for.
    pub used_key_sha256: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
