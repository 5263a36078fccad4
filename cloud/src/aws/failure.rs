//! Why a call failed, by what its caller can do about it.

use aws_sdk_ebs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::control::CloudError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    /// Slower, and again.
    #[error("it was throttled")]
    Throttled,
    /// It may have happened. Again, with the same token.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// It is not there, or not yet.
    #[error("it is not there: {0}")]
    NotFound(String),
    /// Somebody must change a permission.
    #[error("it was denied: {0}")]
    Denied(String),
    /// Again only once something else is gone.
    #[error("a quota is used up: {0}")]
    Quota(String),
    /// The request is wrong, and remains so.
    #[error("{code}: {message}")]
    Rejected { code: String, message: String },
}

impl Failure {
    pub fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let SdkError::ServiceError(answer) = error else {
            return Self::Unknown(chain(error));
        };
        let status = answer.raw().status().as_u16();
        let code = answer.err().code().unwrap_or_default().to_owned();
        let message = answer.err().message().unwrap_or("no reason is given").to_owned();
        Self::named(status, code, message)
    }

    pub fn is_rejected_as(&self, wanted: &str) -> bool {
        matches!(self, Self::Rejected { code, .. } if code == wanted)
    }

    /// What it is to whoever asked an account; `remedy` says what to do about a denial, given why.
    pub fn at(&self, call: &'static str, account: &str, remedy: impl FnOnce(&str) -> String) -> CloudError {
        let account = account.to_owned();
        match self {
            Self::Throttled => CloudError::Throttled { call, account },
            Self::Unknown(detail) => CloudError::Unknown {
                call,
                account,
                detail: detail.clone(),
            },
            Self::NotFound(what) => CloudError::NotFound {
                call,
                account,
                what: what.clone(),
            },
            Self::Denied(why) => CloudError::Denied {
                call,
                account,
                remedy: remedy(plain(why)),
            },
            Self::Quota(_) | Self::Rejected { .. } => CloudError::Rejected {
                call,
                account,
                reason: self.to_string(),
            },
        }
    }

    pub fn named(status: u16, code: String, message: String) -> Self {
        let has = |part: &str| code.contains(part);
        if has("Throttl") || has("RequestLimitExceeded") || code == "SlowDown" || status == 429 {
            return Self::Throttled;
        }
        if has("NotFound") {
            return Self::NotFound(message);
        }
        if has("AccessDenied") || has("UnauthorizedOperation") || has("AuthFailure") || status == 403 {
            return Self::Denied(message);
        }
        let is_quota = has("QuotaExceeded") || has("LimitExceeded") || code.starts_with("Insufficient");
        if is_quota {
            return Self::Quota(message);
        }
        // The body came too slowly, though it is called a mistake of ours.
        if status >= 500 || message.contains("Failed to read block data") {
            return Self::Unknown(format!("{code}: {message}"));
        }
        Self::Rejected { code, message }
    }
}

/// Without the part that only AWS can read.
fn plain(message: &str) -> &str {
    let end = message
        .find("Encoded authorization failure message")
        .unwrap_or(message.len());
    message[..end].trim_end_matches([' ', '.'])
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_can_do_decides() {
        let named = |status, code: &str, message: &str| Failure::named(status, code.into(), message.into());
        for (status, code) in [
            (400, "RequestThrottledException"),
            (400, "ThrottlingException"),
            (503, "RequestLimitExceeded"),
            (503, "SlowDown"),
            (429, ""),
        ] {
            assert_eq!(named(status, code, ""), Failure::Throttled, "{code}");
        }
        let denied = Failure::Denied("no".into());
        assert_eq!(named(403, "UnauthorizedOperation", "no"), denied);
        assert_eq!(named(403, "ExpiredToken", "no"), denied);
        assert_eq!(named(400, "AccessDeniedException", "no"), denied);
        let quota = Failure::Quota("pending".into());
        assert_eq!(named(400, "ConcurrentLimitExceededException", "pending"), quota);
        assert_eq!(named(402, "ServiceQuotaExceededException", "pending"), quota);
        let gone = Failure::NotFound("snap-1".into());
        assert_eq!(named(404, "ResourceNotFoundException", "snap-1"), gone);
        assert_eq!(named(400, "InvalidSnapshot.NotFound", "snap-1"), gone);
        assert!(matches!(named(500, "", ""), Failure::Unknown(_)));
        let slow = named(400, "ValidationException", "Failed to read block data");
        assert!(matches!(slow, Failure::Unknown(_)));
        let wrong = named(400, "ValidationException", "BlockIndex");
        assert!(matches!(wrong, Failure::Rejected { .. }));
    }
}
