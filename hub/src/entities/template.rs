//! What source servers of a scope take over when they are added.

use domain::{
    launch::LaunchConfiguration, replication_configuration::ReplicationConfiguration, scope::Scope,
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "templates")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub scope: Word<Scope>,
    pub launch: Doc<Option<LaunchConfiguration>>,
    pub replication: Doc<Option<ReplicationConfiguration>>,
    pub changed_by: String,
    pub changed_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
