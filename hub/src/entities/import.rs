//! A file that was handed in to be imported, and what came of it.

use domain::ids::{AccountId, ImportId};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};
use crate::import::apply::Outcome;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "imports")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<ImportId>,
    pub by: String,
    /// Of the file.
    pub name: String,
    pub at: i64,
    /// Of rows that name none.
    pub account: Option<Word<AccountId>>,
    pub contents: String,
    /// `None` until it is carried out.
    pub outcome: Doc<Option<Outcome>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
