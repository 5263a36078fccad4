//! Objects in a bucket of S3, by four calls of its REST API.
//!
//! S3's crate of the SDK would be the second largest of this program, and switches on parts of the crates that all
//! other clients share.

use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use reqwest::{Method, Response, Url, redirect};

use super::{
    ATTEMPT_WITHIN, Access, CONNECT_WITHIN, READ_WITHIN,
    failure::{Failure, chain},
    signing::Unsigned,
};
use crate::objects::{ObjectError, ObjectStore, checked};

/// A slower line does not bring an object within its time; it is asked for again.
const SLOWEST_BYTES_PER_SECOND: usize = 256 << 10;
/// A page of a thousand keys.
const ANSWER_MAX: usize = 2 << 20;
/// More keys than ten thousand servers have.
const PAGES_MAX: usize = 100;

#[derive(Debug)]
pub struct Bucket {
    config: SdkConfig,
    http: reqwest::Client,
    region: String,
    /// Of the bucket, with a slash at its end.
    url: Url,
    /// Before each key; empty, or with a slash at its end.
    prefix: String,
}

impl Bucket {
    /// `place` is `BUCKET` or `BUCKET/PREFIX`.
    pub async fn open(place: &str, access: &Access) -> Result<Self, ObjectError> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(is_name) {
            return Err(ObjectError::Key(place.to_owned()));
        }
        let prefix = match prefix {
            "" => String::new(),
            prefix => format!("{}/", checked(prefix)?),
        };
        let config = access.loader().load().await;
        let url = match config.endpoint_url() {
            Some(endpoint) => format!("{}/{bucket}/", endpoint.trim_end_matches('/')),
            None => public_endpoint(bucket, access),
        };
        let failed = |detail: String| ObjectError::Failed {
            operation: "reach",
            key: place.to_owned(),
            detail,
        };
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_WITHIN)
            .read_timeout(READ_WITHIN)
            // A bucket that is elsewhere is not ours.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build();
        Ok(Self {
            config,
            http: http.map_err(|error| failed(chain(&error)))?,
            region: access.region.clone(),
            url: url.parse().map_err(|_| failed(format!("{url} is not a URL")))?,
            prefix,
        })
    }

    async fn ask(&self, method: Method, url: Url, body: Vec<u8>) -> Result<Response, Failure> {
        let within = ATTEMPT_WITHIN + Duration::from_secs((body.len() / SLOWEST_BYTES_PER_SECOND) as u64);
        let unsigned = Unsigned {
            service: "s3",
            region: &self.region,
            method: method.as_str(),
            url: url.as_str(),
            headers: &[],
            body: &body,
        };
        let headers = unsigned.sign(&self.config).await?;
        let is_get = method == Method::GET;
        let mut request = self.http.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        // How long an answer is, is not known yet: each of its pieces has a time of its own.
        if !is_get {
            request = request.timeout(within);
        }
        let sent = request.send().await;
        let answer = sent.map_err(|error| Failure::Unknown(chain(&error.without_url())))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        let text = read(answer, ANSWER_MAX).await?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let said = |name| elements(&text, name).next().unwrap_or_default().to_owned();
        let code = match (said("Code"), status) {
            (code, 404) if code.is_empty() || code == "NoSuchKey" => "NotFound".into(),
            (code, _) => code,
        };
        Err(Failure::named(status, code, said("Message")))
    }

    fn object(&self, key: &str) -> Result<Url, ObjectError> {
        let key = format!("{}{}", self.prefix, checked(key)?);
        self.url.join(&key).map_err(|_| ObjectError::Key(key))
    }
}

#[async_trait]
impl ObjectStore for Bucket {
    async fn put(&self, key: &str, contents: Vec<u8>) -> Result<(), ObjectError> {
        let put = self.ask(Method::PUT, self.object(key)?, contents).await;
        put.map(drop).map_err(failed("write", key))
    }

