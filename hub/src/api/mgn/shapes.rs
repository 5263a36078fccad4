//! MGN's structures, written from our rows. Members without a value are left out.

use std::collections::BTreeMap;

use domain::{
    bandwidth::Bandwidth,
    disk::DISKS_MAX,
    flow::Forecast,
    ids::{AccountId, ApplicationId, JobId, SourceServerId},
    job::LaunchStatus,
    launch::LaunchConfiguration,
    replication::Replication,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    api::date_time,
    entities::{
        job, job_event, job_server,
        source_server::{Launch, Milestone, Model},
    },
};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceServer {
    #[serde(rename = "sourceServerID")]
    pub id: SourceServerId,
    pub arn: String,
    pub is_archived: bool,
    pub tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub launched_instance: Option<LaunchedInstance>,
    pub data_replication_info: DataReplicationInfo,
    pub life_cycle: Value,
    pub source_properties: Value,
    pub replication_type: &'static str,
    #[serde(rename = "applicationID", skip_serializing_if = "Option::is_none")]
    pub application: Option<ApplicationId>,
    #[serde(rename = "userProvidedID", skip_serializing_if = "Option::is_none")]
    pub user_provided_id: Option<String>,
}

/// The last two members are ours.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LaunchedInstance {
    #[serde(rename = "ec2InstanceID")]
    pub instance: String,
    #[serde(rename = "jobID")]
    pub job: JobId,
    pub first_boot: &'static str,
    pub launched_at: String,
    pub checkpoint_taken_at: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DataReplicationInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_duration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_date_time: Option<String>,
    pub replicated_disks: Vec<Value>,
    pub data_replication_state: &'static str,
    pub data_replication_initiation: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_replication_error: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_snapshot_date_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicator_id: Option<String>,
}

impl SourceServer {
    pub fn new(server: Model, region: &str, now: i64) -> Self {
        let launch = server.cutover_launch.as_ref().or(server.test_launch.as_ref());
        Self {
            arn: format!(
                "arn:aws:mgn:{region}:{}:source-server/{}",
                server.account, server.id
            ),
            is_archived: server.is_archived(),
            launched_instance: launch.map(LaunchedInstance::new),
            data_replication_info: DataReplicationInfo::new(&server, now),
            life_cycle: life_cycle(&server, now),
            source_properties: source_properties(&server),
            replication_type: "AGENT_BASED",
            id: server.id.0,
            application: server.application.map(|application| application.0),
            tags: server.tags.0,
            user_provided_id: server.user_provided_id,
        }
    }
}

impl LaunchedInstance {
    fn new(launch: &Launch) -> Self {
        Self {
            instance: launch.instance.clone(),
            job: launch.job.clone(),
            // A launch is recorded once its status checks have passed.
            first_boot: "SUCCEEDED",
            launched_at: date_time(launch.at),
            checkpoint_taken_at: date_time(launch.taken_at),
        }
    }
}

impl DataReplicationInfo {
    fn new(server: &Model, now: i64) -> Self {
        let disks = server.disks.iter().take(DISKS_MAX).map(|disk| {
            json!({
                "deviceName": disk.device_name,
                "totalStorageBytes": disk.total_bytes,
                "replicatedStorageBytes": disk.replicated_bytes,
                "rescannedStorageBytes": disk.rescanned_bytes,
                "backloggedStorageBytes": disk.backlogged_bytes,
            })
        });
        let steps: Vec<_> = server
            .replication
            .initiation()
            .into_iter()
            .map(|(step, status)| json!({ "name": step, "status": status }))
            .collect();
        let error = match &server.replication.0 {
            Replication::Stalled(stall) => {
                let raw: String = stall.detail.chars().take(RAW_ERROR_MAX).collect();
                Some(json!({ "error": stall.error, "rawError": raw }))
            }
            _ => None,
        };
        Self {
            lag_duration: server.lag_ms(now).map(duration),
            eta_date_time: eta(server, now),
            replicated_disks: disks.collect(),
            data_replication_state: server.replication.name(),
            data_replication_initiation: json!({
                "startDateTime": date_time(server.created_at),
                "steps": steps,
            }),
            data_replication_error: error,
            last_snapshot_date_time: server.lag_basis.map(date_time),
            replicator_id: server.runner.as_ref().map(ToString::to_string),
        }
    }
}

/// MGN allows no longer `rawError`.
const RAW_ERROR_MAX: usize = 65_536;

/// A forecast beyond this is no forecast.
const ETA_MAX_S: u64 = 365 * 24 * 3600;

/// When the runner will have caught up. Nobody knows while it falls behind.
fn eta(server: &Model, now: i64) -> Option<String> {
    match server.flow_at(now)?.forecast? {
        Forecast::Converges { seconds } if seconds <= ETA_MAX_S => {
            Some(date_time(now + seconds.cast_signed() * 1000))
        }
        _ => None,
    }
}

