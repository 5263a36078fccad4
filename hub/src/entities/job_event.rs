//! A line of a job's log.

use domain::{
    ids::{JobId, SourceServerId},
    job::JobLogEvent,
};
use sea_orm::entity::prelude::*;

use super::columns::Word;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "job_events")]
pub struct Model {
    #[sea_orm(primary_key)]
    pub sequence: i32,
    pub job: Word<JobId>,
    /// What makes the line unique within its job.
    pub once: String,
    pub at: i64,
    pub event: Word<JobLogEvent>,
    pub server: Option<Word<SourceServerId>>,
    pub instance: Option<String>,
    /// A sentence: MGN's `rawError`, or what else there is to say.
    pub detail: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
