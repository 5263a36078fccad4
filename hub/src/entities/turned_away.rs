//! An agent that a runner refused, and why.

use domain::ids::{RunnerId, SourceServerId};
use sea_orm::entity::prelude::*;

use super::columns::Word;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "turned_away")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub id: i32,
    pub runner: Word<RunnerId>,
    pub address: String,
    /// The server that the agent claimed to be.
    pub server: Option<Word<SourceServerId>>,
    pub reason: String,
    pub at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
