//! Users, and their sessions and keys.

use domain::scope::Scope;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, sea_query::OnConflict,
};

use super::{Reader, StoreError, Write};
use crate::{
    auth::Grant,
    clock::now_ms,
    entities::{Word, api_key, grant, session, user},
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

    /// By scope.
    pub async fn grants_of(&self, name: &str) -> Result<Vec<grant::Model>, StoreError> {
        Ok(grant::Entity::find()
            .filter(grant::Column::User.eq(name))
            .order_by_asc(grant::Column::Scope)
            .all(&self.0)
            .await?)
    }

    pub async fn session(&self, sha256: &str) -> Result<Option<session::Model>, StoreError> {
        Ok(session::Entity::find_by_id(sha256).one(&self.0).await?)
    }

    pub async fn api_key(&self, sha256: &str) -> Result<Option<api_key::Model>, StoreError> {
        Ok(api_key::Entity::find_by_id(sha256).one(&self.0).await?)
    }
}

impl Write {
    /// Adds a user, or gives one a new password.
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

    pub async fn user_delete(&mut self, name: &str) -> Result<(), StoreError> {
        user::Entity::delete_by_id(name).exec(&self.tx.0).await?;
        Ok(())
    }

    pub async fn grants_replace(&mut self, name: &str, grants: Vec<Grant>) -> Result<(), StoreError> {
        grant::Entity::delete_many()
            .filter(grant::Column::User.eq(name))
            .exec(&self.tx.0)
            .await?;
        for grant in grants {
            self.grant_put(name, grant).await?;
        }
        Ok(())
    }

    /// In place of the one for the same scope.
    pub async fn grant_put(&mut self, name: &str, grant: Grant) -> Result<(), StoreError> {
        let row = grant::Model {
            user: name.to_owned(),
            scope: Word(grant.scope),
            role: Word(grant.role),
        };
        let other_role = OnConflict::columns([grant::Column::User, grant::Column::Scope])
            .update_column(grant::Column::Role)
            .to_owned();
        grant::Entity::insert(row.into_active_model())
            .on_conflict(other_role)
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// Whether there was one.
    pub async fn grant_delete(&mut self, name: &str, scope: &Scope) -> Result<bool, StoreError> {
        let deleted = grant::Entity::delete_by_id((name.to_owned(), Word(scope.clone())))
            .exec(&self.tx.0)
            .await?;
        Ok(deleted.rows_affected > 0)
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
}
