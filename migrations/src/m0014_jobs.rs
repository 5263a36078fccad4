//! Jobs that somebody cancels, and how long such jobs take.

use sea_orm_migration::{prelude::*, schema::text_null};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0014_jobs"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut alter = Table::alter();
        let cancelled = text_null("cancelled_by").take();
        manager
            .alter_table(alter.table("sagas").add_column(cancelled).take())
            .await?;
        let index = Index::create()
            .name("jobs_took")
            .table("jobs")
            .col("initiated_by")
            .col("ended_at")
            .take();
        manager.create_index(index).await
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
