//! Whether the networks of accounts are ready.

use std::collections::BTreeMap;

use cloud::control::Place;
use domain::ids::AccountId;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::OnConflict,
};

use super::{Reader, StoreError, Write};
use crate::{
    changes::Change,
    clock::now_ms,
    entities::{
        Doc, Word,
        readiness::{ActiveModel, Column, Entity, Model},
    },
    readiness::{Named, Report},
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn readiness_list(&self) -> Result<Vec<Model>, StoreError> {
        Ok(self.find::<Entity>().all(&self.0).await?)
    }

    /// Of an account, by region.
    pub async fn readiness_of(&self, account: &AccountId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Account.eq(account.as_str()))
            .order_by_asc(Column::Region)
            .all(&self.0)
            .await?)
    }

    /// How many findings there are in each account that has some.
    pub async fn readiness_findings(&self) -> Result<BTreeMap<AccountId, u64>, StoreError> {
        let counts: Vec<(Word<AccountId>, i32)> = self
            .find::<Entity>()
            .select_only()
            .columns([Column::Account, Column::Findings])
            .filter(Column::Findings.gt(0))
            .into_tuple()
            .all(&self.0)
            .await?;
        let mut all: BTreeMap<AccountId, u64> = BTreeMap::new();
        for (account, findings) in counts {
            *all.entry(account.0).or_default() += u64::try_from(findings).unwrap_or_default();
        }
        Ok(all)
    }
}

impl Write {
    /// Keeps what came of a check. A wish that was made meanwhile is fulfilled by it, too.
    pub async fn readiness_checked(
        &mut self,
        place: &Place,
        named: Named,
        report: Report,
    ) -> Result<(), StoreError> {
        let row = ActiveModel {
            account: Set(Word(place.account.clone())),
            region: Set(place.region.clone()),
            named: Set(Doc(named)),
            findings: Set(i32::try_from(report.findings().len()).unwrap_or(i32::MAX)),
            report: Set(Doc(Some(report))),
            checked_at: Set(Some(now_ms())),
            wanted: Set(false),
        };
        let columns = [
            Column::Named,
            Column::Findings,
            Column::Report,
            Column::CheckedAt,
            Column::Wanted,
        ];
        self.readiness_put(row, &columns).await
    }

    pub async fn readiness_wanted(&mut self, account: &AccountId, region: &str) -> Result<(), StoreError> {
        let row = ActiveModel {
            account: Set(Word(account.clone())),
            region: Set(region.to_owned()),
            named: Set(Doc::default()),
            findings: Set(0),
            report: Set(Doc(None)),
            checked_at: Set(None),
            wanted: Set(true),
        };
        self.readiness_put(row, &[Column::Wanted]).await
    }

    /// Adds the row, or changes these columns of it.
    async fn readiness_put(&mut self, row: ActiveModel, columns: &[Column]) -> Result<(), StoreError> {
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
