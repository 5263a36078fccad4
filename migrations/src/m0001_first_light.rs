//! The first schema: who may sign in, which accounts there are, what is replicated, what is being done
//! about it, and every resource that was made on the way.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, boolean, integer, pk_auto, text, text_null},
};

#[derive(Debug)]
pub struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0001_first_light"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [accounts(), machines(), servers(), jobs(), people()].concat();
        for table in tables {
            manager.create_table(table).await?;
        }
        for (name, table, columns) in INDEXES {
            let mut index = Index::create();
            index.name(*name).table(*table);
            for column in *columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, _: &SchemaManager) -> Result<(), DbErr> {
        Err(DbErr::Migration("the first schema has nothing before it".into()))
    }
}

/// Name, table, columns.
const INDEXES: &[(&str, &str, &[&str])] = &[
    ("accounts_organization", "accounts", &["organization"]),
    ("runners_account", "runners", &["account"]),
    ("certificates_subject", "certificates", &["subject"]),
    ("certificates_revoked", "certificates", &["revoked_at"]),
    (
        "source_servers_account",
        "source_servers",
        &["account", "lifecycle_name"],
    ),
    ("source_servers_runner", "source_servers", &["runner"]),
    ("jobs_created", "jobs", &["created_at"]),
    ("job_servers_server", "job_servers", &["server"]),
    ("sagas_status", "sagas", &["status"]),
    ("ledger_server", "ledger", &["server"]),
    ("ledger_account", "ledger", &["account", "state"]),
    ("audit_at", "audit", &["at"]),
];

fn accounts() -> Vec<TableCreateStatement> {
    vec![
        Table::create()
            .table("organizations")
            .col(text("id").primary_key())
            .col(text("name"))
            .col(text("reach"))
            // Where accounts that are found by listing are worked in.
            .col(text("region"))
            .col(text("listing"))
            .col(big_integer_null("listed_at"))
            .col(big_integer("created_at"))
            .take(),
        Table::create()
            .table("accounts")
            .col(text("id").primary_key())
            .col(text("organization"))
            .col(text("name"))
            .col(text("region"))
            .col(text("access"))
            .col(big_integer_null("checked_at"))
            .col(boolean("suspended"))
            .col(big_integer("created_at"))
            .foreign_key(
                ForeignKey::create()
                    .from("accounts", "organization")
                    .to("organizations", "id"),
            )
            .take(),
    ]
}

fn machines() -> Vec<TableCreateStatement> {
    vec![
        Table::create()
            .table("runners")
            .col(text("id").primary_key())
            .col(text("account"))
            .col(text("region"))
            .col(text("address"))
            .col(integer("data_port"))
            .col(integer("enrol_port"))
            .col(text("version"))
            .col(text("certificate_serial"))
            .col(big_integer_null("last_seen"))
            .col(big_integer_null("staging_free"))
            .col(big_integer("desired_generation"))
            .col(big_integer("observed_generation"))
            .col(big_integer("created_at"))
            .foreign_key(
                ForeignKey::create()
                    .from("runners", "account")
                    .to("accounts", "id"),
            )
            .take(),
        Table::create()
            .table("tokens")
            // SHA-256 of the secret, hexadecimal; the secret itself is never stored.
            .col(text("sha256").primary_key())
            .col(text("purpose"))
            .col(text("account"))
            .col(text("created_by"))
            .col(big_integer("created_at"))
            .col(big_integer("expires_at"))
            .col(big_integer_null("used_at"))
            .col(text_null("used_by"))
            // The key that it was used for: the same machine may ask again when the answer was lost.
            .col(text_null("used_key_sha256"))
            .foreign_key(
                ForeignKey::create()
                    .from("tokens", "account")
                    .to("accounts", "id"),
            )
            .take(),
        Table::create()
            .table("certificates")
            .col(text("serial").primary_key())
            .col(text("subject"))
            .col(big_integer("issued_at"))
            .col(big_integer_null("revoked_at"))
            .col(text_null("revoked_by"))
            .take(),
        Table::create()
            .table("turned_away")
            .col(pk_auto("id"))
            .col(text("runner"))
            .col(text("address"))
            .col(text_null("server"))
            .col(text("reason"))
            .col(big_integer("at"))
            .take(),
    ]
}

