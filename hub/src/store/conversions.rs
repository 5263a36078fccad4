//! Conversions that jobs order, and what runners hand over of them.

use domain::{
    conversion::{ConversionOrder, ConversionState},
    ids::{JobId, SourceServerId},
};
use protocol::artifacts::Artifact;
use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, OnConflict},
};

use super::{Reader, StoreError, Write};
use crate::{
    clock::now_ms,
    entities::{
        Doc, Word, artifact,
        conversion::{ActiveModel, Column, Entity, Model},
        source_server,
    },
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn conversion(
        &self,
        job: &JobId,
        server: &SourceServerId,
    ) -> Result<Option<Model>, StoreError> {
        let key = (Word(job.clone()), Word(server.clone()));
        Ok(self.find_by_id::<Entity>(key).one(&self.0).await?)
    }

    /// Those that a job ordered.
    pub async fn conversions_by(&self, job: &JobId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Job.eq(job.as_str()))
            .all(&self.0)
            .await?)
    }

    /// The newest of a server.
    pub async fn conversion_of(&self, server: &SourceServerId) -> Result<Option<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Server.eq(server.as_str()))
            .order_by_desc(Column::OrderedAt)
            .one(&self.0)
            .await?)
    }

    /// What jobs still need of these servers, one at most of each.
    pub async fn conversions_wanted(&self, servers: &[SourceServerId]) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Expr::col(Column::Wanted))
            .filter(Column::Server.is_in(servers.iter().map(SourceServerId::as_str)))
            .all(&self.0)
            .await?)
    }

    /// The artifacts that there are, without their contents.
    pub async fn artifact_list(
        &self,
        job: &JobId,
        server: &SourceServerId,
    ) -> Result<Vec<Artifact>, StoreError> {
        let found: Vec<Word<Artifact>> = self
            .find::<artifact::Entity>()
            .select_only()
            .column(artifact::Column::Artifact)
            .filter(artifact::Column::Job.eq(job.as_str()))
            .filter(artifact::Column::Server.eq(server.as_str()))
            .into_tuple()
            .all(&self.0)
            .await?;
        Ok(found.into_iter().map(|artifact| artifact.0).collect())
    }

    pub async fn artifact(
        &self,
        job: &JobId,
        server: &SourceServerId,
        artifact: Artifact,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let key = (Word(job.clone()), Word(server.clone()), Word(artifact));
        let found = self.find_by_id::<artifact::Entity>(key).one(&self.0).await?;
        Ok(found.map(|row| row.contents))
    }
}

impl Write {
    /// Wants a conversion of the server, and has its runner told.
    pub async fn conversion_order(
        &mut self,
        server: &source_server::Model,
        order: ConversionOrder,
    ) -> Result<(), StoreError> {
        let row = Model {
            job: Word(order.job.clone()),
            server: server.id.clone(),
            wanted: true,
            order: Doc(order),
            state: Doc(None),
            ordered_at: now_ms(),
            ended_at: None,
        };
        Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        self.runner_of_touch(server).await?;
        self.server_changed(server);
        Ok(())
    }

    /// The runner says where it stands.
    pub async fn conversion_stands(
        &mut self,
        server: &source_server::Model,
        conversion: &Model,
        state: ConversionState,
    ) -> Result<(), StoreError> {
        let ended = matches!(state, ConversionState::Done(_) | ConversionState::Failed { .. });
        let row = ActiveModel {
            job: Set(conversion.job.clone()),
            server: Set(conversion.server.clone()),
            ended_at: Set(ended.then(now_ms)),
            state: Set(Doc(Some(state))),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        self.server_changed(server);
        Ok(())
    }

    /// The job needs its conversion no more. Whether it did until now.
    pub async fn conversion_end(
        &mut self,
        job: &JobId,
        server: &source_server::Model,
    ) -> Result<bool, StoreError> {
        let ended = Entity::update_many()
            .col_expr(Column::Wanted, Expr::value(false))
            .filter(Column::Job.eq(job.as_str()))
            .filter(Column::Server.eq(server.id.as_str()))
            .filter(Expr::col(Column::Wanted))
            .exec(&self.tx.0)
            .await?;
        self.server_changed(server);
        Ok(ended.rows_affected > 0)
    }

    /// Keeps an artifact, in place of one that came before.
    pub async fn artifact_put(
        &mut self,
        conversion: &Model,
        artifact: Artifact,
        contents: Vec<u8>,
    ) -> Result<(), StoreError> {
        use artifact::Column as C;
        let row = artifact::Model {
            job: conversion.job.clone(),
            server: conversion.server.clone(),
            artifact: Word(artifact),
            contents,
            at: now_ms(),
        };
        let newest = OnConflict::columns([C::Job, C::Server, C::Artifact])
            .update_columns([C::Contents, C::At])
            .to_owned();
        artifact::Entity::insert(row.into_active_model())
            .on_conflict(newest)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }
}
