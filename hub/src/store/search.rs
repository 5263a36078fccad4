//! One text, sought in everything that has a name.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, IntoColumnRef},
};

use super::{
    Reader, StoreError, dialect,
    pages::{ServerSearch, Slice, words},
};
use crate::entities::{account, application, job, ledger, source_server, wave};

/// The first few of each kind.
#[derive(Debug)]
pub struct Found {
    pub servers: Slice<source_server::Model>,
    pub accounts: Vec<account::Model>,
    pub applications: Vec<application::Model>,
    pub waves: Vec<wave::Model>,
    pub jobs: Vec<job::Model>,
    pub resources: Vec<ledger::Model>,
}

impl<C: ConnectionTrait> Reader<C> {
    pub async fn find_everywhere(&self, text: &str, limit: u64) -> Result<Found, StoreError> {
        let search = ServerSearch {
            text: text.to_owned(),
            ..ServerSearch::default()
        };
        let accounts = self
            .find::<account::Entity>()
            .filter(self.in_one_of(text, &[account::Column::Name, account::Column::Id]))
            .order_by_asc(account::Column::Name)
            .limit(limit);
        let applications = self
            .find::<application::Entity>()
            .filter(application::Column::Archived.eq(false))
            .filter(self.in_one_of(text, &[application::Column::Name, application::Column::Id]))
            .order_by_asc(application::Column::Name)
            .limit(limit);
        let waves = self
            .find::<wave::Entity>()
            .filter(wave::Column::Archived.eq(false))
            .filter(self.in_one_of(text, &[wave::Column::Name, wave::Column::Id]))
            .order_by_asc(wave::Column::Name)
            .limit(limit);
        let jobs = self
            .find::<job::Entity>()
            .filter(self.in_one_of(text, &[job::Column::Id]))
            .order_by_desc(job::Column::CreatedAt)
            .limit(limit);
        // There are many, and nobody knows the half of such an id.
        let resources = self
            .find::<ledger::Entity>()
            .filter(ledger::Column::Resource.eq(text.trim()))
            .limit(limit);
        Ok(Found {
            servers: self.server_search(&search, 0, limit).await?,
            accounts: accounts.all(&self.0).await?,
            applications: applications.all(&self.0).await?,
            waves: waves.all(&self.0).await?,
            jobs: jobs.all(&self.0).await?,
            resources: resources.all(&self.0).await?,
        })
    }

    /// Each word in any of the columns.
    pub(super) fn in_one_of<T: IntoColumnRef + Copy>(&self, text: &str, columns: &[T]) -> Condition {
        let backend = self.0.get_database_backend();
        words(text).iter().fold(Condition::all(), |all, word| {
            let each = columns
                .iter()
                .map(|column| dialect::holds(backend, Expr::col(*column), word));
            all.add(each.fold(Condition::any(), Condition::add))
        })
    }
}
