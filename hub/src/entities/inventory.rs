//! What an account has of ours in one region, as it last told.

use cloud::control::Resource;
use domain::{account::Access, ids::AccountId};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inventories")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account: Word<AccountId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub region: String,
    /// Of the last time that it answered.
    pub resources: Doc<Vec<Resource>>,
    /// When that was asked. What was made or removed since may be missing, or listed still.
    pub asked_at: Option<i64>,
    /// What came of the last attempt.
    pub access: Doc<Access>,
    pub tried_at: Option<i64>,
    /// Somebody wants to know now.
    pub wanted: bool,
}

impl Model {
    /// Whether the last attempt was answered: without an answer nothing is known of today.
    pub fn is_known(&self) -> bool {
        self.asked_at.is_some() && self.access.0 == Access::Ok
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
