//! What was measured of servers over weeks.

use std::collections::HashMap;

use domain::{
    ids::SourceServerId,
    trend::{Point, Trend},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter,
    sea_query::{Expr, OnConflict},
};

use super::{Reader, StoreError, Write};
use crate::entities::{
    Doc, Word, source_server,
    trend::{Column, Entity, Model},
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn trend(&self, server: &SourceServerId) -> Result<Trend, StoreError> {
        let row = self
            .find_by_id::<Entity>(Word(server.clone()))
            .one(&self.0)
            .await?;
        Ok(row.map(|row| row.points.0).unwrap_or_default())
    }
}

impl Write {
    /// Adds a point to the trend of each of these servers: three statements, however many they are.
    pub async fn trends_add(&mut self, new: &[(SourceServerId, Point)], at: i64) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let ids = || new.iter().map(|(id, _)| id.as_str());
        let known = Entity::find()
            .filter(Column::Server.is_in(ids()))
            .all(&self.tx.0)
            .await?;
        let mut known: HashMap<_, _> = known
            .into_iter()
            .map(|row| (row.server.0, row.points.0))
            .collect();
        let rows = new.iter().map(|(id, point)| {
            let mut trend = known.remove(id).unwrap_or_default();
            trend.add(*point);
            let row = Model {
                server: Word(id.clone()),
                points: Doc(trend),
            };
            row.into_active_model()
        });
        Entity::insert_many(rows.collect::<Vec<_>>())
            .on_conflict(
                OnConflict::column(Column::Server)
                    .update_column(Column::Points)
                    .to_owned(),
            )
            .exec_without_returning(&self.tx.0)
            .await?;
        source_server::Entity::update_many()
            .col_expr(source_server::Column::MeasuredAt, Expr::value(at))
            .filter(source_server::Column::Id.is_in(ids()))
            .exec(&self.tx.0)
            .await?;
        Ok(())
    }
}