fn servers() -> Vec<TableCreateStatement> {
    vec![
        Table::create()
            .table("source_servers")
            .col(text("id").primary_key())
            .col(text("account"))
            // None until the agent is installed. No hub was released before it could be.
            .col(text_null("runner"))
            // Grows with each change of the life cycle.
            .col(big_integer("generation"))
            .col(text("lifecycle"))
            .col(text("lifecycle_name"))
            .col(text("milestones"))
            .col(text("replication"))
            .col(text("replication_name"))
            .col(text("intent"))
            .col(boolean("forgotten"))
            .col(text("hostname"))
            .col(text("properties"))
            .col(text("tags"))
            .col(text_null("user_provided_id"))
            .col(text("launch_configuration"))
            .col(big_integer("checkpoint_request"))
            .col(integer("checkpoint_interval_s"))
            .col(big_integer("retry_request"))
            .col(big_integer_null("lag_basis"))
            .col(text("disks"))
            .col(text_null("agent_address"))
            .col(text_null("agent_version"))
            .col(big_integer_null("last_seen"))
            .col(big_integer_null("first_byte_at"))
            .col(big_integer("created_at"))
            .col(text_null("running_job"))
            .col(text("test_launch"))
            .col(text("cutover_launch"))
            .foreign_key(
                ForeignKey::create()
                    .from("source_servers", "account")
                    .to("accounts", "id"),
            )
            .foreign_key(
                ForeignKey::create()
                    .from("source_servers", "runner")
                    .to("runners", "id"),
            )
            .take(),
        Table::create()
            .table("checkpoints")
            .col(text("server"))
            .col(big_integer("number"))
            .col(text("kind"))
            .col(text("consistency"))
            .col(big_integer("taken_at"))
            .col(big_integer("request"))
            .col(text("disks"))
            .col(text_null("pinned_by"))
            .primary_key(Index::create().col("server").col("number"))
            .foreign_key(
                ForeignKey::create()
                    .from("checkpoints", "server")
                    .to("source_servers", "id"),
            )
            .take(),
        Table::create()
            .table("ledger")
            .col(text("token").primary_key())
            .col(text("account"))
            .col(text("region"))
            .col(text("kind"))
            .col(text_null("resource"))
            .col(text("state"))
            .col(text("server"))
            .col(text("job"))
            .col(text("step"))
            .col(big_integer("wanted_at"))
            .col(big_integer_null("present_at"))
            .col(big_integer_null("ended_at"))
            .take(),
    ]
}

fn jobs() -> Vec<TableCreateStatement> {
    let of_job = |table: &'static str| {
        ForeignKey::create()
            .from(table, "job")
            .to("jobs", "id")
            .to_owned()
    };
    vec![
        Table::create()
            .table("jobs")
            .col(text("id").primary_key())
            .col(text("initiated_by"))
            .col(text("status"))
            .col(text("tags"))
            .col(text("created_by"))
            .col(big_integer("created_at"))
            .col(big_integer_null("ended_at"))
            .take(),
        Table::create()
            .table("job_servers")
            .col(text("job"))
            .col(text("server"))
            .col(text("account"))
            .col(text("status"))
            .primary_key(Index::create().col("job").col("server"))
            .foreign_key(&mut of_job("job_servers"))
            .take(),
        Table::create()
            .table("job_events")
            .col(pk_auto("sequence"))
            .col(text("job"))
            // Repeating a step after a crash must not tell its story twice.
            .col(text("once"))
            .col(big_integer("at"))
            .col(text("event"))
            .col(text_null("server"))
            .col(text_null("instance"))
            .col(text_null("detail"))
            .index(
                Index::create()
                    .unique()
                    .name("job_events_once")
                    .col("job")
                    .col("once"),
            )
            .foreign_key(&mut of_job("job_events"))
            .take(),
        Table::create()
            .table("sagas")
            .col(text("id").primary_key())
            .col(text("kind"))
            .col(text("job"))
            .col(text("server"))
            .col(text("state"))
            .col(integer("position"))
            .col(text("direction"))
            .col(text("status"))
            .col(integer("attempts"))
            .col(big_integer("step_since"))
            .col(big_integer("run_after"))
            .col(text_null("last_error"))
            // Why it turned back, once it did, and what could not be undone.
            .col(text_null("failure"))
            .col(text("left"))
            .foreign_key(&mut of_job("sagas"))
            .take(),
    ]
}

fn people() -> Vec<TableCreateStatement> {
    let of_user = |table: &'static str| {
        ForeignKey::create()
            .from(table, "user")
            .to("users", "name")
            .on_delete(ForeignKeyAction::Cascade)
            .to_owned()
    };
    vec![
        Table::create()
            .table("users")
            .col(text("name").primary_key())
            .col(text("password"))
            .col(text("role"))
            .col(big_integer("created_at"))
            .take(),
        Table::create()
            .table("sessions")
            .col(text("sha256").primary_key())
            .col(text("user"))
            .col(big_integer("created_at"))
            .col(big_integer("idle_until"))
            .col(big_integer("ends_at"))
            .foreign_key(&mut of_user("sessions"))
            .take(),
        Table::create()
            .table("api_keys")
            .col(text("sha256").primary_key())
            .col(text("user"))
            .col(big_integer("created_at"))
            .foreign_key(&mut of_user("api_keys"))
            .take(),
        Table::create()
            .table("audit")
            .col(pk_auto("sequence"))
            .col(big_integer("at"))
            .col(text("actor"))
            .col(text("action"))
            .col(text("subject"))
            .col(text("outcome"))
            .take(),
    ]
}
