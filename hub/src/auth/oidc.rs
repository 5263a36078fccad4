//! Signing in at an identity provider, by OpenID Connect: the authorization code flow with PKCE.
//!
//! ```text
//! browser ─▶ hub: a visit with state, nonce and verifier, known by a cookie ─▶ provider
//! browser ◀─ provider: back, with a code ─▶ hub ─▶ provider: code and verifier, for a signed token
//! ```
//!
//! Somebody is the subject at the issuer, whatever name goes with it. Nothing of the provider's is kept but that: its
//! addresses and keys are asked for with every sign-in, so that a key it has changed is never a surprise.

use std::{collections::BTreeMap, path::PathBuf, pin::Pin, time::Duration};

use openidconnect::{
    AdditionalClaims, AsyncHttpClient, AuthorizationCode, Client, ClientId, ClientSecret, CsrfToken,
    EmptyExtraTokenFields, EndSessionUrl, HttpRequest, HttpResponse, IdTokenFields, IssuerUrl, LogoutRequest,
    Nonce, PkceCodeChallenge, PkceCodeVerifier, PostLogoutRedirectUrl, ProviderMetadataWithLogout,
    RedirectUrl, Scope, StandardErrorResponse, StandardTokenResponse, TokenResponse,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreErrorResponseType, CoreGenderClaim,
        CoreJsonWebKey, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    AuthError, Grant,
    people::{blank, check_name},
    sessions::Browser,
};
use crate::{
    Hub,
    audit::By,
    clock::now_ms,
    configuration::{GrantRule, Oidc},
    entities::{oidc_visit, user::Model as User},
    secrets::{new_secret, sha256_hex},
};

/// Where the provider sends browsers back to.
pub const RETURN: &str = "/sign-in/oidc";

/// Where it sends them once they are signed out there, too.
const LEFT: &str = "/sign-in?left=true";

/// For typing a password there, and looking for the telephone.
const VISIT: Duration = Duration::from_mins(15);

const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Keys and tokens have kilobytes.
const ANSWER_MAX: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    #[error("no identity provider is named in hub.toml")]
    None,
    #[error("cannot read {0}")]
    File(PathBuf, #[source] std::io::Error),
    #[error("{0} holds no certificates")]
    Certificates(PathBuf, #[source] reqwest::Error),
    #[error("the identity provider at {issuer} does not answer as one: {why}")]
    Provider { issuer: String, why: String },
    #[error("the identity provider ends no session at the wish of others: sign out at its own page")]
    NoEnd,
    #[error("the identity provider refused: {0}")]
    Refused(String),
    #[error("the sign-in took too long, or was begun in another browser: begin again")]
    Visit,
    #[error("the identity provider names nobody in {0}")]
    NoName(String),
    #[error(
        "{0:?}, as the identity provider says, cannot be a user's name: it needs letters, digits, '.', '_', '-' or '@'"
    )]
    Name(String),
    #[error(
        "another user is called {0} already: an administrator has to remove that one, or to rename this one at the identity provider"
    )]
    Taken(String),
    #[error(
        "{0} may do nothing here: of what the identity provider says of this user, nothing is named in hub.toml"
    )]
    Nothing(String),
    #[error("{0} is disabled")]
    Disabled(String),
    #[error(transparent)]
    Auth(#[from] AuthError),
}

impl From<crate::store::StoreError> for OidcError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Auth(error.into())
    }
}

/// A browser on its way to the provider.
#[derive(Debug)]
pub struct Departure {
    pub url: String,
    /// The value of the cookie that knows it again.
    pub cookie: String,
}

/// What the provider gives a browser to bring back.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Return {
    code: String,
    state: String,
    error: String,
    error_description: String,
}

/// All of a token that is not standard.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Claims(BTreeMap<String, Value>);

impl AdditionalClaims for Claims {}

type Fields = IdTokenFields<
    Claims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type OidcClient<Auth, Device, Introspection, Revocation, Token, Info> = Client<
    Claims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    Auth,
    Device,
    Introspection,
    Revocation,
    Token,
    Info,
>;

use openidconnect::{EndpointMaybeSet, EndpointNotSet, EndpointSet};

/// As a provider's own description makes it.
type Discovered = OidcClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The provider as it is now.
struct Provider<'a> {
    settings: &'a Oidc,
    http: Http,
    client: Discovered,
    end_session: Option<EndSessionUrl>,
}