    async fn get(&self, key: &str, most: usize) -> Result<Option<Vec<u8>>, ObjectError> {
        let answer = match self.ask(Method::GET, self.object(key)?, Vec::new()).await {
            Ok(answer) => answer,
            Err(Failure::NotFound(_)) => return Ok(None),
            Err(failure) => return Err(failed("read", key)(failure)),
        };
        let contents = read(answer, most).await.map_err(failed("read", key))?;
        let too_long = || ObjectError::TooLong {
            key: key.to_owned(),
            most,
        };
        contents.map(Some).ok_or_else(too_long)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, ObjectError> {
        let (mut keys, mut more) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut url = self.url.clone();
            url.query_pairs_mut()
                .append_pair("list-type", "2")
                .append_pair("prefix", &format!("{}{prefix}", self.prefix));
            if let Some(token) = &more {
                url.query_pairs_mut().append_pair("continuation-token", token);
            }
            let answer = self.ask(Method::GET, url, Vec::new()).await;
            let answer = answer.map_err(failed("list", prefix))?;
            let page = read(answer, ANSWER_MAX).await.map_err(failed("list", prefix))?;
            let page = page.ok_or_else(|| ObjectError::TooLong {
                key: prefix.to_owned(),
                most: ANSWER_MAX,
            })?;
            let page = String::from_utf8_lossy(&page);
            let found = elements(&page, "Key").filter_map(|key| key.strip_prefix(&self.prefix));
            keys.extend(found.filter(|key| checked(key).is_ok()).map(str::to_owned));
            more = elements(&page, "NextContinuationToken").next().map(str::to_owned);
            if more.is_none() {
                return Ok(keys);
            }
        }
        Err(ObjectError::Failed {
            operation: "list",
            key: prefix.to_owned(),
            detail: format!("there are more than {PAGES_MAX} pages of it"),
        })
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.ask(Method::DELETE, self.object(key)?, Vec::new()).await {
            Ok(_) | Err(Failure::NotFound(_)) => Ok(()),
            Err(failure) => Err(failed("delete", key)(failure)),
        }
    }
}

fn public_endpoint(bucket: &str, access: &Access) -> String {
    let fips = if access.endpoints.fips { "-fips" } else { "" };
    let dual_stack = if access.endpoints.dual_stack {
        ".dualstack"
    } else {
        ""
    };
    let region = &access.region;
    let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{bucket}.s3{fips}{dual_stack}.{region}.amazonaws.com{suffix}/")
}

/// `None` for more than `most` bytes.
pub(super) async fn read(mut answer: Response, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let declared = answer.content_length().unwrap_or(0);
    if declared > most as u64 {
        return Ok(None);
    }
    let mut contents = Vec::new();
    loop {
        let piece = answer.chunk().await;
        let piece = piece.map_err(|error| Failure::Unknown(chain(&error.without_url())))?;
        let Some(piece) = piece else {
            return Ok(Some(contents));
        };
        if contents.len() + piece.len() > most {
            return Ok(None);
        }
        contents.extend_from_slice(&piece);
    }
}

/// The text of each element of this name. What is asked for here has neither attributes nor characters that XML escapes.
pub(super) fn elements<'a>(xml: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once(&begin)?;
        let (text, behind) = from.split_once(&end)?;
        rest = behind;
        Some(text)
    })
}

fn failed(operation: &'static str, key: &str) -> impl FnOnce(Failure) -> ObjectError {
    let key = key.to_owned();
    move |failure| ObjectError::Failed {
        operation,
        key,
        detail: failure.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Endpoints;

    #[test]
    fn elements_are_found_and_nothing_else() {
        let xml = "<R><Key>a/1</Key><Size>3</Size><Key>a/2</Key><Key>a/3";
        assert_eq!(elements(xml, "Key").collect::<Vec<_>>(), ["a/1", "a/2"]);
        assert_eq!(elements(xml, "Code").next(), None);
    }

    #[test]
    fn a_region_has_an_endpoint_in_its_partition() {
        let url = |region: &str, fips| {
            let endpoints = Endpoints {
                fips,
                ..Endpoints::default()
            };
            let access = Access {
                region: region.into(),
                endpoints,
                ..Access::default()
            };
            public_endpoint("orglift", &access)
        };
        assert_eq!(
            url("eu-central-1", false),
            "https://orglift.s3.eu-central-1.amazonaws.com/"
        );
        assert_eq!(
            url("us-gov-west-1", true),
            "https://orglift.s3-fips.us-gov-west-1.amazonaws.com/"
        );
        assert_eq!(
            url("cn-north-1", false),
            "https://orglift.s3.cn-north-1.amazonaws.com.cn/"
        );
    }
}
