//! Somebody, or some program, that is told of what happens.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    columns::{Doc, Word},
    notice::NoticeKind,
};

/// In which form it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeForm {
    /// An event of EventBridge's shape, signed.
    Event,
    /// A sentence, as Slack and what is compatible with it take.
    Slack,
    /// A sentence, by mail.
    Mail,
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notice_targets")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    pub name: String,
    pub form: Word<NoticeForm>,
    /// For people: the host of a webhook, since the rest of its address may be a secret, or an address of mail.
    pub host: String,
    /// Sealed.
    pub address: String,
    /// The key of its signatures, sealed.
    pub secret: String,
    pub kinds: Doc<Vec<NoticeKind>>,
    pub created_by: String,
    pub created_at: i64,
    /// The sequence of the last notice that it was told of, or that was not for it.
    pub told: i64,
    pub told_at: Option<i64>,
    /// Attempts in a row that failed.
    pub failures: i32,
    pub retry_at: i64,
    pub last_error: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
