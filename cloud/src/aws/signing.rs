//! Signature Version 4 for the few requests that no client of the SDK makes for us.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};

use super::failure::{Failure, chain};

/// A request that is to be signed.
#[derive(Debug)]
pub(super) struct Unsigned<'a> {
    pub service: &'a str,
    pub region: &'a str,
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

impl Unsigned<'_> {
    /// The headers that signing adds: date, session token, digest of the body where the service wants it, and the
    /// signature over all these, the given ones and the host.
    pub async fn sign(&self, config: &SdkConfig) -> Result<Vec<(String, String)>, Failure> {
        let credentials = config
            .credentials_provider()
            .ok_or_else(|| Failure::Denied("there are no credentials".into()))?
            .provide_credentials()
            .await
            .map_err(|error| Failure::Unknown(format!("no credentials: {}", chain(&error))))?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        // S3 signs a path as it is, and wants the digest of the body as a header.
        if self.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let unsignable = |detail: String| Failure::Rejected {
            code: "Unsignable".into(),
            message: detail,
        };
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| unsignable(error.to_string()))?
            .into();
        let headers = self.headers.iter().copied();
        let body = SignableBody::Bytes(self.body);
        let signed = SignableRequest::new(self.method, self.url, headers, body)
            .and_then(|request| sign(request, &parameters))
            .map_err(|error| unsignable(chain(&error)))?;
        let (instructions, _) = signed.into_parts();
        Ok(instructions
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}
