//! What would keep an instance from being launched, found out without making anything: settings are compared with
//! what there is, and calls are made as dry runs.

use std::net::IpAddr;

use aws_sdk_ec2::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    types::{ResourceType, SecurityGroup, Subnet},
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use domain::{launch::instance_type::Needs, network::cidr::Cidr};

use super::{
    calls::Asked,
    failure::Failure,
    images, instance_types,
    tags::{filter, one_of, read, specification},
    templates,
};
use crate::control::{CloudError, LaunchSpec, SERVER_TAG, TemplateSpec};

pub(super) async fn find(
    asked: Asked<'_>,
    ec2: &Client,
    spec: &TemplateSpec,
    needs: &Needs,
) -> Result<Vec<String>, CloudError> {
    let mut found = Found::default();
    let launch = &spec.launch;
    if let Some(subnet) = found.take(subnet(asked.to("ec2:DescribeSubnets"), ec2, &launch.subnet).await)? {
        let wished = launch.private_ip;
        if let Some(ip) = wished {
            let taken = asked.to("ec2:DescribeNetworkInterfaces");
            found.take(address_is_free(taken, ec2, &subnet, ip, spec).await)?;
        } else if subnet.available_ip_address_count().unwrap_or_default() < 1 {
            found.add(format!("subnet {} has no free address", launch.subnet));
        }
        let zone = subnet.availability_zone().unwrap_or_default();
        let types = asked.to("ec2:DescribeInstanceTypes");
        found.take(type_fits(types, ec2, launch, zone, needs).await)?;
        let groups = asked.to("ec2:DescribeSecurityGroups");
        found.take(groups_fit(groups, ec2, launch, &subnet).await)?;
    }
    found.take(may_keep_template(asked.to("ec2:CreateLaunchTemplate"), ec2, spec).await)?;
    if launch.disks.iter().all(|disk| !disk.snapshot.is_empty()) && !launch.disks.is_empty() {
        found.take(may_register_image(asked.to("ec2:RegisterImage"), ec2, spec).await)?;
    }
    Ok(found.obstacles)
}

#[derive(Default)]
struct Found {
    obstacles: Vec<String>,
}

impl Found {
    fn add(&mut self, obstacle: String) {
        self.obstacles.push(obstacle);
    }

    /// A refusal is an obstacle; a fault on the way says nothing, and whoever asks asks again.
    fn take<T>(&mut self, answer: Result<T, CloudError>) -> Result<Option<T>, CloudError> {
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_transient() => Err(error),
            Err(CloudError::Rejected { reason, .. }) => {
                self.add(reason);
                Ok(None)
            }
            Err(refused) => {
                self.add(refused.to_string());
                Ok(None)
            }
        }
    }
}

pub(super) async fn subnet(asked: Asked<'_>, ec2: &Client, id: &str) -> Result<Subnet, CloudError> {
    let described = ec2.describe_subnets().subnet_ids(id).send().await;
    let described = match described.map_err(|error| Failure::of(&error)) {
        Ok(described) => described,
        Err(Failure::NotFound(_) | Failure::Rejected { .. }) => return Err(no_subnet(asked, id)),
        Err(failure) => return Err(asked.refused(&failure)),
    };
    let subnet = described.subnets.unwrap_or_default().into_iter().next();
    subnet.ok_or_else(|| no_subnet(asked, id))
}

fn no_subnet(asked: Asked<'_>, id: &str) -> CloudError {
    let (account, region) = (&asked.place.account, &asked.place.region);
    asked.rejected(&format!(
        "there is no subnet {id} in {region} of account {account}; change it in the launch settings"
    ))
}

