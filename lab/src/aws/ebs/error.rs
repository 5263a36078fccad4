//! What EBS direct refuses, in its own words: code, reason and status of each (API reference, 2019-11-02).

use std::io;

use axum::http::StatusCode;

use crate::aws::refusal::Refusal;

fn with_reason(status: StatusCode, code: &str, reason: &'static str, message: impl Into<String>) -> Refusal {
    let mut refusal = Refusal::new(status, code, message);
    refusal.reason = Some(reason);
    refusal
}

pub(super) fn invalid(reason: &'static str, message: impl Into<String>) -> Refusal {
    with_reason(StatusCode::BAD_REQUEST, "ValidationException", reason, message)
}

pub(super) fn not_found(id: &str) -> Refusal {
    let message = format!("The snapshot '{id}' does not exist.");
    with_reason(
        StatusCode::NOT_FOUND,
        "ResourceNotFoundException",
        "SNAPSHOT_NOT_FOUND",
        message,
    )
}

/// A quota of one snapshot.
pub(super) fn snapshot_throttled() -> Refusal {
    with_reason(
        StatusCode::BAD_REQUEST,
        "RequestThrottledException",
        "RESOURCE_LEVEL_THROTTLE",
        "The rate of requests for this snapshot is exceeded.",
    )
}

/// A quota of the account.
pub(super) fn account_throttled() -> Refusal {
    Refusal::throttled("ebs")
}

pub(super) fn too_many_pending() -> Refusal {
    Refusal::new(
        StatusCode::BAD_REQUEST,
        "ConcurrentLimitExceededException",
        "You have reached the limit for concurrent pending snapshots.",
    )
}

pub(super) fn other_parameters() -> Refusal {
    Refusal::new(
        StatusCode::CONFLICT,
        "ConflictException",
        "The request uses the same client token as a previous, but non-identical request.",
    )
}

/// A file of ours could not be read or written.
impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let message = format!("blocks in files: {error}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerException",
            message,
        )
    }
}
