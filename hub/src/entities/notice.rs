//! Something happened to a source server that somebody may want to hear of.

use domain::ids::{AccountId, JobId, SourceServerId};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Word;

/// MGN's detail types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NoticeKind {
    LaunchResult,
    /// MGN tells of the first `READY_FOR_TEST` only; here it is every change.
    LifeCycle,
    Stalled,
}

impl NoticeKind {
    pub const ALL: [Self; 3] = [Self::LaunchResult, Self::LifeCycle, Self::Stalled];

    /// Its name in forms.
    pub fn slug(self) -> &'static str {
        match self {
            Self::LaunchResult => "launch-result",
            Self::LifeCycle => "life-cycle",
            Self::Stalled => "stalled",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notices")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub at: i64,
    pub account: Word<AccountId>,
    pub server: Word<SourceServerId>,
    pub kind: Word<NoticeKind>,
    pub state: String,
    pub job: Option<Word<JobId>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
