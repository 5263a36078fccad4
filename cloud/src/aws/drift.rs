//! Whether a stack is as its template has it: CloudFormation compares, and takes its time.

use aws_sdk_cloudformation::{
    Client,
    types::{
        DifferenceType, PropertyDifference, StackDriftDetectionStatus, StackResourceDrift,
        StackResourceDriftStatus,
    },
};
use domain::network::drift::{Difference, Drifted, How};

use super::{calls::Asked, failure::Failure};
use crate::control::{CloudError, Comparison};

/// A stack has at most five hundred resources, and a page a hundred of them.
const PAGES_MAX: usize = 10;

pub(super) async fn detect(asked: Asked<'_>, stacks: &Client, stack: &str) -> Result<String, CloudError> {
    let begun = stacks.detect_stack_drift().stack_name(stack).send().await;
    let begun = begun.map_err(|error| asked.refused(&Failure::of(&error)))?;
    asked.found(begun.stack_drift_detection_id)
}

pub(super) async fn outcome(
    asked: Asked<'_>,
    stacks: &Client,
    stack: &str,
    detection: &str,
) -> Result<Comparison, CloudError> {
    let status = stacks
        .describe_stack_drift_detection_status()
        .stack_drift_detection_id(detection)
        .send()
        .await;
    let status = status.map_err(|error| asked.refused(&Failure::of(&error)))?;
    match asked.found(status.detection_status())? {
        StackDriftDetectionStatus::DetectionInProgress => return Ok(Comparison::UnderWay),
        StackDriftDetectionStatus::DetectionComplete => {}
        _ => {
            let why = status.detection_status_reason();
            return Ok(Comparison::Failed(why.unwrap_or("no reason is given").to_owned()));
        }
    }
    let asked = asked.to("cloudformation:DescribeStackResourceDrifts");
    let drifts = stacks
        .describe_stack_resource_drifts()
        .stack_name(stack)
        .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
        .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted);
    let pages = asked.listed(drifts.into_paginator().send(), PAGES_MAX).await?;
    let drifts = pages
        .into_iter()
        .flat_map(|page| page.stack_resource_drifts.unwrap_or_default());
    Ok(Comparison::Done(drifts.map(|one| drifted(&one)).collect()))
}

fn drifted(found: &StackResourceDrift) -> Drifted {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Drifted {
        name: text(found.logical_resource_id()),
        kind: text(found.resource_type()),
        id: text(found.physical_resource_id()),
        how: if found.stack_resource_drift_status() == Some(&StackResourceDriftStatus::Deleted) {
            How::Deleted
        } else {
            How::Changed(found.property_differences().iter().map(difference).collect())
        },
    }
}

/// What is not there CloudFormation writes as `null`.
fn difference(found: &PropertyDifference) -> Difference {
    let value = |value: Option<&str>, absent: &DifferenceType| {
        let is_there = found.difference_type() != Some(absent);
        value.filter(|_| is_there).map(str::to_owned)
    };
    Difference {
        property: found.property_path().unwrap_or_default().to_owned(),
        expected: value(found.expected_value(), &DifferenceType::Add),
        actual: value(found.actual_value(), &DifferenceType::Remove),
    }
}
