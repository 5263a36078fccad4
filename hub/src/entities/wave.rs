//! Applications that are cut over together.

use std::collections::BTreeMap;

use domain::{
    ids::{AccountId, WaveId},
    wave::{Plan, Run},
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "waves")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<WaveId>,
    /// Whose applications it may have. `None`: those of every account.
    pub account: Option<Word<AccountId>>,
    pub name: String,
    pub description: String,
    pub tags: Doc<BTreeMap<String, String>>,
    pub archived: bool,
    pub plan: Doc<Plan>,
    /// The last launch of all its servers, if there was one.
    pub run: Doc<Option<Run>>,
    /// Of the run, for queries; empty without one.
    pub run_state: String,
    pub created_by: String,
    pub created_at: i64,
    pub modified_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
