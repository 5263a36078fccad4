//! What the pages read: a query or two for each list, whatever its length.

use std::{cmp::Reverse, collections::HashMap};

use domain::{
    ids::{AccountId, JobId, SourceServerId},
    job::{InitiatedBy, LaunchStatus},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, JoinType, Order, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect, Select,
    sea_query::{
        BinOper, Expr, ExprTrait, IntoTableRef, NullOrdering, Query, SelectStatement, SimpleExpr, UnionType,
    },
};

use super::{Reader, StoreError, dialect};
use crate::entities::{
    Doc, Word, account, certificate, job,
    job_server::{self, Column as Part},
    ledger::{self, LedgerState},
    runner,
    source_server::{Column, Entity, Model},
};

/// A page of a list, and how long the whole list is.
#[derive(Debug)]
pub struct Slice<T> {
    pub rows: Vec<T>,
    pub total: u64,
    /// There are more than `total`; they were not counted.
    pub is_more: bool,
}

/// So many of what a text is found in are counted. Who looks for something looks at fewer.
pub const FOUND_MAX: u64 = 1000;

/// Which servers to show. What is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ServerSearch {
    pub account: Option<AccountId>,
    /// Of the accounts with these words in their name or number.
    pub account_text: String,
    pub lifecycle: String,
    pub replication: String,
    pub readiness: String,
    /// Words, each a part of a name, an id, an address, a tag or the operating system.
    pub text: String,
    pub archived: bool,
    pub sort: ServerSort,
    pub descending: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerSort {
    #[default]
    Name,
    Account,
    Lifecycle,
    Replication,
    Lag,
}

/// A source server's part in a job, with the names that people know.
#[derive(Debug, Clone, FromQueryResult)]
pub struct Participant {
    pub job: Word<JobId>,
    pub server: Word<SourceServerId>,
    pub account: Word<AccountId>,
    pub status: Doc<LaunchStatus>,
    pub initiated_by: Word<InitiatedBy>,
    pub created_at: i64,
    pub created_by: String,
    /// See `source_server::Model::known_as`.
    pub name: String,
    pub account_name: String,
}

/// A certificate and the machine that holds it.
#[derive(Debug, Clone, FromQueryResult)]
pub struct HeldCertificate {
    pub serial: String,
    pub subject: String,
    pub issued_at: i64,
    pub revoked_at: Option<i64>,
    /// `None` for a runner.
    pub name: Option<String>,
}

impl<C: ConnectionTrait> Reader<C> {
    pub async fn server_search(
        &self,
        search: &ServerSearch,
        offset: u64,
        limit: u64,
    ) -> Result<Slice<Model>, StoreError> {
        let mut found = self.matching(search);
        let (total, is_more);
        if search.text.is_empty() {
            (total, is_more) = (found.clone().count(&self.0).await?, false);
        } else {
            // What a text is in is found by looking at all of them: once. If it is in many, it ends early.
            let ids = ids_of(found.clone().limit(FOUND_MAX + 1), &self.0).await?;
            let count = ids.len() as u64;
            (total, is_more) = (Ord::min(count, FOUND_MAX), count > FOUND_MAX);
            if !is_more {
                found = self
                    .find::<Entity>()
                    .filter(Column::Id.is_in(ids.iter().map(|id| id.as_str())));
            }
        }
        let order = if search.descending {
            Order::Desc
        } else {
            Order::Asc
        };
        let by_name = match search.sort {
            ServerSort::Name => order.clone(),
            _ => Order::Asc,
        };
        let sorted = match search.sort {
            ServerSort::Name => found,
            ServerSort::Account => found.order_by(Column::Account, order.clone()),
            ServerSort::Lifecycle => found.order_by(Column::LifecycleName, order.clone()),
            ServerSort::Replication => found.order_by(Column::ReplicationName, order.clone()),
            ServerSort::Lag => {
                let nulls = dialect::nulls(&order);
                found.order_by_with_nulls(Column::LagBasis, order.clone(), nulls)
            }
        };
        // Which they are is found out within an index, however many come before; only these are read.
        let page = sorted
            .order_by(Column::Name, by_name)
            .order_by_asc(Column::Id)
            .offset(offset)
            .limit(limit);
        let ids = ids_of(page, &self.0).await?;
        let mut read: HashMap<_, _> = self
            .find::<Entity>()
            .filter(Column::Id.is_in(ids.iter().map(|id| id.as_str())))
            .all(&self.0)
            .await?
            .into_iter()
            .map(|row| (row.id.clone(), row))
            .collect();
        let rows = ids.iter().filter_map(|id| read.remove(id)).collect();
        Ok(Slice { rows, total, is_more })
    }

