//! What a reader shows: the accounts that somebody may see, and what is of them.
//!
//! Whatever lies outside is to that reader as if it were not there: no list has it, and asked for by its identifier it
//! does not exist.

use domain::scope::Scope;
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PrimaryKeyTrait, QueryFilter, Select,
    sea_query::{Expr, ExprTrait, Func, IntoColumnRef, IntoCondition, Query, SelectStatement},
};

use super::Reader;
use crate::entities::{
    account, application, artifact, audit, checkpoint, conversion, inventory, job, job_event, job_server,
    ledger, organization, readiness, runner, saga, source_server, token, trend, turned_away, wave,
};

/// Rows that are of somebody's accounts.
pub(super) trait Placed: EntityTrait {
    fn within(sight: &Sight) -> Condition;
}

macro_rules! placed {
    ($($entity:ident $by:ident $column:ident;)*) => {$(
        impl Placed for $entity::Entity {
            fn within(sight: &Sight) -> Condition {
                sight.$by((Self, $entity::Column::$column))
            }
        }
    )*};
}

placed! {
    organization by_organization Id;
    account by_account Id;
    runner by_account Account;
    token by_account Account;
    source_server by_account Account;
    application by_account Account;
    wave by_wave Id;
    job by_job Id;
    job_server by_account Account;
    saga by_server Server;
    checkpoint by_server Server;
    conversion by_server Server;
    artifact by_server Server;
    trend by_server Server;
    ledger by_account Account;
    inventory by_account Account;
    readiness by_account Account;
    turned_away by_runner Runner;
    audit by_subject Subject;
}

/// Of a job's log, what is said of the job itself, and of servers in sight.
impl Placed for job_event::Entity {
    fn within(sight: &Sight) -> Condition {
        let server = (Self, job_event::Column::Server);
        let told = Condition::any()
            .add(Expr::col(server).is_null())
            .add(sight.by_server(server));
        Condition::all()
            .add(sight.by_job((Self, job_event::Column::Job)))
            .add(told)
    }
}

impl<C> Reader<C> {
    /// Finds what is in sight.
    pub(super) fn find<E: Placed>(&self) -> Select<E> {
        E::find().filter(E::within(&self.1))
    }

    pub(super) fn find_by_id<E: Placed>(
        &self,
        id: impl Into<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>,
    ) -> Select<E> {
        E::find_by_id(id).filter(E::within(&self.1))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Of the hub itself, and of who may see everything.
    Everything,
    /// Of none of these there is nothing to see.
    Of(Vec<Scope>),
}

impl Sight {
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let scopes: Vec<_> = scopes.into_iter().collect();
        if scopes.contains(&Scope::Everything) {
            Self::Everything
        } else {
            Self::Of(scopes)
        }
    }

    /// Only rows whose account, in `column`, is in sight.
    pub(super) fn by_account(&self, column: impl IntoColumnRef) -> Condition {
        self.within(column, Self::accounts)
    }

    /// Only rows whose source server, in `column`, is in sight.
    pub(super) fn by_server(&self, column: impl IntoColumnRef) -> Condition {
        self.within(column, Self::servers)
    }

    /// Only rows whose job, in `column`, has a source server in sight.
    pub(super) fn by_job(&self, column: impl IntoColumnRef) -> Condition {
        self.within(column, |scopes| {
            of_accounts(
                job_server::Entity,
                job_server::Column::Job,
                job_server::Column::Account,
                scopes,
            )
        })
    }

    /// Only rows whose runner, in `column`, is in sight.
    pub(super) fn by_runner(&self, column: impl IntoColumnRef) -> Condition {
        self.within(column, |scopes| {
            of_accounts(
                runner::Entity,
                runner::Column::Id,
                runner::Column::Account,
                scopes,
            )
        })
    }

    /// Only waves of accounts in sight, or with an application of one.
    pub(super) fn by_wave(&self, column: impl IntoColumnRef) -> Condition {
        let Self::Of(scopes) = self else {
            return everything();
        };
        let with_applications = of_accounts(
            application::Entity,
            application::Column::Wave,
            application::Column::Account,
            scopes,
        );
        let own = of_accounts(wave::Entity, wave::Column::Id, wave::Column::Account, scopes);
        let column = Expr::col(column);
        Condition::any()
            .add(column.clone().in_subquery(with_applications))
            .add(column.in_subquery(own))
    }

    /// Only organizations that are in sight, or have an account that is.
    pub(super) fn by_organization(&self, column: impl IntoColumnRef) -> Condition {
        let Self::Of(scopes) = self else {
            return everything();
        };
        let whole = scopes.iter().filter_map(|scope| match scope {
            Scope::Organization(id) => Some(id.as_str()),
            _ => None,
        });
        let mut of_accounts = Self::accounts(scopes);
        of_accounts.clear_selects().column(account::Column::Organization);
        let column = Expr::col(column);
        Condition::any()
            .add(column.clone().is_in(whole))
            .add(column.in_subquery(of_accounts))
    }

    /// Only what was done to an account, a source server or a runner in sight.
    pub(super) fn by_subject(&self, column: impl IntoColumnRef) -> Condition {
        match self {
            Self::Everything => everything(),
            Self::Of(_) => {
                let column = column.into_column_ref();
                Condition::any()
                    .add(self.by_account(column.clone()))
                    .add(self.by_server(column.clone()))
                    .add(self.by_runner(column))
            }
        }
    }

    fn within(
        &self,
        column: impl IntoColumnRef,
        allowed: impl FnOnce(&[Scope]) -> SelectStatement,
    ) -> Condition {
        match self {
            Self::Everything => everything(),
            Self::Of(scopes) => Expr::col(column).in_subquery(allowed(scopes)).into_condition(),
        }
    }

    fn accounts(scopes: &[Scope]) -> SelectStatement {
        let any = scopes.iter().map(covered).fold(Condition::any(), Condition::add);
        // A condition of nothing would be none at all.
        let any = any.add(Expr::value(false));
        Query::select()
            .column(account::Column::Id)
            .from(account::Entity)
            .cond_where(any)
            .take()
    }

    fn servers(scopes: &[Scope]) -> SelectStatement {
        of_accounts(
            source_server::Entity,
            source_server::Column::Id,
            source_server::Column::Account,
            scopes,
        )
    }
}

/// Not an empty condition, which would be left out of one that it is a part of.
fn everything() -> Condition {
    Condition::all().add(Expr::value(true))
}

/// [`Scope::covers`], of the rows of accounts.
fn covered(scope: &Scope) -> Condition {
    use account::Column as C;
    match scope {
        Scope::Everything => everything(),
        Scope::Organization(id) => C::Organization.eq(id.as_str()).into_condition(),
        Scope::Unit(id, path) => {
            let within = path.within();
            let length = i32::try_from(within.chars().count()).unwrap_or(i32::MAX);
            // `LIKE` would not tell `Production` from `production` everywhere.
            let begins = Func::cust("substr").arg(Expr::col(C::Unit)).arg(1).arg(length);
            let unit = Condition::any()
                .add(C::Unit.eq(path.as_str()))
                .add(Expr::from(begins).eq(within));
            Condition::all().add(C::Organization.eq(id.as_str())).add(unit)
        }
        Scope::Account(id) => C::Id.eq(id.as_str()).into_condition(),
    }
}

fn of_accounts<E: EntityTrait>(
    entity: E,
    id: E::Column,
    account: E::Column,
    scopes: &[Scope],
) -> SelectStatement {
    Query::select()
        .column(id)
        .from(entity)
        .and_where(Expr::col(account).in_subquery(Sight::accounts(scopes)))
        .take()
}
