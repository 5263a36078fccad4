//! Servers of one account that work together, and move together.

use std::collections::BTreeMap;

use domain::ids::{AccountId, ApplicationId, WaveId};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "applications")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<ApplicationId>,
    pub account: Word<AccountId>,
    /// There is one of a name in an account.
    pub name: String,
    pub description: String,
    pub tags: Doc<BTreeMap<String, String>>,
    pub archived: bool,
    pub wave: Option<Word<WaveId>>,
    pub created_at: i64,
    pub modified_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