fn life_cycle(server: &Model, now: i64) -> Value {
    let mut shape = json!({
        "addedToServiceDateTime": date_time(server.created_at),
        "state": server.lifecycle.name(),
    });
    if let Some(at) = server.first_byte_at {
        shape["firstByteDateTime"] = date_time(at).into();
        let until = server.milestones.cutover.finalized_at.unwrap_or(now);
        shape["elapsedReplicationDuration"] = duration(until - at).into();
    }
    if let Some(at) = server.last_seen {
        shape["lastSeenByServiceDateTime"] = date_time(at).into();
    }
    for (member, milestone) in [
        ("lastTest", &server.milestones.test),
        ("lastCutover", &server.milestones.cutover),
    ] {
        if let Some(value) = milestone_shape(milestone) {
            shape[member] = value;
        }
    }
    shape
}

fn milestone_shape(milestone: &Milestone) -> Option<Value> {
    let mut shape = serde_json::Map::new();
    if let (Some(at), Some(job)) = (milestone.initiated_at, &milestone.job) {
        shape.insert(
            "initiated".into(),
            json!({ "apiCallDateTime": date_time(at), "jobID": job }),
        );
    }
    for (member, at) in [
        ("reverted", milestone.reverted_at),
        ("finalized", milestone.finalized_at),
    ] {
        if let Some(at) = at {
            shape.insert(member.into(), json!({ "apiCallDateTime": date_time(at) }));
        }
    }
    (!shape.is_empty()).then(|| shape.into())
}

fn source_properties(server: &Model) -> Value {
    let properties = &server.properties.0;
    let interfaces: Vec<_> = properties
        .network_interfaces
        .iter()
        .map(|one| json!({ "macAddress": one.mac_address, "ips": one.ips, "isPrimary": one.is_primary }))
        .collect();
    let disks: Vec<_> = properties
        .disks
        .iter()
        .map(|disk| json!({ "deviceName": disk.device_name, "bytes": disk.bytes }))
        .collect();
    json!({
        "lastUpdatedDateTime": date_time(server.last_seen.unwrap_or(server.created_at)),
        "recommendedInstanceType": server.launch_configuration.instance_type,
        "identificationHints": { "fqdn": properties.fqdn, "hostname": properties.hostname },
        "networkInterfaces": interfaces,
        "disks": disks,
        "cpus": [{ "cores": properties.cpus }],
        "ramBytes": properties.ram_bytes,
        "os": { "fullString": properties.os },
    })
}

/// MGN's `Job`. `shown` confines the participants to one account.
pub fn job(job: &job::Model, parts: &[job_server::Model], region: &str, shown: Option<&AccountId>) -> Value {
    let own = |part: &&job_server::Model| {
        part.job == job.id && shown.is_none_or(|account| part.account.0 == *account)
    };
    let parts: Vec<_> = parts.iter().filter(own).collect();
    let account = parts
        .first()
        .map(|part| part.account.to_string())
        .unwrap_or_default();
    let participants: Vec<_> = parts
        .iter()
        .map(|part| {
            let mut shape = json!({ "sourceServerID": part.server.0, "launchStatus": part.status.name() });
            if let LaunchStatus::Launched { instance } = &part.status.0 {
                shape["launchedEc2InstanceID"] = instance.clone().into();
            }
            shape
        })
        .collect();
    let mut shape = json!({
        "jobID": job.id.0,
        "arn": format!("arn:aws:mgn:{region}:{account}:job/{}", job.id),
        "type": job.initiated_by.job_type(),
        "initiatedBy": job.initiated_by.name(),
        "creationDateTime": date_time(job.created_at),
        "status": job.status.name(),
        "participatingServers": participants,
        "tags": job.tags.0,
    });
    if let Some(at) = job.ended_at {
        shape["endDateTime"] = date_time(at).into();
    }
    shape
}

pub fn job_log(event: &job_event::Model) -> Value {
    let mut data = serde_json::Map::new();
    if let Some(server) = &event.server {
        data.insert("sourceServerID".into(), json!(server.0));
    }
    if let Some(instance) = &event.instance {
        data.insert("targetInstanceID".into(), json!(instance));
    }
    if let Some(detail) = &event.detail {
        data.insert("rawError".into(), json!(detail));
    }
    json!({
        "logDateTime": date_time(event.at),
        "event": event.event.name(),
        "eventData": data,
    })
}

/// MGN's `LaunchConfiguration`, and from `instanceType` on what MGN keeps in an EC2 launch template.
pub fn launch_configuration(server: &SourceServerId, name: &str, settings: &LaunchConfiguration) -> Value {
    json!({
        "sourceServerID": server,
        "name": name,
        "launchDisposition": settings.disposition,
        "targetInstanceTypeRightSizingMethod": settings.right_sizing,
        "copyPrivateIp": settings.copy_private_ip,
        "copyTags": settings.copy_tags,
        "licensing": { "osByol": true },
        "bootMode": settings.boot_mode,
        "instanceType": settings.instance_type,
        "testSubnet": settings.test_subnet,
        "targetSubnet": settings.target_subnet,
        "families": settings.families,
        "securityGroups": settings.security_groups,
        "instanceProfile": settings.instance_profile,
        "tenancy": settings.tenancy,
        "volumes": settings.volumes,
        "tags": settings.tags,
    })
}

