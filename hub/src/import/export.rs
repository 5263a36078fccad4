//! The inventory in the form in which it is imported: read back, it changes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::{
    ids::AccountId,
    launch::{LaunchConfiguration, Tenancy},
};

use super::{column::Column, sheet::guarded};
use crate::{
    entities::{application, source_server, wave},
    spreadsheet::BYTE_ORDER_MARK,
    store::{
        Seen, StoreError,
        servers::ServerFilter,
        waves::{ApplicationFilter, WaveFilter},
    },
};

type Row = BTreeMap<Column, String>;

/// All that the reader sees, or of one account: a row for each server, then for applications without servers and
/// waves without applications.
pub async fn export(store: &Seen, account: Option<&AccountId>) -> Result<String, StoreError> {
    let accounts = store.account_list().await?;
    let regions: HashMap<_, _> = accounts
        .iter()
        .map(|account| (&account.id, account.region.as_str()))
        .collect();
    let waves: HashMap<_, _> = store
        .wave_list(&WaveFilter {
            account: account.cloned(),
            archived: Some(false),
            ..WaveFilter::default()
        })
        .await?
        .into_iter()
        .map(|wave| (wave.id.clone(), wave))
        .collect();
    let applications: HashMap<_, _> = store
        .application_list(&ApplicationFilter {
            accounts: account.iter().map(|account| (*account).clone()).collect(),
            archived: Some(false),
            ..ApplicationFilter::default()
        })
        .await?
        .into_iter()
        .map(|application| (application.id.clone(), application))
        .collect();
    let servers = store
        .server_list(&ServerFilter {
            accounts: account.iter().map(|account| (*account).clone()).collect(),
            archived: Some(false),
            ..ServerFilter::default()
        })
        .await?;
    let (mut rows, mut shown, mut shown_waves) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let place = |account: &AccountId, region: &str| {
        Row::from([
            (Column::Account, account.to_string()),
            (Column::Region, region.to_owned()),
        ])
    };
    let region_of = |account| regions.get(account).copied().unwrap_or_default();
    for server in &servers {
        let mut row = place(&server.account, region_of(&server.account));
        let application = server.application.as_ref().and_then(|id| applications.get(id));
        if let Some(application) = application {
            shown.insert(application.id.as_str());
            say_application(&mut row, application);
            if let Some(wave) = application.wave.as_ref().and_then(|id| waves.get(id)) {
                shown_waves.insert(wave.id.as_str());
                say_wave(&mut row, wave);
            }
        }
        say_server(&mut row, server);
        rows.push(row);
    }
    let mut rest: Vec<_> = applications
        .values()
        .filter(|application| !shown.contains(application.id.as_str()))
        .collect();
    rest.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    for application in rest {
        let mut row = place(&application.account, region_of(&application.account));
        say_application(&mut row, application);
        if let Some(wave) = application.wave.as_ref().and_then(|id| waves.get(id)) {
            shown_waves.insert(wave.id.as_str());
            say_wave(&mut row, wave);
        }
        rows.push(row);
    }
    let mut rest: Vec<_> = waves
        .values()
        .filter(|wave| !shown_waves.contains(wave.id.as_str()))
        .collect();
    rest.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    for wave in rest {
        // A wave of all accounts is said in whichever is first: a row has an account.
        let own = wave
            .account
            .as_ref()
            .or(accounts.first().map(|account| &account.id));
        let Some(own) = own else { continue };
        let mut row = place(own, region_of(own));
        say_wave(&mut row, wave);
        rows.push(row);
    }
    Ok(write(&rows))
}

fn say_wave(row: &mut Row, wave: &wave::Model) {
    row.insert(Column::WaveId, wave.id.to_string());
    row.insert(Column::WaveName, wave.name.clone());
    row.insert(Column::WaveDescription, wave.description.clone());
    for (key, value) in &wave.tags.0 {
        row.insert(Column::WaveTag(key.clone()), value.clone());
    }
}

fn say_application(row: &mut Row, application: &application::Model) {
    row.insert(Column::ApplicationId, application.id.to_string());
    row.insert(Column::ApplicationName, application.name.clone());
    row.insert(Column::ApplicationDescription, application.description.clone());
    for (key, value) in &application.tags.0 {
        row.insert(Column::ApplicationTag(key.clone()), value.clone());
    }
}

fn say_server(row: &mut Row, server: &source_server::Model) {
    let usual = LaunchConfiguration::default();
    let launch = &server.launch_configuration;
    row.insert(Column::ServerId, server.id.to_string());
    row.insert(
        Column::UserProvidedId,
        server.user_provided_id.clone().unwrap_or_default(),
    );
    row.insert(Column::Platform, "LINUX".into());
    row.insert(Column::Fqdn, server.properties.fqdn.clone());
    row.insert(Column::LifecycleState, server.lifecycle_name.clone());
    row.insert(Column::ReplicationType, "AGENT_BASED".into());
    row.insert(Column::ReplicationState, server.replication_name.clone());
    for (key, value) in &server.tags.0 {
        row.insert(Column::ServerTag(key.clone()), value.clone());
    }
    // What nobody chose is no subnet.
    for (column, subnet, unchosen) in [
        (Column::Subnet(0), &launch.target_subnet, &usual.target_subnet),
        (Column::TestSubnet, &launch.test_subnet, &usual.test_subnet),
    ] {
        if subnet != unchosen {
            row.insert(column, subnet.clone());
        }
    }
    for (at, group) in (0..).zip(&launch.security_groups) {
        row.insert(Column::SecurityGroup(0, at), group.clone());
    }
    row.insert(Column::InstanceType, launch.instance_type.clone());
    let tenancy = match launch.tenancy {
        Tenancy::Default => "default",
        Tenancy::Dedicated => "dedicated",
        Tenancy::Host => "host",
    };
    row.insert(Column::Tenancy, tenancy.into());
    row.insert(
        Column::InstanceProfile,
        launch.instance_profile.clone().unwrap_or_default(),
    );
    row.insert(Column::TransferTags, launch.copy_tags.to_string());
    for (key, value) in &launch.tags {
        row.insert(Column::InstanceTag(key.clone()), value.clone());
    }
    for (disk, settings) in &launch.volumes.by_disk {
        row.insert(Column::Volume(disk.clone()), settings.kind.name().into());
    }
}

/// The columns that any row has something in, and those that name things.
fn write(rows: &[Row]) -> String {
    let mut columns: BTreeSet<&Column> = rows
        .iter()
        .flatten()
        .filter(|(_, value)| !value.is_empty())
        .map(|(column, _)| column)
        .collect();
    let always = [
        Column::Account,
        Column::Region,
        Column::WaveName,
        Column::ApplicationName,
        Column::UserProvidedId,
    ];
    columns.extend(&always);
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    // Writing to memory cannot fail.
    let _ = writer.write_record(columns.iter().map(ToString::to_string));
    for row in rows {
        let cells = columns
            .iter()
            .map(|column| row.get(column).map(|value| guarded(value)).unwrap_or_default());
        let _ = writer.write_record(cells);
    }
    let csv = writer.into_inner().unwrap_or_default();
    format!("{BYTE_ORDER_MARK}{}", String::from_utf8_lossy(&csv))
}
