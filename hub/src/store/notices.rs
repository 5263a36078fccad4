//! What is to be told, and to whom. A notice is written with what it tells of, or not at all.

use domain::ids::JobId;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    clock::now_ms,
    entities::{
        Word,
        notice::{self, NoticeKind},
        notice_target::{ActiveModel, Column, Entity, Model},
        source_server,
    },
};

/// Nobody wants to hear of what is older.
const KEPT_MS: i64 = 24 * 3_600_000;

impl<C: ConnectionTrait> Reader<C> {
    /// By name.
    pub async fn notice_targets(&self) -> Result<Vec<Model>, StoreError> {
        Ok(Entity::find()
            .order_by_asc(Column::Name)
            .order_by_asc(Column::Id)
            .all(&self.0)
            .await?)
    }

    pub async fn notice_target(&self, id: &str) -> Result<Model, StoreError> {
        Entity::find_by_id(id)
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("notification target {id}")))
    }

    /// What came after `sequence`, oldest first.
    pub async fn notices_after(&self, sequence: i64, limit: u64) -> Result<Vec<notice::Model>, StoreError> {
        Ok(notice::Entity::find()
            .filter(notice::Column::Sequence.gt(sequence))
            .order_by_asc(notice::Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }

    pub async fn last_notice(&self) -> Result<i64, StoreError> {
        let last = notice::Entity::find()
            .order_by_desc(notice::Column::Sequence)
            .one(&self.0)
            .await?;
        Ok(last.map_or(0, |last| last.sequence))
    }
}

impl Write {
    pub(super) async fn notice(
        &mut self,
        server: &source_server::Model,
        kind: NoticeKind,
        state: &str,
        job: Option<&JobId>,
    ) -> Result<(), StoreError> {
        let row = notice::Model {
            // Nobody else writes meanwhile.
            sequence: self.last_notice().await? + 1,
            at: now_ms(),
            account: server.account.clone(),
            server: server.id.clone(),
            kind: Word(kind),
            state: state.to_owned(),
            job: job.map(|job| Word(job.clone())),
        };
        notice::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Removes what is old. The last one stays, so that no sequence is given twice.
    pub async fn notices_prune(&mut self) -> Result<(), StoreError> {
        let last = self.last_notice().await?;
        notice::Entity::delete_many()
            .filter(notice::Column::At.lt(now_ms() - KEPT_MS))
            .filter(notice::Column::Sequence.lt(last))
            .exec(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn notice_target_insert(&mut self, row: Model) -> Result<(), StoreError> {
        Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn notice_target_delete(&mut self, id: &str) -> Result<(), StoreError> {
        Entity::delete_by_id(id).exec(&self.tx.0).await?;
        Ok(())
    }

    /// A target was told up to `sequence`; `error` of the attempt after that.
    pub async fn notice_target_told(
        &mut self,
        target: &Model,
        sequence: i64,
        error: Option<(String, i64)>,
    ) -> Result<(), StoreError> {
        let mut row = ActiveModel {
            id: Set(target.id.clone()),
            told: Set(sequence),
            failures: Set(0),
            retry_at: Set(0),
            last_error: Set(None),
            ..Default::default()
        };
        if sequence > target.told {
            row.told_at = Set(Some(now_ms()));
        }
        if let Some((why, retry_at)) = error {
            let so_far = if sequence > target.told {
                0
            } else {
                target.failures
            };
            row.failures = Set(so_far.saturating_add(1));
            row.retry_at = Set(retry_at);
            row.last_error = Set(Some(why));
        }
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }
}
