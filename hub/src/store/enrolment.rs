//! Tokens, certificates and who was turned away.

use domain::ids::RunnerId;
use protocol::exchange::TurnedAway;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::{Reader, StoreError, Write};
use crate::{
    clock::now_ms,
    entities::{Word, certificate, runner, token, turned_away},
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn token(&self, sha256: &str) -> Result<Option<token::Model>, StoreError> {
        Ok(self.find_by_id::<token::Entity>(sha256).one(&self.0).await?)
    }

    /// Newest first.
    pub async fn token_list(&self) -> Result<Vec<token::Model>, StoreError> {
        Ok(self
            .find::<token::Entity>()
            .order_by_desc(token::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    pub async fn certificate(&self, serial: &str) -> Result<Option<certificate::Model>, StoreError> {
        Ok(certificate::Entity::find_by_id(serial).one(&self.0).await?)
    }

    pub async fn certificates_of(&self, subject: &str) -> Result<Vec<certificate::Model>, StoreError> {
        Ok(certificate::Entity::find()
            .filter(certificate::Column::Subject.eq(subject))
            .order_by_desc(certificate::Column::IssuedAt)
            .all(&self.0)
            .await?)
    }

    pub async fn revoked_serials(&self) -> Result<Vec<String>, StoreError> {
        let revoked = certificate::Entity::find()
            .filter(certificate::Column::RevokedAt.is_not_null())
            .order_by_asc(certificate::Column::Serial)
            .all(&self.0)
            .await?;
        Ok(revoked
            .into_iter()
            .map(|certificate| certificate.serial)
            .collect())
    }

    /// The last agents that were turned away, newest first.
    pub async fn turned_away_list(&self, limit: u64) -> Result<Vec<turned_away::Model>, StoreError> {
        Ok(self
            .find::<turned_away::Entity>()
            .order_by_desc(turned_away::Column::At)
            .limit(limit)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    pub async fn token_insert(&mut self, row: token::Model) -> Result<(), StoreError> {
        token::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn token_used(
        &mut self,
        sha256: &str,
        by: String,
        key_sha256: String,
    ) -> Result<(), StoreError> {
        let row = token::ActiveModel {
            sha256: Set(sha256.to_owned()),
            used_at: Set(Some(now_ms())),
            used_by: Set(Some(by)),
            used_key_sha256: Set(Some(key_sha256)),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    pub async fn certificate_insert(&mut self, serial: &str, subject: String) -> Result<(), StoreError> {
        let row = certificate::Model {
            serial: serial.to_owned(),
            subject,
            issued_at: now_ms(),
            revoked_at: None,
            revoked_by: None,
        };
        certificate::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Revokes every certificate of `subject` that was not yet, and tells every runner. Returns how many.
    pub async fn certificates_revoke(&mut self, subject: &str, by: &str) -> Result<u64, StoreError> {
        let revoked = certificate::Entity::update_many()
            .set(certificate::ActiveModel {
                revoked_at: Set(Some(now_ms())),
                revoked_by: Set(Some(by.to_owned())),
                ..Default::default()
            })
            .filter(certificate::Column::Subject.eq(subject))
            .filter(certificate::Column::RevokedAt.is_null())
            .exec(&self.tx.0)
            .await?
            .rows_affected;
        if revoked > 0 {
            let runners = runner::Entity::find().all(&self.tx.0).await?;
            for runner in runners {
                self.runner_touch(&runner.id.0).await?;
            }
        }
        Ok(revoked)
    }

    pub async fn turned_away_add(
        &mut self,
        runner: &RunnerId,
        agents: Vec<TurnedAway>,
    ) -> Result<(), StoreError> {
        if agents.is_empty() {
            return Ok(());
        }
        let rows = agents.into_iter().map(|agent| turned_away::ActiveModel {
            runner: Set(Word(runner.clone())),
            address: Set(agent.address),
            server: Set(agent.server.map(Word)),
            reason: Set(agent.reason),
            at: Set(agent.at_ms),
            ..Default::default()
        });
        turned_away::Entity::insert_many(rows)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }
}
