//! What was measured of a source server over weeks.

use domain::{ids::SourceServerId, trend::Trend};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "trends")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub server: Word<SourceServerId>,
    pub points: Doc<Trend>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
