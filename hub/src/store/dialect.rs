//! What SQLite and PostgreSQL write differently. Everything else is written so that both understand it.

use sea_orm::{
    DbBackend,
    sea_query::{Expr, ExprTrait, LikeExpr, NullOrdering, Order, SimpleExpr, extension::postgres::PgExpr},
};

/// The text at `key` of the JSON object in `column`; NULL where there is none.
pub fn text_at(backend: DbBackend, column: &str, key: &str) -> String {
    match backend {
        DbBackend::Postgres => format!("({column}::json ->> '{key}')"),
        _ => format!("json_extract({column}, '$.{key}')"),
    }
}

/// The sum of the numbers that the elements of the JSON list in `column` have at `key`.
pub fn sum_of_elements(backend: DbBackend, column: &str, key: &str) -> SimpleExpr {
    Expr::cust(match backend {
        DbBackend::Postgres => format!(
            "COALESCE((SELECT SUM((element ->> '{key}')::bigint) FROM json_array_elements({column}::json) AS element), 0)"
        ),
        _ => format!(
            "COALESCE((SELECT SUM(json_extract(element.value, '$.{key}')) FROM json_each({column}) AS element), 0)"
        ),
    })
}

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
