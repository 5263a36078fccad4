//! What the pages read: one query for each list, whatever its length.

use domain::{
    ids::{AccountId, JobId, SourceServerId},
    job::{InitiatedBy, LaunchStatus},
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, Order, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Select, Statement, Value,
    sea_query::{Expr, ExprTrait, LikeExpr, SimpleExpr},
};

use super::{Reader, StoreError};
use crate::entities::{
    Doc, Word, certificate, job,
    ledger::{self, LedgerState},
    runner,
    source_server::{Column, Entity, Model},
};

/// A page of a list, and how long the whole list is.
#[derive(Debug)]
pub struct Slice<T> {
    pub rows: Vec<T>,
    pub total: u64,
}

/// Which servers to show. What is empty does not restrict.
#[derive(Debug, Clone, Default)]
pub struct ServerSearch {
    pub account: Option<AccountId>,
    pub lifecycle: String,
    pub replication: String,
    pub readiness: String,
    /// A part of the name, the id, an address or the operating system.
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

#[derive(Debug, FromQueryResult)]
struct Sum {
    bytes: i64,
}

const PARTICIPANTS: &str = "SELECT p.job, p.server, p.account, p.status, j.initiated_by, j.created_at, j.created_by, \
     COALESCE(NULLIF(json_extract(s.tags, '$.Name'), ''), s.hostname) AS name, a.name AS account_name FROM job_servers p JOIN jobs j ON j.id = p.job \
     JOIN source_servers s ON s.id = p.server JOIN accounts a ON a.id = p.account";

impl<C: ConnectionTrait> Reader<C> {
    pub async fn server_search(
        &self,
        search: &ServerSearch,
        offset: u64,
        limit: u64,
    ) -> Result<Slice<Model>, StoreError> {
        let found = matching(search);
        let total = found.clone().count(&self.0).await?;
        let order = if search.descending {
            Order::Desc
        } else {
            Order::Asc
        };
        let found = match search.sort {
            ServerSort::Name => found.order_by(known_as(), order),
            ServerSort::Account => found.order_by(Column::Account, order),
            ServerSort::Lifecycle => found.order_by(Column::LifecycleName, order),
            ServerSort::Replication => found.order_by(Column::ReplicationName, order),
            ServerSort::Lag => found.order_by(Column::LagBasis, order),
        };
        let rows = found
            .order_by(known_as(), Order::Asc)
            .order_by_asc(Column::Id)
            .offset(offset)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice { rows, total })
    }

