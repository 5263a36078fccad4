//! Users, and their sessions and keys.

use domain::scope::Scope;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, sea_query::OnConflict,
};

use super::{Reader, StoreError, Write};
use crate::{
    auth::Grant,
    clock::now_ms,
    entities::{
        Word, api_key, grant, oidc_visit, recovery_code,
        session::{self, Stage},
        user,
    },
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

    pub async fn grant_list(&self) -> Result<Vec<grant::Model>, StoreError> {
        Ok(grant::Entity::find()
            .order_by_asc(grant::Column::User)
            .order_by_asc(grant::Column::Scope)
            .all(&self.0)
            .await?)
    }

    pub async fn user_by_subject(&self, subject: &str) -> Result<Option<user::Model>, StoreError> {
        Ok(user::Entity::find()
            .filter(user::Column::Subject.eq(subject))
            .one(&self.0)
            .await?)
    }

    /// Latest first. One that ended may still be among them.
    pub async fn sessions_of(&self, name: &str) -> Result<Vec<session::Model>, StoreError> {
        Ok(session::Entity::find()
            .filter(session::Column::User.eq(name))
            .filter(session::Column::Stage.eq(Word(Stage::Open)))
            .order_by_desc(session::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    /// Latest first.
    pub async fn api_keys_of(&self, name: &str) -> Result<Vec<api_key::Model>, StoreError> {
        Ok(api_key::Entity::find()
            .filter(api_key::Column::User.eq(name))
            .order_by_desc(api_key::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    pub async fn recovery_codes_left(&self, name: &str) -> Result<u64, StoreError> {
        Ok(recovery_code::Entity::find()
            .filter(recovery_code::Column::User.eq(name))
            .count(&self.0)
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
    /// Adds a user, or writes over one.
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

    /// Ends all sessions of a user but one, known by its digest.
    pub async fn sessions_end(&mut self, name: &str, but: Option<&str>) -> Result<(), StoreError> {
        session::Entity::delete_many()
            .filter(session::Column::User.eq(name))
            .filter(session::Column::Sha256.ne(but.unwrap_or_default()))
            .exec(&self.tx.0)
            .await?;
        Ok(())
    }

    pub async fn recovery_codes_replace(
        &mut self,
        name: &str,
        digests: Vec<String>,
    ) -> Result<(), StoreError> {
        recovery_code::Entity::delete_many()
            .filter(recovery_code::Column::User.eq(name))
            .exec(&self.tx.0)
            .await?;
        for sha256 in digests {
            let row = recovery_code::Model {
                user: name.to_owned(),
                sha256,
            };
            recovery_code::Entity::insert(row.into_active_model())
                .exec_without_returning(&self.tx.0)
                .await?;
        }
        Ok(())
    }

    /// Uses a recovery code up. Whether there was such a one.
    pub async fn recovery_code_use(&mut self, name: &str, sha256: &str) -> Result<bool, StoreError> {
        let used = recovery_code::Entity::delete_by_id((name.to_owned(), sha256.to_owned()))
            .exec(&self.tx.0)
            .await?;
        Ok(used.rows_affected > 0)
    }

    pub async fn oidc_visit_insert(&mut self, row: oidc_visit::Model) -> Result<(), StoreError> {
        oidc_visit::Entity::delete_many()
            .filter(oidc_visit::Column::EndsAt.lt(now_ms()))
            .exec(&self.tx.0)
            .await?;
        oidc_visit::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }

    /// A visit ends when its browser is back, whatever comes of it.
    pub async fn oidc_visit_take(&mut self, sha256: &str) -> Result<Option<oidc_visit::Model>, StoreError> {
        let found = oidc_visit::Entity::find_by_id(sha256).one(&self.tx.0).await?;
        oidc_visit::Entity::delete_by_id(sha256).exec(&self.tx.0).await?;
        Ok(found.filter(|visit| now_ms() < visit.ends_at))
    }

    pub async fn api_key_used(&mut self, sha256: &str, at: i64) -> Result<(), StoreError> {
        let row = api_key::ActiveModel {
            sha256: Set(sha256.to_owned()),
            used_at: Set(Some(at)),
            ..Default::default()
        };
        row.update_without_returning(&self.tx.0).await?;
        Ok(())
    }

    pub async fn api_key_delete(&mut self, sha256: &str) -> Result<(), StoreError> {
        api_key::Entity::delete_by_id(sha256).exec(&self.tx.0).await?;
        Ok(())
    }

    pub async fn api_key_insert(&mut self, row: api_key::Model) -> Result<(), StoreError> {
        api_key::Entity::insert(row.into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        Ok(())
    }
}
