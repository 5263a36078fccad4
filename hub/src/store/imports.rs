//! Files that were handed in to be imported. Only who handed one in sees it.

use domain::ids::ImportId;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder,
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    entities::{
        Doc, Word,
        import::{ActiveModel, Column, Entity, Model},
    },
    import::apply::Outcome,
};

/// As long as MGN shows an import.
const KEPT_MS: i64 = 7 * 86_400_000;

impl<C: ConnectionTrait> Reader<C> {
    pub async fn import(&self, id: &ImportId, by: &str) -> Result<Model, StoreError> {
        Entity::find_by_id(Word(id.clone()))
            .filter(Column::By.eq(by))
            .one(&self.0)
            .await?
            .ok_or_else(|| not_found(format_args!("import {id}")))
    }

    /// Newest first.
    pub async fn imports_of(&self, by: &str) -> Result<Vec<Model>, StoreError> {
        Ok(Entity::find()
            .filter(Column::By.eq(by))
            .order_by_desc(Column::At)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Adds one, and lets those go that are older than a week.
    pub async fn import_insert(&mut self, row: Model) -> Result<(), StoreError> {
        Entity::delete_many()
            .filter(Column::At.lt(row.at - KEPT_MS))
            .exec(&self.tx.0)
            .await?;
        Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn import_done(&mut self, id: &ImportId, outcome: Outcome) -> Result<(), StoreError> {
        let row = ActiveModel {
            id: Set(Word(id.clone())),
            outcome: Set(Doc(Some(outcome))),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }
}