/// MGN's `ReplicationConfiguration`. See `replication_configuration` for what of it is ours.
pub fn replication_configuration(server: &Model, bandwidth: &Bandwidth) -> Value {
    let disks = server.properties.disks.iter().take(DISKS_MAX).map(|disk| {
        json!({
            "deviceName": disk.device_name,
            "isBootDisk": disk.is_boot,
            "stagingDiskType": "AUTO",
        })
    });
    json!({
        "sourceServerID": server.id.0,
        "name": server.hostname,
        "stagingAreaSubnetId": "",
        "associateDefaultSecurityGroup": true,
        "replicationServersSecurityGroupsIDs": [],
        "replicationServerInstanceType": "t3.small",
        "useDedicatedReplicationServer": false,
        "defaultLargeStagingDiskType": "ST1",
        "replicatedDisks": disks.collect::<Vec<_>>(),
        "ebsEncryption": "DEFAULT",
        "bandwidthThrottling": bandwidth.mbit_s.unwrap_or(0),
        "dataPlaneRouting": "PRIVATE_IP",
        "createPublicIP": false,
        "stagingAreaTags": {},
        "useFipsEndpoint": false,
        "internetProtocol": "IPV4",
        "storeSnapshotOnLocalZone": false,
    })
}

/// An ISO 8601 duration.
fn duration(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let date = if days > 0 {
        format!("{days}D")
    } else {
        String::new()
    };
    format!("P{date}T{hours}H{minutes}M{}S", seconds % 60)
}

#[cfg(test)]
mod tests {
    use domain::{
        flow::Flow,
        replication::{ReplicationError, Stall},
    };

    use super::*;
    use crate::{
        entities::{Doc, Word},
        fixtures,
    };

    const NOW: i64 = 1_800_000_000_000;

    fn server() -> Model {
        let account = fixtures::MEMBER.parse().unwrap();
        let runner = fixtures::runner(domain::ids::RunnerId::from_entropy(1), &account);
        Model {
            last_seen: Some(NOW - 2_000),
            ..fixtures::server(SourceServerId::from_entropy(1), &runner)
        }
    }

    #[test]
    fn the_end_is_told_as_long_as_it_is_in_sight() {
        let eta_of = |forecast, seen: i64| {
            let flow = Flow {
                forecast,
                ..Flow::default()
            };
            let server = Model {
                flow: Doc(flow),
                last_seen: Some(seen),
                ..server()
            };
            DataReplicationInfo::new(&server, NOW).eta_date_time
        };
        let soon = Some(Forecast::Converges { seconds: 180 });
        assert_eq!(eta_of(soon, NOW - 2_000), Some(date_time(NOW + 180_000)));
        assert_eq!(eta_of(soon, NOW - 60_000), None, "nobody knows any more");
        assert_eq!(eta_of(Some(Forecast::Diverges { needed_mbit_s: 34 }), NOW), None);
        assert_eq!(eta_of(Some(Forecast::Converges { seconds: u64::MAX }), NOW), None);
        assert_eq!(eta_of(None, NOW), None);
        let paused = Model {
            intent: Word(domain::source_server::ReplicationIntent::Paused),
            flow: Doc(Flow {
                forecast: soon,
                ..Flow::default()
            }),
            ..server()
        };
        assert_eq!(eta(&paused, NOW), None);
    }

    #[test]
    fn a_stall_has_mgns_name_and_the_words_of_whoever_met_it() {
        let stall = Stall {
            error: ReplicationError::NotConverging,
            detail: "é".repeat(70_000),
            step: None,
        };
        let server = Model {
            replication: Doc(Replication::Stalled(stall)),
            ..server()
        };
        let info = DataReplicationInfo::new(&server, NOW);
        assert_eq!(info.data_replication_state, "STALLED");
        let error = info.data_replication_error.unwrap();
        assert_eq!(error["error"], "NOT_CONVERGING");
        assert_eq!(error["rawError"].as_str().unwrap().chars().count(), RAW_ERROR_MAX);
    }

    #[test]
    fn durations_are_iso_8601() {
        assert_eq!(duration(0), "PT0H0M0S");
        assert_eq!(duration(90_061_999), "P1DT1H1M1S");
    }

    #[test]
    fn times_have_the_length_that_mgn_documents() {
        assert_eq!(date_time(0), "1970-01-01T00:00:00.000Z");
        assert!((19..=32).contains(&date_time(1_800_000_000_000).len()));
    }
}
