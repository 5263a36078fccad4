//! The conversion of a checkpoint that a job ordered, and where it stands by its runner's last word.

use domain::{
    conversion::{ConversionOrder, ConversionState},
    ids::{JobId, SourceServerId},
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "conversions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job: Word<JobId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server: Word<SourceServerId>,
    /// Whether the job still needs it. If not, the runner may delete what it made.
    pub wanted: bool,
    pub order: Doc<ConversionOrder>,
    /// `None` until the runner has heard of it.
    pub state: Doc<Option<ConversionState>>,
    pub ordered_at: i64,
    pub ended_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
