//! What to do about errors of jobs that people can do something about.

use crate::t;

/// The first that is known of what `error` says.
pub fn remedy(error: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
    Some(if says(&["cancelled by "]) {
        t!("Nothing is wrong. Start it again whenever you want.")
    } else if says(&["VcpuLimitExceeded", "InstanceLimitExceeded"]) {
        t!(
            "The account's quota of running instances is used up. Raise it under Service Quotas, “Running On-Demand instances”, or terminate what is not needed; then try again."
        )
    } else if says(&["InsufficientInstanceCapacity", "InsufficientHostCapacity"]) {
        t!(
            "The cloud has no such instance free in this availability zone. Choose another instance type or a subnet in another zone in the launch configuration, or try again later."
        )
    } else if says(&["InsufficientFreeAddressesInSubnet"]) {
        t!(
            "The subnet has no address left. Choose another one in the launch configuration, or free addresses."
        )
    } else if says(&["InvalidSubnet", "InvalidGroup", "InvalidSecurityGroup"]) {
        t!(
            "Choose a subnet and security groups that exist in the account, in the launch configuration; then try again."
        )
    } else if says(&[
        "VolumeLimitExceeded",
        "SnapshotLimitExceeded",
        "MaxIOPSLimitExceeded",
    ]) {
        t!(
            "The account's quota of EBS is used up. Raise it under Service Quotas, or remove what is not needed; then try again."
        )
    } else if says(&["KMSKey", "kms:", "KMS key"]) {
        t!("The key's policy must let the member role use it, and the key must be enabled. Then try again.")
    } else if says(&["status checks"]) {
        t!(
            "The instance was started and did not come up. Look at its console and its screenshot on the server's page; a rehearsal shows the same without an instance."
        )
    } else if says(&["the conversion failed"]) {
        t!(
            "The page of the conversion says which step it was, what was changed before it, and what the boot said."
        )
    } else if says(&["no fresh checkpoint", "checkpoint"]) && says(&["given up after"]) {
        t!(
            "No checkpoint came in time. See on the server's page whether it replicates and how far it lags, or accept an older checkpoint."
        )
    } else if says(&["throttled"]) {
        t!(
            "The cloud limits how often it may be asked. Launch fewer servers of this account at once, or try again later."
        )
    } else if says(&["outcome is unknown", "given up after"]) {
        t!("It took longer than the hub waits. Check the way to the account on its page, then try again.")
    } else if says(&["was denied"]) {
        t!("Have the permission granted that the error names; the account's page checks it.")
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clouds_say_has_a_remedy() {
        for (error, does) in [
            (
                "RunInstances in account 1 was rejected: VcpuLimitExceeded: You have requested more vCPU capacity",
                "Service Quotas",
            ),
            (
                "no checkpoint after the order; given up after 900 s",
                "older checkpoint",
            ),
            (
                "AssumeRole in account 1 was denied: let the hub's role",
                "permission",
            ),
            ("cancelled by ada", "Nothing is wrong"),
            (
                "RunInstances in account 1: the outcome is unknown: timeout; given up after 9 s",
                "longer than",
            ),
        ] {
            assert!(remedy(error).is_some_and(|text| text.contains(does)), "{error}");
        }
        assert_eq!(remedy("something new"), None);
    }
}
