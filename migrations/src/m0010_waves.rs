//! Applications and waves: what moves together.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, boolean, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0010_waves"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [waves(), applications()] {
            manager.create_table(table).await?;
        }
        let mut alter = Table::alter();
        let column = text_null("application");
        manager
            .alter_table(alter.table("source_servers").add_column(column).take())
            .await?;
        for (table, columns, unique) in [
            ("source_servers", &["application"][..], false),
            ("applications", &["wave"], false),
            ("applications", &["account", "name"], true),
            ("waves", &["run_state"], false),
        ] {
            let mut index = Index::create()
                .name(format!("{table}_{}", columns.join("_")))
                .table(table)
                .take();
            for column in columns {
                index.col(*column);
            }
            if unique {
                index.unique();
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}

fn waves() -> TableCreateStatement {
    Table::create()
        .table("waves")
        .col(text("id").primary_key())
        // None: it may have applications of every account.
        .col(text_null("account"))
        .col(text("name"))
        .col(text("description"))
        .col(text("tags"))
        .col(boolean("archived"))
        .col(text("plan"))
        .col(text("run"))
        .col(text("run_state"))
        .col(text("created_by"))
        .col(big_integer("created_at"))
        .col(big_integer("modified_at"))
        .foreign_key(ForeignKey::create().from("waves", "account").to("accounts", "id"))
        .take()
}

fn applications() -> TableCreateStatement {
    Table::create()
        .table("applications")
        .col(text("id").primary_key())
        .col(text("account"))
        .col(text("name"))
        .col(text("description"))
        .col(text("tags"))
        .col(boolean("archived"))
        .col(text_null("wave"))
        .col(big_integer("created_at"))
        .col(big_integer("modified_at"))
        .foreign_key(
            ForeignKey::create()
                .from("applications", "account")
                .to("accounts", "id"),
        )
        .foreign_key(
            ForeignKey::create()
                .from("applications", "wave")
                .to("waves", "id"),
        )
        .take()
}
