//! Files that were handed in to be imported.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0011_imports"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let imports = Table::create()
            .table("imports")
            .col(text("id").primary_key())
            .col(text("by"))
            .col(text("name"))
            .col(big_integer("at"))
            // Of rows that name none.
            .col(text_null("account"))
            .col(text("contents"))
            .col(text("outcome"))
            .take();
        manager.create_table(imports).await?;
        let index = Index::create()
            .name("imports_by")
            .table("imports")
            .col("by")
            .col("at")
            .take();
        manager.create_index(index).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
