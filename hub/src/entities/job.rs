//! An order to do something to one or more source servers.

use std::collections::BTreeMap;

use domain::{
    ids::JobId,
    job::{InitiatedBy, JobStatus},
};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "jobs")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Word<JobId>,
    pub initiated_by: Word<InitiatedBy>,
    pub status: Word<JobStatus>,
    pub tags: Doc<BTreeMap<String, String>>,
    pub created_by: String,
    pub created_at: i64,
    pub ended_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
