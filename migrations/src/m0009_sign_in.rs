//! How people sign in: second factors, lock-out, an identity provider, keys that end.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, boolean, integer, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0009_sign_in"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let new = [
            ("users", text_null("subject")),
            ("users", boolean("one_time").default(false).take()),
            ("users", boolean("break_glass").default(false).take()),
            ("users", text_null("totp")),
            ("users", big_integer("totp_step").default(0).take()),
            ("users", integer("failures").default(0).take()),
            ("users", big_integer_null("locked_until")),
            ("users", big_integer_null("disabled_at")),
            ("users", big_integer_null("signed_in_at")),
            ("users", text("language").default("").take()),
            ("sessions", text("stage").default("open").take()),
            ("sessions", text("address").default("").take()),
            ("sessions", text("browser").default("").take()),
            ("sessions", text("reason").default("").take()),
            ("api_keys", text("name").default("").take()),
            ("api_keys", big_integer_null("expires_at")),
            ("api_keys", big_integer_null("used_at")),
        ];
        // SQLite adds one column at a time.
        for (table, column) in new {
            let mut alter = Table::alter();
            manager
                .alter_table(alter.table(table).add_column(column).take())
                .await?;
        }
        let one_user_each = Index::create()
            .unique()
            .name("users_subject")
            .table("users")
            .col("subject")
            .take();
        manager.create_index(one_user_each).await?;
        for table in [recovery_codes(), oidc_visits()] {
            manager.create_table(table).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn recovery_codes() -> TableCreateStatement {
    Table::create()
        .table("recovery_codes")
        .col(text("user"))
        .col(text("sha256"))
        .primary_key(Index::create().col("user").col("sha256"))
        .foreign_key(
            ForeignKey::create()
                .from("recovery_codes", "user")
                .to("users", "name")
                .on_delete(ForeignKeyAction::Cascade),
        )
        .take()
}

/// Browsers that were sent to the identity provider, and are not back yet.
fn oidc_visits() -> TableCreateStatement {
    Table::create()
        .table("oidc_visits")
        .col(text("sha256").primary_key())
        .col(text("state"))
        .col(text("nonce"))
        .col(text("verifier"))
        .col(text("next"))
        .col(big_integer("ends_at"))
        .take()
}
