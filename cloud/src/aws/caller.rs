//! The two ends of a proof of identity: signing `GetCallerIdentity`, and sending what somebody else signed.

use reqwest::{Method, redirect};

use super::{
    ATTEMPT_WITHIN, Access, CONNECT_WITHIN, READ_WITHIN,
    failure::{Failure, chain},
    s3::{elements, read},
    signing::Unsigned,
};
use crate::{
    caller::{BODY, Bound, CONTENT_TYPE, Caller, HUB_HEADER, KEY_HEADER, SignedCall},
    control::CloudError,
};

const CALL: &str = "sts:GetCallerIdentity";
/// An answer has some hundred bytes.
const ANSWER_MAX: usize = 16 << 10;
/// Stands where errors name an account: it is what STS is asked for.
const UNKNOWN: &str = "that is not known yet";

/// Proves whose credentials these are to one hub, for one key. A proof is good for some minutes.
pub async fn prove(access: &Access, bound: &Bound) -> Result<SignedCall, CloudError> {
    let config = access.loader().load().await;
    let region = &access.region;
    let url = if let Some(url) = config.endpoint_url() {
        format!("{}/", url.trim_end_matches('/'))
    } else {
        let fips = if access.endpoints.fips { "-fips" } else { "" };
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        format!("https://sts{fips}.{region}.amazonaws.com{suffix}/")
    };
    let host = url.split('/').nth(2).unwrap_or_default().to_owned();
    let headers = [
        ("content-type", CONTENT_TYPE),
        (HUB_HEADER, &bound.hub),
        (KEY_HEADER, &bound.key),
    ];
    let unsigned = Unsigned {
        service: "sts",
        region,
        method: "POST",
        url: &url,
        headers: &headers,
        body: BODY.as_bytes(),
    };
    let signed = unsigned
        .sign(&config)
        .await
        .map_err(|failure| refused(&failure))?;
    let own = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(SignedCall {
        host,
        headers: own.into_iter().chain(signed).collect(),
    })
}

/// Sends it to `url`, and says who STS says has signed it. The caller has checked both.
pub(super) async fn ask(url: &str, call: &SignedCall) -> Result<Caller, CloudError> {
    let unknown = |error: reqwest::Error| refused(&Failure::Unknown(chain(&error.without_url())));
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_WITHIN)
        .read_timeout(READ_WITHIN)
        .timeout(ATTEMPT_WITHIN)
        .redirect(redirect::Policy::none())
        .build()
        .map_err(unknown)?;
    let mut request = http.request(Method::POST, url).body(BODY);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    let answer = request.send().await.map_err(unknown)?;
    let status = answer.status();
    let text = read(answer, ANSWER_MAX)
        .await
        .map_err(|failure| refused(&failure))?;
    let text = text.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let said = |name| elements(&text, name).next().unwrap_or_default().to_owned();
    if !status.is_success() {
        return Err(refused(&Failure::named(
            status.as_u16(),
            said("Code"),
            said("Message"),
        )));
    }
    let arn = said("Arn");
    Caller::from_arn(&arn).ok_or_else(|| {
        refused(&Failure::Denied(format!(
            "{arn} is not a role that was assumed; a runner proves the role of its instance"
        )))
    })
}

fn refused(failure: &Failure) -> CloudError {
    failure.at(CALL, UNKNOWN, str::to_owned)
}
