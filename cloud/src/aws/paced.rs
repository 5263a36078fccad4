//! Requests to control planes, each in its turn: of one action no more in a second than the account bears.
//!
//! AWS counts by account, region, service and action, and so does this: all of a hub's requests to an account go
//! through here, whoever in the hub makes them, and a wave that is launched does not keep a status from being read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::{RuntimeComponents, RuntimeComponentsBuilder},
    },
};
use aws_smithy_types::{body::SdkBody, byte_stream::ByteStream, config_bag::ConfigBag};
use tokio::time::timeout;

use super::{
    ATTEMPT_WITHIN,
    failure::Failure,
    pace::{Limits, Pace},
    s3::elements,
};

/// EC2 lets some actions be called twice in a second, and most that only read twenty times, after a hundred at once.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
const LIMITS: Limits = Limits {
    first: 100.0,
    least: 1.0,
    most: 500.0,
    more: 2.0,
    after_refusal: 0.5,
    at_once: 64,
};
/// STS answers 600 requests in a second, and every account is entered by one of the hub's own account.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
const LIMITS_OF_STS: Limits = Limits {
    first: 400.0,
    most: 550.0,
    // It is one bucket for everybody in the account: what others took is soon there again.
    after_refusal: 0.8,
    ..LIMITS
};
/// A page of a thousand things with their tags has a few megabytes.
const ANSWER_MAX: usize = 64 << 20;

/// The paces of all accounts, of each for as long as somebody has a session in it.
#[derive(Debug)]
pub(super) struct Turns {
    client: SharedHttpClient,
    accounts: Mutex<HashMap<String, Weak<Paces>>>,
}

type Paces = Mutex<HashMap<Asked, Pace>>;

/// What accounts count requests by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Asked {
    region: String,
    service: String,
    action: String,
}

impl Default for Turns {
    fn default() -> Self {
        let tls = Provider::Rustls(CryptoMode::AwsLc);
        Self {
            client: aws_smithy_http_client::Builder::new()
                .tls_provider(tls)
                .build_https(),
            accounts: Mutex::default(),
        }
    }
}

impl Turns {
    /// For whoever calls with the credentials of this account.
    pub fn client_of(&self, account: &str) -> SharedHttpClient {
        let mut accounts = self.accounts.lock().expect("no panic while it was held");
        let known = accounts.get(account).and_then(Weak::upgrade);
        let paces = known.unwrap_or_else(|| {
            accounts.retain(|_, paces| paces.strong_count() > 0);
            let paces = Arc::default();
            accounts.insert(account.to_owned(), Arc::downgrade(&paces));
            paces
        });
        SharedHttpClient::new(PacedClient {
            client: self.client.clone(),
            paces,
        })
    }
}

#[derive(Debug)]
struct PacedClient {
    client: SharedHttpClient,
    paces: Arc<Paces>,
}

impl HttpClient for PacedClient {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(PacedConnector {
            connector: self.client.http_connector(settings, components),
            paces: Arc::clone(&self.paces),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.client.validate_base_client_config(components, config)
    }

    fn validate_final_config(
        &self,
        components: &RuntimeComponents,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.client.validate_final_config(components, config)
    }
}

#[derive(Debug)]
struct PacedConnector {
    connector: SharedHttpConnector,
    paces: Arc<Paces>,
}

impl HttpConnector for PacedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let pace = {
            let asked = what_is_asked(&request);
            let limits = if asked.service == "sts" {
                &LIMITS_OF_STS
            } else {
                &LIMITS
            };
            let mut paces = self.paces.lock().expect("no panic while it was held");
            let pace = paces.entry(asked).or_insert_with(|| Pace::new(limits));
            pace.clone()
        };
        let connector = self.connector.clone();
        HttpConnectorFuture::new(async move {
            let turn = pace.turn().await;
            // Only now does its time run: waiting for a turn is no failure.
            let answered = timeout(ATTEMPT_WITHIN, answer(&connector, request)).await;
            let (response, is_refused) =
                answered.unwrap_or_else(|late| Err(ConnectorError::timeout(late.into())))?;
            if is_refused {
                turn.refused();
            } else {
                turn.answered();
            }
            Ok(response)
        })
    }
}