impl<'a> Provider<'a> {
    async fn find(settings: &'a Oidc) -> Result<Self, OidcError> {
        let http = Http(http_client(settings)?);
        let failed = |why: String| OidcError::Provider {
            issuer: settings.issuer.clone(),
            why,
        };
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|error| failed(error.to_string()))?;
        let found = ProviderMetadataWithLogout::discover_async(issuer, &http)
            .await
            .map_err(|error| failed(chain(&error)))?;
        let secret = match &settings.client_secret_file {
            Some(file) => {
                let read = tokio::fs::read_to_string(file).await;
                let text = read.map_err(|error| OidcError::File(file.clone(), error))?;
                Some(ClientSecret::new(text.trim().to_owned()))
            }
            None => None,
        };
        let back = format!("{}{RETURN}", settings.console.trim_end_matches('/'));
        let back = RedirectUrl::new(back).map_err(|error| failed(error.to_string()))?;
        let end_session = found.additional_metadata().end_session_endpoint.clone();
        let client = Client::from_provider_metadata(found, ClientId::new(settings.client_id.clone()), secret)
            .set_redirect_uri(back);
        Ok(Self {
            settings,
            http,
            client,
            end_session,
        })
    }

    async fn subject(&self, code: String, visit: &oidc_visit::Model) -> Result<Subject, OidcError> {
        let refused = |why: String| OidcError::Refused(why);
        let answer = self
            .client
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| refused(error.to_string()))?
            .set_pkce_verifier(PkceCodeVerifier::new(visit.verifier.clone()))
            .request_async(&self.http)
            .await
            .map_err(|error| refused(chain(&error)))?;
        let token = answer
            .id_token()
            .ok_or_else(|| refused("it sent no ID token".into()))?;
        let nonce = Nonce::new(visit.nonce.clone());
        let claims = token
            .claims(&self.client.id_token_verifier(), &nonce)
            .map_err(|error| refused(chain(&error)))?;
        let all = serde_json::to_value(claims).map_err(|error| refused(error.to_string()))?;
        let name_claim = &self.settings.name_claim;
        let name = all.get(name_claim).and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() {
            return Err(OidcError::NoName(name_claim.clone()));
        }
        check_name(name).map_err(|_| OidcError::Name(name.chars().take(100).collect()))?;
        Ok(Subject {
            id: format!("{} {}", self.settings.issuer, claims.subject().as_str()),
            name: name.to_owned(),
            grants: granted(&self.settings.grants, &all),
        })
    }
}

/// Whom the provider vouches for.
#[derive(Debug)]
struct Subject {
    id: String,
    name: String,
    grants: Vec<Grant>,
}

/// By the rules whose value a token has, be it alone or in a list.
fn granted(rules: &[GrantRule], token: &Value) -> Vec<Grant> {
    let has = |rule: &&GrantRule| match token.get(&rule.claim) {
        Some(Value::Array(values)) => values.iter().any(|value| *value == rule.value),
        Some(value) => *value == rule.value,
        None => false,
    };
    let mut grants: Vec<Grant> = Vec::new();
    for rule in rules.iter().filter(has) {
        for scope in &rule.scopes {
            match grants.iter_mut().find(|known| known.scope == *scope) {
                Some(known) => known.role = known.role.max(rule.role),
                None => grants.push(Grant {
                    role: rule.role,
                    scope: scope.clone(),
                }),
            }
        }
    }
    grants
}

impl Hub {
    /// Sends a browser to the provider; `next` is where it is to end up here.
    pub async fn oidc_begin(&self, next: &str) -> Result<Departure, OidcError> {
        let settings = self.settings.oidc.as_ref().ok_or(OidcError::None)?;
        let provider = Provider::find(settings).await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let mut request = provider
            .client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                CsrfToken::new_random,
                Nonce::new_random,
            )
            .set_pkce_challenge(challenge);
        for scope in &settings.scopes {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        let (url, state, nonce) = request.url();
        let cookie = new_secret();
        let mut tx = self.store.begin().await?;
        tx.oidc_visit_insert(oidc_visit::Model {
            sha256: sha256_hex(cookie.as_bytes()),
            state: state.into_secret(),
            nonce: nonce.secret().clone(),
            verifier: verifier.into_secret(),
            next: next.to_owned(),
            ends_at: now_ms() + i64::try_from(VISIT.as_millis()).unwrap_or(i64::MAX),
        })
        .await?;
        tx.commit().await?;
        Ok(Departure {
            url: url.into(),
            cookie,
        })
    }

    /// Where a browser ends its session at the provider, and is sent back from; as RP-Initiated Logout 1.0 has it. The
    /// provider asks whoever is there: no token is kept here that could tell it.
    pub async fn oidc_end(&self) -> Result<String, OidcError> {
        let settings = self.settings.oidc.as_ref().ok_or(OidcError::None)?;
        let end_session = Provider::find(settings).await?.end_session;
        let back = format!("{}{LEFT}", settings.console.trim_end_matches('/'));
        let back = PostLogoutRedirectUrl::new(back).map_err(|error| OidcError::Refused(error.to_string()))?;
        let request = LogoutRequest::from(end_session.ok_or(OidcError::NoEnd)?)
            .set_client_id(ClientId::new(settings.client_id.clone()))
            .set_post_logout_redirect_uri(back);
        Ok(request.http_get_url().into())
    }

