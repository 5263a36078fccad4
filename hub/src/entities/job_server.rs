//! A source server's part in a job.

use domain::{
    ids::{AccountId, JobId, SourceServerId},
    job::LaunchStatus,
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "job_servers")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub job: Word<JobId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub server: Word<SourceServerId>,
    pub account: Word<AccountId>,
    pub status: Doc<LaunchStatus>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
