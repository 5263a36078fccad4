//! What a runner handed over of a conversion, as it came.

use domain::ids::{JobId, SourceServerId};
use protocol::artifacts::Artifact;
use sea_orm::entity::prelude::*;

use super::columns::Word;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "artifacts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job: Word<JobId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server: Word<SourceServerId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub artifact: Word<Artifact>,
    pub contents: Vec<u8>,
    pub at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