    /// Takes a browser back. Returns the value of its session's cookie, and where to go.
    pub async fn oidc_finish(
        &self,
        cookie: &str,
        back: Return,
        browser: &Browser,
    ) -> Result<(String, String), OidcError> {
        let settings = self.settings.oidc.as_ref().ok_or(OidcError::None)?;
        let mut tx = self.store.begin().await?;
        let visit = tx.oidc_visit_take(&sha256_hex(cookie.as_bytes())).await?;
        tx.commit().await?;
        let visit = visit.ok_or(OidcError::Visit)?;
        let same =
            aws_lc_rs::constant_time::verify_slices_are_equal(visit.state.as_bytes(), back.state.as_bytes());
        if same.is_err() {
            return Err(OidcError::Visit);
        }
        if back.code.is_empty() {
            let said = [back.error, back.error_description].join(" ");
            return Err(OidcError::Refused(said.chars().take(300).collect()));
        }
        let subject = Provider::find(settings).await?.subject(back.code, &visit).await?;
        match self.admit(settings, &subject, browser).await {
            Ok(secret) => Ok((secret, visit.next)),
            Err(refusal) => {
                let by = By {
                    name: &subject.name,
                    address: browser.address,
                };
                let mut tx = self.store.begin().await?;
                tx.audit_refused(by, "sign in", &subject.name, &refusal.to_string())
                    .await?;
                tx.commit().await?;
                Err(refusal)
            }
        }
    }

    async fn admit(
        &self,
        settings: &Oidc,
        subject: &Subject,
        browser: &Browser,
    ) -> Result<String, OidcError> {
        let mut tx = self.store.begin().await?;
        let user = match tx.user_by_subject(&subject.id).await? {
            Some(known) if known.disabled_at.is_some() => return Err(OidcError::Disabled(known.name)),
            Some(known) => known,
            None if tx.user(&subject.name).await?.is_some() => {
                return Err(OidcError::Taken(subject.name.clone()));
            }
            None => User {
                subject: Some(subject.id.clone()),
                ..blank(&subject.name)
            },
        };
        if !settings.grants.is_empty() {
            if subject.grants.is_empty() {
                return Err(OidcError::Nothing(user.name));
            }
            let held = tx.grants_of(&user.name).await?;
            let held: Vec<_> = held.into_iter().map(Grant::from).collect();
            let is_new = |grant: &Grant| !held.contains(grant);
            if held.len() != subject.grants.len() || subject.grants.iter().any(is_new) {
                let given: Vec<_> = subject.grants.iter().map(Grant::to_string).collect();
                tx.user_put(user.clone()).await?;
                tx.grants_replace(&user.name, subject.grants.clone()).await?;
                tx.audit_done(settings.issuer.as_str(), "grant", &user.name, &given.join(", "))
                    .await?;
            }
        }
        tx.user_put(user.clone()).await?;
        Ok(self.open_session(tx, user, "", browser).await?)
    }
}

fn http_client(settings: &Oidc) -> Result<reqwest::Client, OidcError> {
    let mut builder = reqwest::Client::builder()
        // Nobody is to send our secret elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WITHIN);
    if let Some(file) = &settings.ca_file {
        let pem = std::fs::read(file).map_err(|error| OidcError::File(file.clone(), error))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| OidcError::Certificates(file.clone(), error))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    builder.build().map_err(|error| OidcError::Provider {
        issuer: settings.issuer.clone(),
        why: chain(&error),
    })
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("the answer cannot be read")]
    Answer(#[from] axum::http::Error),
    #[error("the answer is longer than {ANSWER_MAX} bytes")]
    Long,
}

/// How the library reaches the provider.
struct Http(reqwest::Client);

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(fetch(self.0.clone(), request))
    }
}

async fn fetch(http: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, FetchError> {
    let mut answer = http.execute(request.try_into()?).await?;
    let mut response = axum::http::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(FetchError::Long);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(response.body(body)?)
}

/// An error with all that caused it: libraries say little in the first.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::entities::user::UserRole;

    #[test]
    fn grants_follow_the_rules_that_a_token_meets() {
        let rule = |value: &str, role, scope: &str| GrantRule {
            claim: "groups".into(),
            value: value.into(),
            role,
            scopes: vec![scope.parse().unwrap()],
        };
        let rules = [
            rule("team", UserRole::Viewer, "everything"),
            rule("lead", UserRole::Approver, "everything"),
            rule("tenant", UserRole::Operator, "account:210000000001"),
        ];
        let of = |token: Value| {
            let grants = granted(&rules, &token);
            grants.iter().map(Grant::to_string).collect::<Vec<_>>()
        };
        assert_eq!(of(json!({})), Vec::<String>::new());
        assert_eq!(of(json!({ "groups": "team" })), ["viewer for everything"]);
        assert_eq!(
            of(json!({ "groups": ["tenant", "lead", "team", 7] })),
            ["approver for everything", "operator for account:210000000001"]
        );
    }
}
