//! Whether the network of an account is ready, in one region.

use domain::ids::AccountId;
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};
use crate::readiness::{Named, Report};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "readiness")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub account: Word<AccountId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub region: String,
    pub named: Doc<Named>,
    /// The last one.
    pub report: Doc<Option<Report>>,
    /// How many it has.
    pub findings: i32,
    pub checked_at: Option<i64>,
    /// Somebody wants to know now.
    pub wanted: bool,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
