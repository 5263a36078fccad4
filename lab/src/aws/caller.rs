//! Who calls, where and what for: read from the scope of a request's signature (Signature Version 4).
//!
//! ```text
//! Authorization: AWS4-HMAC-SHA256 Credential=AKIA…/20260101/eu-central-1/ec2/aws4_request, SignedHeaders=…, Signature=…
//!                                            key   date     region       service
//! ```
//!
//! The number of the account is in the key id, as in those of AWS: eight characters of base 32 after the four that tell
//! what kind of key it is are half of the number plus 2³⁹, and the next one says, by its half of the alphabet, whether
//! the number is odd. Keys that moto makes are of this form, too, and every other one is the account's own.

use axum::http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use data_encoding::BASE32;

use super::refusal::Refusal;

const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const KEY_LEN: usize = 20;
const OFFSET: u64 = 1 << 39;
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub account: String,
    pub region: String,
    pub service: String,
}

impl Caller {
    /// Reads the header, or what stands for it in the query of a presigned request; then the header is added, since
    /// moto reads no other.
    pub(super) fn of(request: &mut Parts) -> Result<Self, Refusal> {
        let presigned = presigned(request.uri.query().unwrap_or_default());
        if let Some(value) = presigned {
            request.headers.insert(AUTHORIZATION, value);
        }
        let header = request
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        let Some(header) = header else {
            let missing = "Request is missing Authentication Token";
            return Err(Refusal::forbidden("MissingAuthenticationToken", missing));
        };
        let scope = Scope::read(header).ok_or_else(|| {
            let message = "The Authorization header is not that of Signature Version 4";
            Refusal::forbidden("IncompleteSignature", message)
        })?;
        let unknown = || {
            let message = "The security token included in the request is invalid.";
            Refusal::forbidden("InvalidClientTokenId", message)
        };
        let account = account_of(scope.key).ok_or_else(unknown)?;
        // Temporary keys are worth nothing without their token.
        let has_token = request.headers.contains_key("x-amz-security-token")
            || request
                .uri
                .query()
                .is_some_and(|query| query.contains("X-Amz-Security-Token="));
        if scope.key.starts_with("ASIA") && !has_token {
            return Err(unknown());
        }
        Ok(Self {
            account,
            region: scope.region.to_owned(),
            service: scope.service.to_owned(),
        })
    }
}

struct Scope<'a> {
    key: &'a str,
    region: &'a str,
    service: &'a str,
}

impl<'a> Scope<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let fields = header.strip_prefix(ALGORITHM)?.trim_start();
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
        };
        let signature = field("Signature")?;
        let is_signature = signature.len() == 64 && signature.bytes().all(|b| b.is_ascii_hexdigit());
        let names_headers = !field("SignedHeaders")?.is_empty();
        let scope: Vec<_> = field("Credential")?.split('/').collect();
        match scope[..] {
            [key, date, region, service, "aws4_request"]
                if is_signature && names_headers && date.len() == 8 && !region.is_empty() =>
            {
                Some(Self { key, region, service })
            }
            _ => None,
        }
    }
}

/// The header that would say what the query of a presigned URL does.
fn presigned(query: &str) -> Option<HeaderValue> {
    let field = |name: &str| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    };
    let scope = field("X-Amz-Credential")?.replace("%2F", "/");
    let value = format!(
        "{} Credential={scope}, SignedHeaders={}, Signature={}",
        field("X-Amz-Algorithm")?,
        field("X-Amz-SignedHeaders")?,
        field("X-Amz-Signature")?
    );
    value.parse().ok()
}

fn account_of(key: &str) -> Option<String> {
    let well_formed = key.len() == KEY_LEN && key.bytes().all(|b| ALPHABET.as_bytes().contains(&b));
    if !well_formed {
        return None;
    }
    let mut number = [0; 8];
    number[3..].copy_from_slice(&BASE32.decode(&key.as_bytes()[4..12]).ok()?);
    let half = u64::from_be_bytes(number).checked_sub(OFFSET)?;
    let odd = ALPHABET.find(&key[12..13])? >= ALPHABET.len() / 2;
    let account = half * 2 + u64::from(odd);
    (account < 1_000_000_000_000).then(|| format!("{account:012}"))
}

/// A key of the account's own, for clients of the endpoints; every secret goes with it. `None` if that is no number of
/// an account.
pub fn key_of(account: &str) -> Option<String> {
    let number: u64 = account.parse().ok().filter(|_| account.len() == 12)?;
    let half = (number / 2 + OFFSET).to_be_bytes();
    let odd = if number % 2 == 1 { 'Q' } else { 'A' };
    Some(format!("AKIA{}{odd}AAAAAAA", BASE32.encode(&half[3..])))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn caller(header: &str, query: &str) -> Result<Caller, Refusal> {
        let mut request = Request::get(format!("http://endpoint/?{query}"));
        if !header.is_empty() {
            request = request.header(AUTHORIZATION, header);
        }
        Caller::of(&mut request.body(()).unwrap().into_parts().0)
    }

    fn signed(key: &str) -> String {
        let signature = "0f".repeat(32);
        format!(
            "{ALGORITHM} Credential={key}/20260101/us-gov-west-1/ec2/aws4_request, SignedHeaders=host, Signature={signature}"
        )
    }

    #[test]
    fn a_key_tells_its_account() {
        for account in ["000000000000", "000000000001", "123456789012", "999999999999"] {
            let key = key_of(account).unwrap();
            assert_eq!(account_of(&key).as_deref(), Some(account));
        }
        // The example in AWS's documentation is of an older form, which tells nothing.
        assert_eq!(account_of("AKIAIOSFODNN7EXAMPLE"), None);
        assert_eq!(key_of("12345"), None);
        for key in [
            "",
            "test",
            "AKIA00000000AAAAAAAA",
            "AKIAAAAAAAAAAAAAAAAA",
            "AKIA7777777777777777",
        ] {
            assert_eq!(account_of(key), None, "{key}");
        }
    }

    #[test]
    fn the_scope_of_a_signature_is_read_from_header_and_query() {
        let key = key_of("123456789012").unwrap();
        let from_header = caller(&signed(&key), "").unwrap();
        assert_eq!(from_header.account, "123456789012");
        assert_eq!(from_header.region, "us-gov-west-1");
        assert_eq!(from_header.service, "ec2");
        let signature = "0f".repeat(32);
        let query = format!(
            "Action=GetCallerIdentity&X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={key}%2F20260101%2Fus-gov-west-1%2Fec2%2Faws4_request&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        );
        assert_eq!(caller("", &query).unwrap(), from_header);
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let key = key_of("123456789012").unwrap();
        let code = |header: &str| caller(header, "").unwrap_err().code;
        assert_eq!(code(""), "MissingAuthenticationToken");
        assert_eq!(code("Basic dXNlcg=="), "IncompleteSignature");
        assert_eq!(code(&signed(&key).replace("0f", "0g")), "IncompleteSignature");
        assert_eq!(
            code(&signed(&key).replace("aws4_request", "request")),
            "IncompleteSignature"
        );
        assert_eq!(code(&signed("AKIAEXAMPLE")), "InvalidClientTokenId");
        assert_eq!(
            code(&signed(&key.replace("AKIA", "ASIA"))),
            "InvalidClientTokenId"
        );
    }
}
