//! Whether the account's quota of virtual processors has room for a launch.
//!
//! Everything that runs in the account counts, whoever launched it; but not what an earlier launch of the same source
//! server has, which is given back first.

use std::collections::BTreeMap;

use aws_sdk_ec2::{
    Client,
    types::{Instance, InstanceTypeInfo, Tenancy},
};
use aws_sdk_servicequotas::types::ServiceQuota;
use domain::launch::{
    self,
    quota::{Class, Stock},
};

use super::{
    calls::Asked,
    failure::Failure,
    instance_types::TYPES_MAX,
    tags::{one_of, read},
};
use crate::control::{CloudError, Outlook, SERVER_TAG, TemplateSpec};

const CALL: &str = "servicequotas:GetServiceQuota";
/// More than the largest quota allows.
const RUNNING_MAX: usize = 100_000;
/// EC2 takes no more values in one filter.
const FILTER_MAX: usize = 200;

pub(super) async fn look(
    asked: Asked<'_>,
    ec2: &Client,
    quotas: &aws_sdk_servicequotas::Client,
    spec: &TemplateSpec,
    outlook: &mut Outlook,
) -> Result<(), CloudError> {
    let name = &spec.launch.instance_type;
    let Some(class) = Class::of(name).filter(|_| spec.launch.tenancy != launch::Tenancy::Host) else {
        return Ok(());
    };
    let looked = match quota(asked, quotas, class).await {
        Ok(quota) => compare(asked, ec2, spec, class, quota).await,
        Err(error) => Err(error),
    };
    match looked {
        Ok(short) => outlook.obstacles.extend(short),
        Err(error) if error.is_transient() => return Err(error),
        Err(error) => outlook.not_checked.push(cannot_ask(asked, class, &error)),
    }
    Ok(())
}

async fn compare(
    asked: Asked<'_>,
    ec2: &Client,
    spec: &TemplateSpec,
    class: &Class,
    quota: u32,
) -> Result<Option<String>, CloudError> {
    let running = running(asked.to("ec2:DescribeInstances"), ec2).await?;
    let server = spec.tags.get(SERVER_TAG);
    let counted: Vec<_> = running
        .iter()
        .filter(|one| {
            is_counted(one, class) && (server.is_none() || read(one.tags()).get(SERVER_TAG) != server)
        })
        .collect();
    let wanted = &spec.launch.instance_type;
    let mut names: Vec<_> = counted.iter().map(|one| type_of(one).to_owned()).collect();
    names.push(wanted.clone());
    names.sort_unstable();
    names.dedup();
    let sizes = sizes(asked.to("ec2:DescribeInstanceTypes"), ec2, &names).await?;
    // One that is not there is an obstacle of its own.
    let Some(&vcpus) = sizes.get(wanted) else {
        return Ok(None);
    };
    let used = counted
        .iter()
        .map(|one| vcpus_of(one, &sizes))
        .fold(0, u32::saturating_add);
    let stock = Stock { quota, used };
    Ok(stock.short_for(vcpus).map(|needed| {
        let (account, region) = (&asked.place.account, &asked.place.region);
        format!(
            "{wanted} needs {vcpus} vCPUs, and of the quota “{}” ({}) in {region} of account {account}, which is {quota}, \
             {used} are in use; ask for {needed} or more in Service Quotas, quota code {}, or launch a smaller type",
            class.name, class.code, class.code
        )
    }))
}

async fn quota(
    asked: Asked<'_>,
    quotas: &aws_sdk_servicequotas::Client,
    class: &Class,
) -> Result<u32, CloudError> {
    let asked = asked.to(CALL);
    let answer = quotas
        .get_service_quota()
        .service_code("ec2")
        .quota_code(class.code)
        .send()
        .await;
    let answer = answer.map_err(|error| asked.refused(&Failure::of(&error)))?;
    let value = answer.quota().and_then(ServiceQuota::value);
    let value = asked.found(value)?;
    // A number of processors, though it comes as a fraction.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates"
    )]
    Ok(value as u32)
}

async fn running(asked: Asked<'_>, ec2: &Client) -> Result<Vec<Instance>, CloudError> {
    let states = ["pending".to_owned(), "running".to_owned()];
    let found = ec2
        .describe_instances()
        .filters(one_of("instance-state-name", &states));
    let found = asked
        .listed(found.into_paginator().items().send(), RUNNING_MAX)
        .await?;
    Ok(found
        .into_iter()
        .flat_map(|reservation| reservation.instances.unwrap_or_default())
        .collect())
}

/// Spot instances and those of capacity blocks say so in their life cycle.
fn is_counted(one: &Instance, class: &Class) -> bool {
    let on_host = one.placement().and_then(|placement| placement.tenancy()) == Some(&Tenancy::Host);
    one.instance_lifecycle().is_none() && !on_host && Class::of(type_of(one)) == Some(class)
}

fn type_of(one: &Instance) -> &str {
    one.instance_type().map_or("", |kind| kind.as_str())
}

/// As it was launched; where that is not said, as its type comes.
fn vcpus_of(one: &Instance, sizes: &BTreeMap<String, u32>) -> u32 {
    let chosen = one.cpu_options().and_then(|options| {
        let vcpus = options.core_count()?.checked_mul(options.threads_per_core()?)?;
        u32::try_from(vcpus).ok().filter(|vcpus| *vcpus > 0)
    });
    chosen
        .or_else(|| sizes.get(type_of(one)).copied())
        .unwrap_or_default()
}

/// Virtual processors of each of these types.
async fn sizes(
    asked: Asked<'_>,
    ec2: &Client,
    names: &[String],
) -> Result<BTreeMap<String, u32>, CloudError> {
    let size = |info: &InstanceTypeInfo| {
        let vcpus = info.v_cpu_info()?.default_v_cpus()?;
        Some((
            info.instance_type()?.as_str().to_owned(),
            u32::try_from(vcpus).ok()?,
        ))
    };
    let mut all = BTreeMap::new();
    for names in names.chunks(FILTER_MAX) {
        let found = ec2
            .describe_instance_types()
            .filters(one_of("instance-type", names));
        let found = asked
            .listed(found.into_paginator().items().send(), TYPES_MAX)
            .await?;
        all.extend(found.iter().filter_map(size));
    }
    Ok(all)
}

fn cannot_ask(asked: Asked<'_>, class: &Class, error: &CloudError) -> String {
    let (role, account) = (&asked.place.route.member_role, &asked.place.account);
    let what = format!(
        "Whether the quota “{}” ({}) has room is not checked",
        class.name, class.code
    );
    match error {
        CloudError::Denied { call, .. } if *call == CALL => format!(
            "{what}: role {role} may not call {CALL}. Deploy what `orglift-hub onboarding --account {account} --feature \
             quotas` writes."
        ),
        other => format!("{what}: {other}."),
    }
}