/// What an earlier launch of the same server has is given back before this one.
async fn address_is_free(
    asked: Asked<'_>,
    ec2: &Client,
    subnet: &Subnet,
    ip: IpAddr,
    spec: &TemplateSpec,
) -> Result<(), CloudError> {
    let (id, range) = (&spec.launch.subnet, subnet.cidr_block().unwrap_or_default());
    if !contains(range, ip) {
        let change = "choose another subnet, or do not keep the address";
        return Err(asked.rejected(&format!(
            "{ip} is not within subnet {id}, which is {range}; {change}"
        )));
    }
    let holders = ec2
        .describe_network_interfaces()
        .filters(filter("subnet-id", id))
        .filters(filter("addresses.private-ip-address", &ip.to_string()));
    let holders = holders
        .send()
        .await
        .map_err(|error| asked.refused(&Failure::of(&error)))?;
    for holder in holders.network_interfaces() {
        if read(holder.tag_set()).get(SERVER_TAG) != spec.tags.get(SERVER_TAG) {
            let holder = holder.network_interface_id().unwrap_or("another interface");
            return Err(asked.rejected(&format!("{ip} is in use in subnet {id}, by {holder}")));
        }
    }
    Ok(())
}

/// Whether a range in CIDR notation has the address in it.
fn contains(range: &str, ip: IpAddr) -> bool {
    let range = range.parse::<Cidr>();
    range.is_ok_and(|range| range.contains(Cidr::of(ip)))
}

async fn type_fits(
    asked: Asked<'_>,
    ec2: &Client,
    launch: &LaunchSpec,
    zone: &str,
    needs: &Needs,
) -> Result<(), CloudError> {
    let name = &launch.instance_type;
    let offered = instance_types::offered(asked, ec2, zone, std::slice::from_ref(name)).await?;
    match offered.first() {
        None => Err(asked.rejected(&format!(
            "{zone}, the zone of subnet {}, has no instance type {name}",
            launch.subnet
        ))),
        Some(offered) => offered
            .lacks(needs)
            .map_or(Ok(()), |lack| Err(asked.rejected(&lack))),
    }
}

async fn groups_fit(
    asked: Asked<'_>,
    ec2: &Client,
    launch: &LaunchSpec,
    subnet: &Subnet,
) -> Result<(), CloudError> {
    if launch.security_groups.is_empty() {
        return Ok(());
    }
    // By a filter, so that one that is not there does not hide the others.
    let wanted = one_of("group-id", &launch.security_groups);
    let described = ec2.describe_security_groups().filters(wanted).send().await;
    let described = described.map_err(|error| asked.refused(&Failure::of(&error)))?;
    let there = |id: &String| {
        let is = |group: &&SecurityGroup| group.group_id() == Some(id);
        described.security_groups().iter().find(is)
    };
    let wrong = launch.security_groups.iter().filter_map(|id| match there(id) {
        None => Some(format!("there is no security group {id}")),
        Some(group) if group.vpc_id() != subnet.vpc_id() => Some(format!(
            "security group {id} is of {}, and subnet {} of {}",
            group.vpc_id().unwrap_or("no VPC"),
            launch.subnet,
            subnet.vpc_id().unwrap_or("no VPC")
        )),
        Some(_) => None,
    });
    let wrong: Vec<_> = wrong.collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(asked.rejected(&wrong.join("; ")))
    }
}

async fn may_keep_template(asked: Asked<'_>, ec2: &Client, spec: &TemplateSpec) -> Result<(), CloudError> {
    let tried = ec2
        .create_launch_template()
        .launch_template_name(&spec.name)
        .launch_template_data(templates::data(asked, &spec.launch)?)
        .tag_specifications(specification(ResourceType::LaunchTemplate, &spec.tags))
        .dry_run(true)
        .send()
        .await;
    would_do(asked, tried.map(drop))
}

async fn may_register_image(asked: Asked<'_>, ec2: &Client, spec: &TemplateSpec) -> Result<(), CloudError> {
    let tried = ec2
        .register_image()
        .name(&spec.name)
        .root_device_name(images::BOOT_DEVICE)
        .set_block_device_mappings(Some(images::mappings(asked, &spec.launch.disks)?))
        .tag_specifications(specification(ResourceType::Image, &spec.tags))
        .dry_run(true)
        .send()
        .await;
    would_do(asked, tried.map(drop))
}

/// A dry run that would have gone well ends with an error of its own.
fn would_do<E>(asked: Asked<'_>, tried: Result<(), SdkError<E, HttpResponse>>) -> Result<(), CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match tried.map_err(|error| Failure::of(&error)) {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_rejected_as("DryRunOperation") => Ok(()),
        Err(failure) => Err(asked.refused(&failure)),
    }
}
