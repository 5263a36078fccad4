//! Sagas: where each server's way through its job stands.

use domain::ids::JobId;
use sea_orm::{
    ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder,
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    changes::Change,
    entities::{
        Word,
        saga::{ActiveModel, Column, Entity, Model, SagaStatus},
    },
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn saga(&self, id: &str) -> Result<Model, StoreError> {
        self.find_by_id::<Entity>(id)
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("saga {id}")))
    }

    /// Everything that is still on its way.
    pub async fn sagas_running(&self) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Status.eq(Word(SagaStatus::Running)))
            .order_by_asc(Column::RunAfter)
            .all(&self.0)
            .await?)
    }

    pub async fn sagas_of_job(&self, job: &JobId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Job.eq(job.as_str()))
            .order_by_asc(Column::Server)
            .all(&self.0)
            .await?)
    }

    pub async fn sagas_running_in(&self, job: &JobId) -> Result<u64, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Job.eq(job.as_str()))
            .filter(Column::Status.eq(Word(SagaStatus::Running)))
            .count(&self.0)
            .await?)
    }
}

impl Write {
    pub async fn sagas_insert(&mut self, rows: Vec<Model>) -> Result<(), StoreError> {
        let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
        Entity::insert_many(rows)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn saga_save(&mut self, saga: Model) -> Result<(), StoreError> {
        self.changed(Change::Job(saga.job.0.clone()));
        let mut row = saga.into_active_model().reset_all();
        row.cancelled_by = ActiveValue::NotSet;
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    pub async fn saga_cancel(&mut self, saga: &Model, by: &str) -> Result<(), StoreError> {
        self.saga_set(saga, |row| {
            row.cancelled_by = ActiveValue::Set(Some(by.to_owned()));
        })
        .await
    }

    /// Its next attempt is due.
    pub async fn saga_hasten(&mut self, saga: &Model) -> Result<(), StoreError> {
        self.saga_set(saga, |row| row.run_after = ActiveValue::Set(0))
            .await
    }

    async fn saga_set(&mut self, saga: &Model, how: impl FnOnce(&mut ActiveModel)) -> Result<(), StoreError> {
        self.changed(Change::Job(saga.job.0.clone()));
        let mut row = ActiveModel {
            id: ActiveValue::Unchanged(saga.id.clone()),
            ..Default::default()
        };
        how(&mut row);
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }
}
