//! Text without NUL characters, for which PostgreSQL has no place.
//!
//! Names and errors come from agents, and nothing that one of them says may keep its runner from reporting, or a
//! list from being read. On both databases, what stands for an unknown character takes the place of a NUL.

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement, Value,
    sea_query::Values,
};

/// A transaction whose values are clean.
#[derive(Debug)]
pub struct Clean(pub(super) DatabaseTransaction);

#[async_trait::async_trait]
impl ConnectionTrait for Clean {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(clean(statement)).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(clean(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(clean(statement)).await
    }
}

fn clean(mut statement: Statement) -> Statement {
    if let Some(Values(values)) = &mut statement.values {
        for value in values {
            if let Value::String(Some(text)) = value
                && text.contains('\0')
            {
                *text = clean_text(text);
            }
        }
    }
    statement
}

pub fn clean_text(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The same for JSON, in which a NUL is written as an escape.
pub fn clean_json(json: String) -> String {
    const NUL: &str = "\\u0000";
    if !json.contains(NUL) {
        return json;
    }
    let mut clean = String::with_capacity(json.len());
    let mut rest = json.as_str();
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        clean.push_str(before);
        // An escaped backslash may stand before `u0000`, which is then what it looks like.
        let length = if escape.starts_with(NUL) { NUL.len() } else { 2 };
        clean.push_str(if length == 2 { &escape[..2] } else { "\u{FFFD}" });
        rest = &escape[length..];
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn json_says_the_same_without_nul(text in "[\\\\\"\0u0a-cä\n]{0,12}") {
            let json = clean_json(serde_json::to_string(&text).unwrap());
            let read: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(read, text.replace('\0', "\u{FFFD}"));
        }
    }
}