/// The answer, read to its end, and whether it says that there were too many.
async fn answer(
    connector: &SharedHttpConnector,
    request: HttpRequest,
) -> Result<(HttpResponse, bool), ConnectorError> {
    let mut response = connector.call(request).await?;
    let mut body = ByteStream::new(response.take_body());
    let mut text = Vec::new();
    while let Some(part) = body.next().await {
        text.extend_from_slice(&part.map_err(|error| ConnectorError::io(error.into()))?);
        if text.len() > ANSWER_MAX {
            let detail = format!("the answer is longer than {} MiB", ANSWER_MAX >> 20);
            return Err(ConnectorError::other(detail.into(), None));
        }
    }
    let is_refused = !response.status().is_success() && is_throttling(&response, &text);
    *response.body_mut() = SdkBody::from(text);
    Ok((response, is_refused))
}

/// Services say so in a header, or in XML.
fn is_throttling(response: &HttpResponse, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let header = response.headers().get("x-amzn-errortype");
    let code = header.or_else(|| elements(&text, "Code").next());
    let status = response.status().as_u16();
    Failure::named(status, code.unwrap_or_default().to_owned(), String::new()) == Failure::Throttled
}

/// The region and the service are in the scope of the signature:
/// `Credential=KEY/DATE/REGION/SERVICE/aws4_request`.
fn what_is_asked(request: &HttpRequest) -> Asked {
    let headers = request.headers();
    let authorization = headers.get("authorization").unwrap_or_default();
    let mut scope = authorization.split('/').skip(2);
    let (region, service) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    let form = request.body().bytes().unwrap_or_default();
    let of_form = form.strip_prefix(b"Action=").and_then(|rest| {
        let name = rest.split(|byte| *byte == b'&').next()?;
        std::str::from_utf8(name).ok()
    });
    let action = headers.get("x-amz-target").or(of_form).unwrap_or_default();
    Asked {
        region: region.to_owned(),
        service: service.to_owned(),
        action: action.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(service: &str, body: &'static str) -> HttpRequest {
        let mut request = HttpRequest::new(SdkBody::from(body));
        let scope = format!("AWS4-HMAC-SHA256 Credential=ASIA/20260101/eu-central-1/{service}/aws4_request");
        request.headers_mut().insert("authorization", scope);
        request
    }

    fn response(status: u16, body: &'static str) -> HttpResponse {
        HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
    }

    #[test]
    fn a_request_says_what_it_asks() {
        let asked = |service: &str, action: &str| Asked {
            region: "eu-central-1".into(),
            service: service.into(),
            action: action.into(),
        };
        let ec2 = request("ec2", "Action=RunInstances&Version=2016-11-15");
        assert_eq!(what_is_asked(&ec2), asked("ec2", "RunInstances"));
        let mut organizations = request("organizations", "{}");
        let target = "AWSOrganizationsV20161128.ListAccounts";
        organizations.headers_mut().insert("x-amz-target", target);
        assert_eq!(what_is_asked(&organizations), asked("organizations", target));
        let nothing = what_is_asked(&HttpRequest::new(SdkBody::empty()));
        assert!(nothing.service.is_empty() && nothing.action.is_empty());
    }

    #[test]
    fn services_say_in_their_own_ways_that_there_were_too_many() {
        let too_many =
            "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>";
        assert!(is_throttling(&response(503, too_many), too_many.as_bytes()));
        let denied =
            "<Response><Errors><Error><Code>UnauthorizedOperation</Code></Error></Errors></Response>";
        assert!(!is_throttling(&response(403, denied), denied.as_bytes()));
        let mut json = response(400, "{}");
        json.headers_mut()
            .insert("x-amzn-errortype", "ThrottlingException");
        assert!(is_throttling(&json, b"{}"));
        assert!(is_throttling(&response(429, ""), b""));
        assert!(!is_throttling(&response(500, ""), b""));
    }

    #[test]
    fn accounts_have_paces_of_their_own_while_somebody_is_there() {
        let turns = Turns::default();
        let one = turns.client_of("111122223333");
        let _other = turns.client_of("444455556666");
        assert_eq!(turns.accounts.lock().unwrap().len(), 2);
        drop(one);
        let _third = turns.client_of("777788889999");
        assert_eq!(turns.accounts.lock().unwrap().len(), 2);
    }
}