    /// Servers that are not done and whose replication is in this state.
    pub async fn servers_in_replication(&self, name: &str, limit: u64) -> Result<Slice<Model>, StoreError> {
        let found = Entity::find()
            .filter(Column::ReplicationName.eq(name))
            .filter(Column::LifecycleName.is_not_in(["CUTOVER", "DISCONNECTED"]));
        let total = found.clone().count(&self.0).await?;
        let rows = found
            .order_by_asc(Column::LagBasis)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice { rows, total })
    }

    /// Servers whose replication goes on, and not as well as a person could make it; the worst first. What is
    /// stalled says more of itself.
    pub async fn servers_of_concern(&self, limit: u64) -> Result<Slice<Model>, StoreError> {
        let concern = Condition::any()
            .add(Expr::col(Column::Diverges))
            .add(Expr::col(Column::Untracked));
        let found = Entity::find()
            .filter(concern)
            .filter(Column::ReplicationName.ne("STALLED"))
            .filter(Column::LifecycleName.is_not_in(["CUTOVER", "DISCONNECTED"]));
        let total = found.clone().count(&self.0).await?;
        let rows = found
            .order_by_desc(Column::Diverges)
            .order_by_asc(Column::LagBasis)
            .order_by_asc(Column::Id)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice { rows, total })
    }

    /// Bytes of all disks that their runners hold.
    pub async fn replicated_bytes(&self) -> Result<u64, StoreError> {
        let sum = Sum::find_by_statement(Statement::from_string(
            DbBackend::Sqlite,
            "SELECT COALESCE(SUM(json_extract(disk.value, '$.replicated_bytes')), 0) AS bytes \
             FROM source_servers, json_each(source_servers.disks) AS disk",
        ));
        Ok(sum
            .one(&self.0)
            .await?
            .map_or(0, |sum| u64::try_from(sum.bytes).unwrap_or(0)))
    }

    /// Newest first.
    pub async fn job_page(&self, offset: u64, limit: u64) -> Result<Slice<job::Model>, StoreError> {
        let total = job::Entity::find().count(&self.0).await?;
        let rows = job::Entity::find()
            .order_by_desc(job::Column::CreatedAt)
            .order_by_desc(job::Column::Id)
            .offset(offset)
            .limit(limit)
            .all(&self.0)
            .await?;
        Ok(Slice { rows, total })
    }

    pub async fn participants(&self, jobs: &[JobId]) -> Result<Vec<Participant>, StoreError> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let marks = vec!["?"; jobs.len()].join(", ");
        let sql = format!("{PARTICIPANTS} WHERE p.job IN ({marks}) ORDER BY name, p.server");
        let jobs = jobs.iter().map(|job| Value::from(job.as_str()));
        self.participants_by(sql, jobs.collect()).await
    }

    /// The jobs that a server took part in, newest first.
    pub async fn participations(
        &self,
        server: &SourceServerId,
        limit: u64,
    ) -> Result<Vec<Participant>, StoreError> {
        let sql = format!("{PARTICIPANTS} WHERE p.server = ? ORDER BY j.created_at DESC, j.id DESC LIMIT ?");
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.participants_by(sql, vec![server.as_str().into(), limit.into()])
            .await
    }

    /// Servers whose last job failed for them, newest first.
    pub async fn participants_failed(&self, limit: u64) -> Result<Vec<Participant>, StoreError> {
        let sql = format!(
            "{PARTICIPANTS} WHERE p.status LIKE '%\"status\":\"FAILED\"%' AND NOT EXISTS \
             (SELECT 1 FROM job_servers q JOIN jobs k ON k.id = q.job \
              WHERE q.server = p.server AND k.created_at > j.created_at) \
             ORDER BY j.created_at DESC LIMIT ?"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut failed = self.participants_by(sql, vec![limit.into()]).await?;
        // The text of an error may look like a status.
        failed.retain(|participant| matches!(participant.status.0, LaunchStatus::Failed { .. }));
        Ok(failed)
    }

    async fn participants_by(&self, sql: String, values: Vec<Value>) -> Result<Vec<Participant>, StoreError> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, sql, values);
        Ok(Participant::find_by_statement(statement).all(&self.0).await?)
    }

    pub async fn certificates_in(&self, account: &AccountId) -> Result<Vec<HeldCertificate>, StoreError> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "SELECT c.serial, c.subject, c.issued_at, c.revoked_at, \
             COALESCE(NULLIF(json_extract(s.tags, '$.Name'), ''), s.hostname) AS name FROM certificates c \
             LEFT JOIN source_servers s ON c.subject = 'orglift://agent/' || s.id \
             LEFT JOIN runners r ON c.subject = 'orglift://runner/' || r.id \
             WHERE s.account = ? OR r.account = ? \
             ORDER BY c.revoked_at IS NOT NULL, s.id IS NOT NULL, name, c.issued_at DESC",
            [Value::from(account.as_str()), account.as_str().into()],
        );
        Ok(HeldCertificate::find_by_statement(statement).all(&self.0).await?)
    }

    pub async fn runners_in(&self, account: &AccountId) -> Result<Vec<runner::Model>, StoreError> {
        Ok(runner::Entity::find()
            .filter(runner::Column::Account.eq(account.as_str()))
            .order_by_asc(runner::Column::CreatedAt)
            .all(&self.0)
            .await?)
    }

    /// What exists in the account, and what was handed over to production there.
    pub async fn ledger_in(&self, account: &AccountId, limit: u64) -> Result<Vec<ledger::Model>, StoreError> {
        Ok(ledger::Entity::find()
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
}

/// See `source_server::Model::known_as`.
fn known_as() -> SimpleExpr {
    Expr::cust("COALESCE(NULLIF(json_extract(tags, '$.Name'), ''), hostname)")
}

fn matching(search: &ServerSearch) -> Select<Entity> {
    let archived = Expr::col(Column::Lifecycle).like("%\"archived\":true%");
    let mut found = Entity::find().filter(if search.archived { archived } else { archived.not() });
    if let Some(account) = &search.account {
        found = found.filter(Column::Account.eq(account.as_str()));
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
    let words = search.text.split_whitespace();
    for word in words.take(8) {
        let escaped = word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        let pattern = || LikeExpr::new(format!("%{escaped}%")).escape('\\');
        let os = Expr::cust("json_extract(properties, '$.os')");
        found = found.filter(
            Condition::any()
                .add(known_as().like(pattern()))
                .add(Expr::col(Column::Hostname).like(pattern()))
                .add(Expr::col(Column::Id).like(pattern()))
                .add(Expr::col(Column::AgentAddress).like(pattern()))
                .add(os.like(pattern())),
        );
    }
    found
}
