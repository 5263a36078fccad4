//! One server's way through a job, step by step. What is not in this row did not happen.

use domain::{
    ids::{JobId, SourceServerId},
    job::InitiatedBy,
};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::{Doc, Word};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    Forward,
    /// A step failed for good; what was done is being undone.
    Back,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SagaStatus {
    Running,
    Succeeded,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sagas")]
pub struct Model {
    /// `<job>/<server>`
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub kind: Word<InitiatedBy>,
    pub job: Word<JobId>,
    pub server: Word<SourceServerId>,
    /// What the steps so far found out.
    pub state: Doc<serde_json::Value>,
    /// Forward: the next step to run. Back: how many steps are still to be undone.
    pub position: i32,
    pub direction: Word<Direction>,
    pub status: Word<SagaStatus>,
    /// Failed attempts of the present step.
    pub attempts: i32,
    /// When the present step was first tried; its deadline counts from here.
    pub step_since: i64,
    pub run_after: i64,
    pub last_error: Option<String>,
    pub failure: Option<String>,
    pub left: Doc<Vec<String>>,
    /// Who wants everything undone. The engine reads it, and never writes it.
    pub cancelled_by: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
