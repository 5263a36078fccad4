//! The audit log's rows.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Select,
};

use super::{Reader, StoreError, Write, clean::clean_text, dialect};
use crate::{
    audit::{self, By},
    clock::now_ms,
    entities::{
        Word,
        audit::{Column, Entity, Model, Outcome},
    },
};

/// Which entries to show. What is empty does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditSearch {
    /// A part of anything that an entry says.
    pub text: String,
    pub actor: String,
    pub refused: bool,
    /// Milliseconds since 1970: not before, and before.
    pub from: Option<i64>,
    pub until: Option<i64>,
}

impl<C: ConnectionTrait> Reader<C> {
    /// Newest first; those before `before` only.
    pub async fn audit_search(
        &self,
        search: &AuditSearch,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Model>, StoreError> {
        let mut rows = self.audit_found(search);
        if let Some(before) = before {
            rows = rows.filter(Column::Sequence.lt(before));
        }
        Ok(rows
            .order_by_desc(Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }

    fn audit_found(&self, search: &AuditSearch) -> Select<Entity> {
        let backend = self.0.get_database_backend();
        let mut rows = self.find::<Entity>();
        for word in search.text.split_whitespace() {
            let anywhere = [
                Column::Actor,
                Column::Address,
                Column::Action,
                Column::Subject,
                Column::Detail,
            ]
            .into_iter()
            .fold(sea_orm::Condition::any(), |any, column| {
                any.add(dialect::holds(backend, column.into_expr(), word))
            });
            rows = rows.filter(anywhere);
        }
        if !search.actor.is_empty() {
            rows = rows.filter(Column::Actor.eq(&search.actor));
        }
        if search.refused {
            rows = rows.filter(Column::Outcome.eq(Word(Outcome::Refused)));
        }
        if let Some(from) = search.from {
            rows = rows.filter(Column::At.gte(from));
        }
        if let Some(until) = search.until {
            rows = rows.filter(Column::At.lt(until));
        }
        rows
    }

    /// What was done to `subject`, newest first.
    pub async fn audit_of(&self, subject: &str, limit: u64) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .find::<Entity>()
            .filter(Column::Subject.eq(subject))
            .order_by_desc(Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }

    /// Oldest first, from the one after `sequence` on.
    pub async fn audit_after(
        &self,
        search: &AuditSearch,
        sequence: i64,
        limit: u64,
    ) -> Result<Vec<Model>, StoreError> {
        Ok(self
            .audit_found(search)
            .filter(Column::Sequence.gt(sequence))
            .order_by_asc(Column::Sequence)
            .limit(limit)
            .all(&self.0)
            .await?)
    }
}

impl Write {
    /// Adds to the log what was done; `detail` where the action alone does not say it.
    pub async fn audit_done(
        &mut self,
        by: impl Into<By<'_>>,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> Result<(), StoreError> {
        self.audit_add(by.into(), action, subject, Outcome::Done, detail)
            .await
    }

    /// Adds to the log what was refused, and why.
    pub async fn audit_refused(
        &mut self,
        by: impl Into<By<'_>>,
        action: &str,
        subject: &str,
        why: &str,
    ) -> Result<(), StoreError> {
        self.audit_add(by.into(), action, subject, Outcome::Refused, why)
            .await
    }

    /// Only one transaction writes at a time: no other can come between an entry and the one before.
    async fn audit_add(
        &mut self,
        by: By<'_>,
        action: &str,
        subject: &str,
        outcome: Outcome,
        detail: &str,
    ) -> Result<(), StoreError> {
        // Whatever this transaction sees: the chain is the hub's.
        let last = Entity::find()
            .order_by_desc(Column::Sequence)
            .one(&self.tx.0)
            .await?;
        let (sequence, before) = last.map_or_else(Default::default, |last| (last.sequence, last.hash));
        let mut entry = Model {
            sequence: sequence + 1,
            at: now_ms(),
            actor: clean_text(by.name),
            address: by.address.map(|address| address.to_string()).unwrap_or_default(),
            action: clean_text(action),
            subject: clean_text(subject),
            outcome: Word(outcome),
            detail: clean_text(detail),
            hash: String::new(),
        };
        entry.hash = audit::hash(&before, &entry);
        Entity::insert(entry.clone().into_active_model())
            .exec_without_returning(&self.tx.0)
            .await?;
        self.audited.push(entry);
        Ok(())
    }
}
