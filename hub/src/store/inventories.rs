//! What accounts have of ours.

use cloud::control::{Place, Resource};
use domain::{account::Access, ids::AccountId};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder,
    sea_query::OnConflict,
};

use super::{Reader, StoreError, Write};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{
        Doc, Word,
        inventory::{ActiveModel, Column, Entity, Model},
    },
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn inventory_list(&self) -> Result<Vec<Model>, StoreError> {
        Ok(self.find::<Entity>().all(&self.0).await?)
    }

    /// Of an account, by region.
    pub async fn inventory_of(&self, account: &AccountId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Account.eq(account.as_str()))
            .order_by_asc(Column::Region)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Keeps what an account answered when it was asked at `asked_at`, or that it did not: then what it said before
    /// stays, as old as it is.
    pub async fn inventory_asked(
        &mut self,
        place: &Place,
        asked_at: i64,
        answer: Result<Vec<Resource>, Access>,
    ) -> Result<(), StoreError> {
        let mut row = row(&place.account, &place.region);
        row.tried_at = Set(Some(now_ms()));
        let mut columns = vec![Column::Access, Column::TriedAt, Column::Wanted];
        match answer {
            Ok(resources) => {
                row.resources = Set(Doc(resources));
                row.asked_at = Set(Some(asked_at));
                row.access = Set(Doc(Access::Ok));
                columns.extend([Column::Resources, Column::AskedAt]);
            }
            Err(access) => row.access = Set(Doc(access)),
        }
        self.inventory_put(row, &columns).await
    }

    pub async fn inventory_wanted(&mut self, account: &AccountId, region: &str) -> Result<(), StoreError> {
        let row = ActiveModel {
            wanted: Set(true),
            ..row(account, region)
        };
        self.inventory_put(row, &[Column::Wanted]).await
    }

    /// Adds the row, or changes these columns of it.
    async fn inventory_put(&mut self, row: ActiveModel, columns: &[Column]) -> Result<(), StoreError> {
        let known = OnConflict::columns([Column::Account, Column::Region])
            .update_columns(columns.iter().copied())
            .to_owned();
        let account = row.account.as_ref().0.clone();
        Entity::insert(row)
            .on_conflict(known)
            .exec_without_returning(&self.tx.0)
            .await?;
        self.changed(Change::Account(account));
        Ok(())
    }
}

/// Of a region that was never asked.
fn row(account: &AccountId, region: &str) -> ActiveModel {
    ActiveModel {
        account: Set(Word(account.clone())),
        region: Set(region.to_owned()),
        resources: Set(Doc::default()),
        asked_at: Set(None),
        access: Set(Doc(Access::NotAttempted)),
        tried_at: Set(None),
        wanted: Set(false),
    }
}
