//! Checkpoints: a mirror of what runners report, and which of them a job has pinned.

use domain::ids::{JobId, SourceServerId};
use protocol::exchange::ObservedCheckpoint;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder,
};

use super::{Reader, StoreError, Write};
use crate::entities::{
    Doc, Word,
    checkpoint::{ActiveModel, Column, Entity, Model},
};

impl<C: ConnectionTrait> Reader<C> {
    /// The checkpoints of a server, oldest first.
    pub async fn checkpoint_list(&self, server: &SourceServerId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Server.eq(server.as_str()))
            .order_by_asc(Column::Number)
            .all(&self.0)
            .await?)
    }

    /// The checkpoints of many servers at once, by server, oldest first.
    pub async fn checkpoints_of(&self, servers: &[SourceServerId]) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Server.is_in(servers.iter().map(SourceServerId::as_str)))
            .order_by_asc(Column::Server)
            .order_by_asc(Column::Number)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Makes the checkpoints of `server` those that its runner reports. Whether anything changed.
    pub async fn checkpoints_replace(
        &mut self,
        server: &SourceServerId,
        known: &[Model],
        reported: &[ObservedCheckpoint],
    ) -> Result<bool, StoreError> {
        let gone: Vec<i64> = known
            .iter()
            .filter(|row| !reported.iter().any(|seen| seen.number == row.checkpoint_number()))
            .map(|row| row.number)
            .collect();
        let new: Vec<ActiveModel> = reported
            .iter()
            .filter(|seen| !known.iter().any(|row| row.checkpoint_number() == seen.number))
            .map(|seen| row(server, seen).into_active_model())
            .collect();
        // Damage is found later, and a repair may end it; nothing else of a checkpoint changes.
        let judged: Vec<(&Model, &ObservedCheckpoint)> = known
            .iter()
            .filter_map(|row| {
                let seen = reported
                    .iter()
                    .find(|seen| seen.number == row.checkpoint_number())?;
                (seen.damage != row.damage).then_some((row, seen))
            })
            .collect();
        let changed = !gone.is_empty() || !new.is_empty() || !judged.is_empty();
        if !gone.is_empty() {
            Entity::delete_many()
                .filter(Column::Server.eq(server.as_str()))
                .filter(Column::Number.is_in(gone))
                .exec(&self.tx.0)
                .await?;
        }
        if !new.is_empty() {
            Entity::insert_many(new)
                .exec_without_returning(&self.tx.0)
                .await?;
        }
        for (known, seen) in judged {
            let row = ActiveModel {
                server: Set(known.server.clone()),
                number: Set(known.number),
                damage: Set(seen.damage.clone()),
                ..Default::default()
            };
            row.update_without_returning(&self.tx.0).await?;
        }
        Ok(changed)
    }

    pub async fn checkpoints_forget(&mut self, server: &SourceServerId) -> Result<(), StoreError> {
        Entity::delete_many()
            .filter(Column::Server.eq(server.as_str()))
            .exec(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn checkpoint_pin(
        &mut self,
        checkpoint: &Model,
        job: Option<&JobId>,
    ) -> Result<(), StoreError> {
        let row = ActiveModel {
            server: Set(checkpoint.server.clone()),
            number: Set(checkpoint.number),
            pinned_by: Set(job.cloned().map(Word)),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }
}

fn row(server: &SourceServerId, seen: &ObservedCheckpoint) -> Model {
    Model {
        server: Word(server.clone()),
        number: seen.number.0.cast_signed(),
        kind: Word(seen.kind),
        consistency: Word(seen.consistency),
        taken_at: seen.taken_at_ms,
        request: seen.request.cast_signed(),
        frozen_ms: i32::try_from(seen.frozen_ms).unwrap_or(i32::MAX),
        received_bytes: i64::try_from(seen.received_bytes).unwrap_or(i64::MAX),
        damage: seen.damage.clone(),
        disks: Doc(seen.disks.clone()),
        pinned_by: None,
    }
}
