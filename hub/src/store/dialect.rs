//! What SQLite and PostgreSQL write differently. Everything else is written so that both understand it.

use sea_orm::{
    DbBackend,
    sea_query::{ExprTrait, LikeExpr, NullOrdering, Order, SimpleExpr, extension::postgres::PgExpr},
};

/// Whether `text` holds `word`, whatever the case of its letters.
pub fn holds(backend: DbBackend, text: impl Into<SimpleExpr>, word: &str) -> SimpleExpr {
    let escaped = word.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let pattern = LikeExpr::new(format!("%{escaped}%"));
    let text: SimpleExpr = text.into();
    match backend {
        // The backslash is its escape, unless told otherwise.
        DbBackend::Postgres => text.ilike(pattern),
        _ => text.like(pattern.escape('\\')),
    }
}

/// Where rows without a value belong: before all others, or after them if the order is turned around.
pub fn nulls(order: &Order) -> NullOrdering {
    match order {
        Order::Desc => NullOrdering::Last,
        _ => NullOrdering::First,
    }
}
