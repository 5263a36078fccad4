//! A committed checkpoint, as the runner last reported it.

use domain::{
    checkpoint::{CheckpointKind, CheckpointNumber, Consistency},
    ids::{JobId, SourceServerId},
};
use protocol::exchange::{ObservedCheckpoint, ObservedSnapshot};
use sea_orm::entity::prelude::*;

use super::columns::{Doc, Word};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "checkpoints")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub server: Word<SourceServerId>,
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub kind: Word<CheckpointKind>,
    pub consistency: Word<Consistency>,
    pub taken_at: i64,
    /// The greatest checkpoint request that it answers.
    pub request: i64,
    /// For how long file systems stood still.
    pub frozen_ms: i32,
    /// Payload that came for it over the network.
    pub received_bytes: i64,
    /// What of it is damaged in the snapshot store: it cannot be launched.
    pub damage: Option<String>,
    pub disks: Doc<Vec<ObservedSnapshot>>,
    pub pinned_by: Option<Word<JobId>>,
}

impl Model {
    pub fn checkpoint_number(&self) -> CheckpointNumber {
        CheckpointNumber(self.number.cast_unsigned())
    }

    /// As it was reported.
    pub fn observed(&self) -> ObservedCheckpoint {
        ObservedCheckpoint {
            number: self.checkpoint_number(),
            kind: self.kind.0,
            consistency: self.consistency.0,
            taken_at_ms: self.taken_at,
            request: self.request.cast_unsigned(),
            frozen_ms: self.frozen_ms.cast_unsigned(),
            received_bytes: self.received_bytes.cast_unsigned(),
            damage: self.damage.clone(),
            disks: self.disks.0.clone(),
        }
    }

    pub fn is_launchable(&self) -> bool {
        self.kind.0 == CheckpointKind::Launchable && self.damage.is_none()
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
