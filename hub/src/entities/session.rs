//! A signed-in browser, known by the digest of its cookie.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Word;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The password was right. A code of the second factor, or a reason, is awaited.
    Waiting,
    Open,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub sha256: String,
    pub user: String,
    pub created_at: i64,
    pub idle_until: i64,
    pub ends_at: i64,
    pub stage: Word<Stage>,
    /// Of the browser's machine.
    pub address: String,
    /// What the browser calls itself.
    pub browser: String,
    /// Why the glass was broken.
    pub reason: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
