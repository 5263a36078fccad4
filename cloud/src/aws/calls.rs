//! A call into an account, and what becomes of its failure.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_async::future::pagination_stream::PaginationStream;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::failure::Failure;
use crate::control::{CloudError, Place};

/// A call that is being made: it knows how to say what went wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub call: &'static str,
    pub place: &'a Place,
}

impl Asked<'_> {
    /// Another call in the same place.
    pub fn to(self, call: &'static str) -> Self {
        Self { call, ..self }
    }

    /// All pages of a list that has no more than `most`.
    pub async fn listed<T, E>(
        self,
        mut pages: PaginationStream<Result<T, SdkError<E, HttpResponse>>>,
        most: usize,
    ) -> Result<Vec<T>, CloudError>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut all = Vec::new();
        while let Some(item) = pages.next().await {
            if all.len() == most {
                return Err(self.rejected(&format!("it lists more than {most}")));
            }
            all.push(item.map_err(|error| self.refused(&Failure::of(&error)))?);
        }
        Ok(all)
    }

    pub fn refused(self, failure: &Failure) -> CloudError {
        let role = &self.place.route.member_role;
        failure.at(self.call, self.place.account.as_str(), |why| {
            format!(
                "role {role} may not ({why}); deploy what `orglift-hub onboarding --account {}` writes, and see whether \
                 a policy of the organization forbids it",
                self.place.account
            )
        })
    }

    pub fn rejected(self, reason: &str) -> CloudError {
        CloudError::Rejected {
            call: self.call,
            account: self.place.account.to_string(),
            reason: reason.to_owned(),
        }
    }

    pub fn not_found(self, what: &str) -> CloudError {
        CloudError::NotFound {
            call: self.call,
            account: self.place.account.to_string(),
            what: what.to_owned(),
        }
    }

    /// What an answer must have; without it the same is asked again.
    pub fn found<T>(self, what: Option<T>) -> Result<T, CloudError> {
        what.ok_or_else(|| CloudError::Unknown {
            call: self.call,
            account: self.place.account.to_string(),
            detail: "the answer names nothing".into(),
        })
    }
}
