//! Users, their sessions and keys, and the audit log.

use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::{Reader, StoreError, Write};
use crate::{
    clock::now_ms,
    entities::{api_key, audit, session, user},
};

impl<C: ConnectionTrait> Reader<C> {
    pub async fn user(&self, name: &str) -> Result<Option<user::Model>, StoreError> {
        Ok(user::Entity::find_by_id(name).one(&self.0).await?)
    }

    pub async fn user_list(&self) -> Result<Vec<user::Model>, StoreError> {
        Ok(user::Entity::find()
            .order_by_asc(user::Column::Name)
            .all(&self.0)
            .await?)
    }

    pub async fn session(&self, sha256: &str) -> Result<Option<session::Model>, StoreError> {
        Ok(session::Entity::find_by_id(sha256).one(&self.0).await?)
    }

    pub async fn api_key(&self, sha256: &str) -> Result<Option<api_key::Model>, StoreError> {
        Ok(api_key::Entity::find_by_id(sha256).one(&self.0).await?)
    }

    /// Newest first.
    pub async fn audit_list(&self, limit: u64) -> Result<Vec<audit::Model>, StoreError> {
        Ok(audit::Entity::find()
            .order_by_desc(audit::Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }

    /// What was done to `subject`, newest first.
    pub async fn audit_of(&self, subject: &str, limit: u64) -> Result<Vec<audit::Model>, StoreError> {
        Ok(audit::Entity::find()
            .filter(audit::Column::Subject.eq(subject))
            .order_by_desc(audit::Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Adds a user, or gives one a new password and role.
    pub async fn user_put(&mut self, row: user::Model) -> Result<(), StoreError> {
        let known = self.user(&row.name).await?.is_some();
        let row = row.into_active_model();
        if known {
            row.reset_all().update_without_returning(&self.tx.0).await?;
        } else {
            user::Entity::insert(row)
                .exec_without_returning(&self.tx.0)
                .await?;
        }
        Ok(())
    }

    pub async fn session_insert(&mut self, row: session::Model) -> Result<(), StoreError> {
        // The moment at which somebody signs in is as good as any to sweep out what has ended.
        session::Entity::delete_many()
            .filter(session::Column::EndsAt.lt(now_ms()))
            .exec(&self.tx.0)
            .await?;
        session::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn session_extend(&mut self, sha256: &str, idle_until: i64) -> Result<(), StoreError> {
        let row = session::ActiveModel {
            sha256: Set(sha256.to_owned()),
            idle_until: Set(idle_until),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    pub async fn session_delete(&mut self, sha256: &str) -> Result<(), StoreError> {
        session::Entity::delete_by_id(sha256).exec(&self.tx.0).await?;
        Ok(())
    }

    pub async fn api_key_insert(&mut self, row: api_key::Model) -> Result<(), StoreError> {
        api_key::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn audit_add(
        &mut self,
        actor: &str,
        action: &str,
        subject: &str,
        outcome: &str,
    ) -> Result<(), StoreError> {
        let row = audit::ActiveModel {
            at: Set(now_ms()),
            actor: Set(actor.to_owned()),
            action: Set(action.to_owned()),
            subject: Set(subject.to_owned()),
            outcome: Set(outcome.to_owned()),
            ..Default::default()
        };
        audit::Entity::insert(row)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }
}
