//! The ledger: every resource that was ever asked for in an account. A row is written before the
//! request, so that a crash between the two leaves a name to look the resource up by.

use cloud::control::{ClientToken, ResourceKind};
use domain::ids::{AccountId, JobId, SourceServerId};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use super::columns::Word;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerState {
    /// About to be asked for, or asked for with an unknown outcome.
    Wanted,
    Present,
    Gone,
    /// A finalized cutover's instance: it is production now, and no longer ours to remove.
    HandedOver,
}

impl LedgerState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Wanted => "wanted",
            Self::Present => "present",
            Self::Gone => "gone",
            Self::HandedOver => "handed over",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "ledger")]
pub struct Model {
    /// The client token that the resource was asked for with.
    #[sea_orm(primary_key, auto_increment = false)]
    pub token: Word<ClientToken>,
    pub account: Word<AccountId>,
    pub region: String,
    pub kind: Word<ResourceKind>,
    pub resource: Option<String>,
    pub state: Word<LedgerState>,
    pub server: Word<SourceServerId>,
    pub job: Word<JobId>,
    pub step: String,
    pub wanted_at: i64,
    pub present_at: Option<i64>,
    pub ended_at: Option<i64>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