    /// Servers that are not done and whose replication is in this state.
    pub async fn servers_in_replication(&self, name: &str, limit: u64) -> Result<Slice<Model>, StoreError> {
        let found = self
            .find::<Entity>()
            .filter(Column::ReplicationName.eq(name))
            .filter(Column::LifecycleName.is_not_in(["CUTOVER", "DISCONNECTED"]));
        let total = found.clone().count(&self.0).await?;
        let rows = found
            .order_by_with_nulls(Column::LagBasis, Order::Asc, NullOrdering::First)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice {
            rows,
            total,
            is_more: false,
        })
    }

    /// Servers whose replication goes on, and not as well as a person could make it; the worst first. What is
    /// stalled says more of itself.
    pub async fn servers_of_concern(&self, limit: u64) -> Result<Slice<Model>, StoreError> {
        // Each has an index of those few alone; an index of both there is not.
        let those = |column: Column| {
            Query::select()
                .column(Column::Id)
                .from(Entity)
                .and_where(Expr::col(column))
                .take()
        };
        let mut concern = those(Column::Diverges);
        concern.union(UnionType::Distinct, those(Column::Untracked));
        let found = self
            .find::<Entity>()
            .filter(Column::Id.in_subquery(concern))
            .filter(Column::ReplicationName.ne("STALLED"))
            .filter(Column::LifecycleName.is_not_in(["CUTOVER", "DISCONNECTED"]));
        let total = found.clone().count(&self.0).await?;
        let rows = found
            .order_by_desc(Column::Diverges)
            .order_by_with_nulls(Column::LagBasis, Order::Asc, NullOrdering::First)
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice {
            rows,
            total,
            is_more: false,
        })
    }

    /// Newest first.
    pub async fn job_page(&self, offset: u64, limit: u64) -> Result<Slice<job::Model>, StoreError> {
        let total = self.find::<job::Entity>().count(&self.0).await?;
        let rows = self
            .find::<job::Entity>()
            .order_by_desc(job::Column::CreatedAt)
            .order_by_desc(job::Column::Id)
            .offset(offset)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice {
            rows,
            total,
            is_more: false,
        })
    }

    pub async fn participants(&self, jobs: &[JobId]) -> Result<Vec<Participant>, StoreError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let query = Query::select()
            .and_where(Expr::col(("p", Part::Job)).is_in(jobs.iter().map(JobId::as_str)))
            .order_by("name", Order::Asc)
            .order_by(("p", Part::Server), Order::Asc)
            .take();
        self.participants_by(query).await
    }

    /// The jobs that a server took part in, newest first.
    pub async fn participations(
        &self,
        server: &SourceServerId,
        limit: u64,
    ) -> Result<Vec<Participant>, StoreError> {
        let query = Query::select()
            .and_where(Expr::col(("p", Part::Server)).eq(server.as_str()))
            .order_by(("j", job::Column::CreatedAt), Order::Desc)
            .order_by(("j", job::Column::Id), Order::Desc)
            .limit(limit)
            .take();
        self.participants_by(query).await
    }

    /// Servers whose last job failed for them, newest first.
    pub async fn participants_failed(&self, limit: u64) -> Result<Vec<Participant>, StoreError> {
        let later = Query::select()
            .expr(Expr::value(1))
            .from_as(job_server::Entity, "q")
            .join_as(
                JoinType::InnerJoin,
                job::Entity,
                "k",
                Expr::col(("k", job::Column::Id)).equals(("q", Part::Job)),
            )
            .and_where(Expr::col(("q", Part::Server)).equals(("p", Part::Server)))
            .and_where(Expr::col(("k", job::Column::CreatedAt)).gt(Expr::col(("j", job::Column::CreatedAt))))
            .take();
        let query = Query::select()
            .and_where(Expr::col(("p", Part::Status)).like("%\"status\":\"FAILED\"%"))
            .and_where(Expr::not_exists(later))
            .order_by(("j", job::Column::CreatedAt), Order::Desc)
            .limit(limit)
            .take();
        let mut failed = self.participants_by(query).await?;
        // The text of an error may look like a status.
        failed.retain(|participant| matches!(participant.status.0, LaunchStatus::Failed { .. }));
        Ok(failed)
    }

    /// Those that `query` chooses among participants `p` of jobs `j`.
    async fn participants_by(&self, mut query: SelectStatement) -> Result<Vec<Participant>, StoreError> {
        let backend = self.0.get_database_backend();
        query
            .columns([
                ("p", Part::Job),
                ("p", Part::Server),
                ("p", Part::Account),
                ("p", Part::Status),
            ])
            .columns([
                ("j", job::Column::InitiatedBy),
                ("j", job::Column::CreatedAt),
                ("j", job::Column::CreatedBy),
            ])
            .expr_as(Expr::col(("s", Column::Name)), "name")
            .expr_as(Expr::col(("a", account::Column::Name)), "account_name")
            .from_as(job_server::Entity, "p")
            .join_as(
                JoinType::InnerJoin,
                job::Entity,
                "j",
                Expr::col(("j", job::Column::Id)).equals(("p", Part::Job)),
            )
            .join_as(
                JoinType::InnerJoin,
                Entity,
                "s",
                Expr::col(("s", Column::Id)).equals(("p", Part::Server)),
            )
            .join_as(
                JoinType::InnerJoin,
                account::Entity,
                "a",
                Expr::col(("a", account::Column::Id)).equals(("p", Part::Account)),
            )
            .cond_where(self.1.by_account(("p", Part::Account)));
        let statement = backend.build(&query);
        Ok(Participant::find_by_statement(statement).all(&self.0).await?)
    }

    /// Of the account's runners and agents; what is revoked comes last.
    pub async fn certificates_in(&self, account: &AccountId) -> Result<Vec<HeldCertificate>, StoreError> {
        let none = Expr::value(Option::<String>::None);
        let mut held = self
            .certificates_held("runner", runner::Entity, none, account)
            .await?;
        let name = Expr::col(("m", Column::Name));
        held.extend(self.certificates_held("agent", Entity, name, account).await?);
        held.sort_by(|a, b| {
            let key = |held: &HeldCertificate| {
                (
                    held.revoked_at.is_some(),
                    held.name.clone(),
                    Reverse(held.issued_at),
                )
            };
            key(a).cmp(&key(b))
        });
        Ok(held)
    }

    /// By the machines, of which an account has few among all that have certificates.
    async fn certificates_held(
        &self,
        kind: &'static str,
        machines: impl IntoTableRef,
        name: SimpleExpr,
        account: &AccountId,
    ) -> Result<Vec<HeldCertificate>, StoreError> {
        use certificate::Column as C;
        let subject = Expr::value(format!("orglift://{kind}/"))
            .binary(BinOper::Custom("||"), Expr::col(("m", Column::Id)));
        let query = Query::select()
            .columns([
                ("c", C::Serial),
                ("c", C::Subject),
                ("c", C::IssuedAt),
                ("c", C::RevokedAt),
            ])
            .expr_as(name, "name")
            .from_as(machines, "m")
            .join_as(
                JoinType::InnerJoin,
                certificate::Entity,
                "c",
                Expr::col(("c", C::Subject)).eq(subject),
            )
            .and_where(Expr::col(("m", Column::Account)).eq(account.as_str()))
            .cond_where(self.1.by_account(("m", Column::Account)))
            .take();
        let statement = self.0.get_database_backend().build(&query);
        Ok(HeldCertificate::find_by_statement(statement).all(&self.0).await?)
    }

    pub async fn runners_in(&self, account: &AccountId) -> Result<Vec<runner::Model>, StoreError> {
        Ok(self
            .find::<runner::Entity>()
            .filter(runner::Column::Account.eq(account.as_str()))
            .order_by_asc(runner::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    /// What exists in the account, and what was handed over to production there.
    pub async fn ledger_in(&self, account: &AccountId, limit: u64) -> Result<Vec<ledger::Model>, StoreError> {
        Ok(self
            .find::<ledger::Entity>()
            .filter(ledger::Column::Account.eq(account.as_str()))
            .filter(ledger::Column::State.ne(Word(LedgerState::Gone)))
            .order_by_desc(ledger::Column::WantedAt)
            .limit(limit)
            .all(&self.0)
            .await?)
    }

    /// Whether each of `serials` was revoked; unknown ones are left out.
    pub async fn certificates_by_serial(
        &self,
        serials: &[String],
    ) -> Result<Vec<certificate::Model>, StoreError> {
        Ok(certificate::Entity::find()
            .filter(certificate::Column::Serial.is_in(serials))
            .all(&self.0)
            .await?)
    }

    fn matching(&self, search: &ServerSearch) -> Select<Entity> {
        let backend = self.0.get_database_backend();
        let mut found = self.find::<Entity>().filter(Column::Archived.eq(search.archived));
        if let Some(account) = &search.account {
            found = found.filter(Column::Account.eq(account.as_str()));
        }
        if !search.account_text.is_empty() {
            let columns = [account::Column::Name, account::Column::Id];
            let accounts = Query::select()
                .column(account::Column::Id)
                .from(account::Entity)
                .cond_where(self.in_one_of(&search.account_text, &columns))
                .take();
            found = found.filter(Column::Account.in_subquery(accounts));
        }
        if !search.lifecycle.is_empty() {
            found = found.filter(Column::LifecycleName.eq(search.lifecycle.as_str()));
        }
        if !search.replication.is_empty() {
            found = found.filter(Column::ReplicationName.eq(search.replication.as_str()));
        }
        if !search.readiness.is_empty() {
            found = found.filter(Expr::col(Column::Readiness).eq(search.readiness.as_str()));
        }
        for word in words(&search.text) {
            found = found.filter(dialect::holds(backend, Expr::col(Column::Sought), &word));
        }
        found
    }
}

/// As they stand in what is sought, and no more than anybody types.
pub(super) fn words(text: &str) -> Vec<String> {
    text.to_lowercase()
        .split_whitespace()
        .take(8)
        .map(str::to_owned)
        .collect()
}

async fn ids_of(
    found: Select<Entity>,
    connection: &impl ConnectionTrait,
) -> Result<Vec<Word<SourceServerId>>, StoreError> {
    let ids = found.select_only().column(Column::Id).into_tuple();
    Ok(ids.all(connection).await?)
}
