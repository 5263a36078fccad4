//! What lists and the global view look at, in columns of its own: two hundred thousand servers are counted, searched and
//! sorted within an index, without a look at the servers themselves.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, boolean, text},
    sea_orm::DbBackend,
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0012_at_a_glance"
    }
}

const INDEXES: [(&str, &[&str]); 7] = [
    (
        "counted",
        &[
            "archived",
            "account",
            "lifecycle_name",
            "replication_name",
            "running_job",
            "diverges",
            "untracked",
            "lag_basis",
            "replicated_bytes",
        ],
    ),
    ("by_name", &["archived", "name", "id"]),
    ("by_account", &["archived", "account", "name", "id"]),
    ("by_state", &["archived", "lifecycle_name", "name", "id"]),
    ("by_lag", &["archived", "lag_basis", "name", "id"]),
    (
        "sought",
        &[
            "archived",
            "account",
            "lifecycle_name",
            "replication_name",
            "readiness",
            "name",
            "id",
            "lag_basis",
            "sought",
        ],
    ),
    ("in_replication", &["replication_name", "lag_basis"]),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for column in [
            boolean("archived").default(false).take(),
            text("name").default("").take(),
            text("sought").default("").take(),
            big_integer("replicated_bytes").default(0).take(),
        ] {
            let mut alter = Table::alter();
            manager
                .alter_table(alter.table("source_servers").add_column(column).take())
                .await?;
        }
        let connection = manager.get_connection();
        let (name, bytes) = match connection.get_database_backend() {
            DbBackend::Postgres => (
                "tags::json ->> 'Name'",
                "(SELECT SUM((disk ->> 'replicated_bytes')::bigint) FROM json_array_elements(disks::json) AS disk)",
            ),
            _ => (
                "json_extract(tags, '$.Name')",
                "(SELECT SUM(json_extract(disk.value, '$.replicated_bytes')) FROM json_each(disks) AS disk)",
            ),
        };
        // What is sought comes with the next change of each server; until then it is found by its name.
        let fill = format!(
            "UPDATE source_servers SET archived = (lifecycle LIKE '%\"archived\":true%'), \
             name = COALESCE(NULLIF({name}, ''), hostname), \
             sought = LOWER(COALESCE(NULLIF({name}, ''), hostname) || ' ' || hostname || ' ' || id), \
             replicated_bytes = COALESCE({bytes}, 0)"
        );
        connection.execute_unprepared(&fill).await?;
        for (name, columns) in INDEXES {
            let mut index = Index::create()
                .name(format!("source_servers_{name}"))
                .table("source_servers")
                .take();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("a schema is expanded, never taken back".into()))
    }
}
