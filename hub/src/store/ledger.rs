//! The ledger of cloud resources.

use cloud::control::ClientToken;
use domain::ids::{AccountId, SourceServerId};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder,
};

use super::{Reader, StoreError, Write, not_found};
use crate::{
    clock::now_ms,
    entities::{
        Word,
        ledger::{Column, Entity, LedgerState, Model},
    },
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn ledger(&self, token: &ClientToken) -> Result<Option<Model>, StoreError> {
        Ok(self
            .find_by_id::<Entity>(Word(token.clone()))
            .one(&self.0)
            .await?)
    }

    pub async fn ledger_of_server(&self, server: &SourceServerId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Server.eq(server.as_str()))
            .order_by_asc(Column::WantedAt)
            .all(&self.0)
            .await?)
    }

    /// All of an account, what has ended included: resources may outlive it.
    pub async fn ledger_of_account(&self, account: &AccountId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Account.eq(account.as_str()))
            .all(&self.0)
            .await?)
    }

    /// What an account is, or may be, still paying for.
    pub async fn ledger_left_in(&self, account: &AccountId) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Account.eq(account.as_str()))
            .filter(Column::State.is_in([Word(LedgerState::Wanted), Word(LedgerState::Present)]))
            .order_by_asc(Column::WantedAt)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Enters a resource that is about to be asked for. Entering it again changes nothing, unless it had gone.
    pub async fn ledger_want(&mut self, row: Model) -> Result<(), StoreError> {
        let had_gone = self
            .ledger(&row.token)
            .await?
            .is_some_and(|known| known.state.0 == LedgerState::Gone);
        if had_gone {
            row.into_active_model()
                .reset_all()
                .update_without_returning(&self.tx.0)
                .await?;
            return Ok(());
        }
        Entity::insert(row.into_active_model())
            .on_conflict_do_nothing_on([Column::Token])
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn ledger_present(&mut self, token: &ClientToken, resource: &str) -> Result<(), StoreError> {
        let row = self.ledger_row(token).await?;
        if row.state.0 == LedgerState::Present {
            return Ok(());
        }
        let mut row = row.into_active_model();
        row.state = Set(Word(LedgerState::Present));
        row.resource = Set(Some(resource.to_owned()));
        row.present_at = Set(Some(now_ms()));
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    /// The resource is gone, or not ours any more.
    pub async fn ledger_end(&mut self, token: &ClientToken, state: LedgerState) -> Result<(), StoreError> {
        let mut row = self.ledger_row(token).await?.into_active_model();
        row.state = Set(Word(state));
        row.ended_at = Set(Some(now_ms()));
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    async fn ledger_row(&self, token: &ClientToken) -> Result<Model, StoreError> {
        self.ledger(token)
            .await?
            .ok_or_else(|| not_found(format_args!("the ledger's entry {}", token.0)))
    }
}
