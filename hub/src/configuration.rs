//! `hub.toml`, in the hub's folder: what does not fit on a command line.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use domain::scope::Scope;
use lettre::message::Mailbox;
use openidconnect::url::{Host, Url};
use serde::Deserialize;

use crate::{entities::user::UserRole, serve::ServeOptions, store::holds_password};

const FILE: &str = "hub.toml";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Configuration {
    /// The PostgreSQL database that holds the hub's records, as `--database` has it.
    pub database: Option<String>,
    pub serve: ServeOptions,
    pub sign_in: SignIn,
    pub oidc: Option<Oidc>,
    pub smtp: Option<Smtp>,
}

/// How people sign in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SignIn {
    /// Whether users with a password here may, the break-glass account apart.
    pub local: bool,
    /// Who of them needs a second factor.
    pub second_factor: SecondFactor,
}

impl Default for SignIn {
    fn default() -> Self {
        Self {
            local: true,
            second_factor: SecondFactor::Optional,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondFactor {
    /// Whoever wants one.
    Optional,
    /// Whoever may cut over, or let machines in, anywhere.
    Approvers,
    Everybody,
}

/// An identity provider by OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// As the provider writes it, `https://id.example.com`.
    pub issuer: String,
    pub client_id: String,
    /// A file that holds the client's secret, and that nobody else may read; relative to the hub's folder.
    pub client_secret_file: Option<PathBuf>,
    /// Where browsers find the console, `https://orglift.example.com`: the provider sends them back to `/sign-in/oidc`.
    pub console: String,
    /// What stands on the button.
    #[serde(default = "provider")]
    pub label: String,
    /// What is asked for beside `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// What of a token people are called by here.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// Certificates of a private authority, PEM, that vouch for the provider.
    pub ca_file: Option<PathBuf>,
    /// Who may do what, by the provider's word. Without any, grants are given here, to users who have signed in once.
    #[serde(default)]
    pub grants: Vec<GrantRule>,
}

fn provider() -> String {
    "the identity provider".into()
}

fn scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).to_vec()
}

fn name_claim() -> String {
    "preferred_username".into()
}

/// Whoever's token has `value` in `claim` has a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantRule {
    pub claim: String,
    pub value: String,
    pub role: UserRole,
    #[serde(default = "everything")]
    pub scopes: Vec<Scope>,
}

fn everything() -> Vec<Scope> {
    vec![Scope::Everything]
}

/// The relay that mail is handed to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Smtp {
    pub host: String,
    /// That of the kind of security, if nothing is said.
    port: Option<u16>,
    #[serde(default)]
    pub security: SmtpSecurity,
    /// `Orglift <orglift@example.com>`
    pub from: String,
    pub user: Option<String>,
    /// A file that holds the user's password; relative to the hub's folder.
    pub password_file: Option<PathBuf>,
    /// A certificate of a private authority, PEM, that vouches for the relay.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    /// TLS is asked for, and nothing is said before it is there.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// For a relay on this very machine.
    None,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("cannot understand {0}")]
    Parse(PathBuf, #[source] toml::de::Error),
    #[error("{0}: {1}")]
    Wrong(PathBuf, String),
}

impl Configuration {
    /// Of a hub's folder; where there is no file, everything is as it comes.
    pub fn load(dir: &Path) -> Result<Self, ConfigurationError> {
        let path = dir.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(ConfigurationError::Read(path, error)),
        };
        let mut read: Self = match toml::from_str(&text) {
            Ok(read) => read,
            Err(error) => return Err(ConfigurationError::Parse(path, error)),
        };
        read.check().map_err(|why| ConfigurationError::Wrong(path, why))?;
        for file in read.files() {
            *file = dir.join(&*file);
        }
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        if self.database.as_deref().is_some_and(holds_password) {
            return Err(
                "database holds a password, which does not belong into this file: put the address into the environment \
                 variable ORGLIFT_DATABASE instead, or the password into the file ~/.pgpass"
                    .into(),
            );
        }
        self.oidc.as_ref().map_or(Ok(()), Oidc::check)?;
        self.smtp.as_ref().map_or(Ok(()), Smtp::check)
    }

    /// All that it names.
    fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let oidc = self.oidc.iter_mut();
        let smtp = self.smtp.iter_mut();
        [&mut self.serve.tls_certificate, &mut self.serve.tls_key]
            .into_iter()
            .chain(oidc.flat_map(|oidc| [&mut oidc.client_secret_file, &mut oidc.ca_file]))
            .chain(smtp.flat_map(|smtp| [&mut smtp.password_file, &mut smtp.ca_file]))
            .flatten()
    }
}

impl Smtp {
    /// Those of RFC 6409, RFC 8314 and RFC 5321.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            SmtpSecurity::Starttls => 587,
            SmtpSecurity::Tls => 465,
            SmtpSecurity::None => 25,
        })
    }

    fn check(&self) -> Result<(), String> {
        if self.from.parse::<Mailbox>().is_err() {
            return Err(format!(
                "smtp.from has to be an address, as in Orglift <orglift@example.com>, not {:?}",
                self.from
            ));
        }
        if self.user.is_some() != self.password_file.is_some() {
            return Err("smtp.user and smtp.password_file go together".into());
        }
        let is_here = self.host == "localhost"
            || self
                .host
                .parse()
                .is_ok_and(|address: IpAddr| address.is_loopback());
        if self.security == SmtpSecurity::None && !is_here {
            return Err(format!(
                "smtp.security may be \"none\" for a relay on this very machine only, and {} is another",
                self.host
            ));
        }
        Ok(())
    }
}

impl Oidc {
    fn check(&self) -> Result<(), String> {
        for (name, url) in [("issuer", &self.issuer), ("console", &self.console)] {
            let parsed = Url::parse(url).ok();
            let may = parsed.is_some_and(|url| match url.host() {
                Some(Host::Ipv4(address)) => url.scheme() == "https" || address.is_loopback(),
                Some(Host::Ipv6(address)) => url.scheme() == "https" || address.is_loopback(),
                Some(Host::Domain(name)) => url.scheme() == "https" || name == "localhost",
                None => false,
            });
            if !may {
                return Err(format!(
                    "oidc.{name} has to be an address that begins with https://, not {url:?}"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Database;

    fn load(text: &str) -> Result<Configuration, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), text).unwrap();
        Configuration::load(dir.path()).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error}: {}", source.unwrap_or_default())
        })
    }

    #[test]
    fn without_a_file_everything_is_as_it_comes() {
        let dir = tempfile::tempdir().unwrap();
        let read = Configuration::load(dir.path()).unwrap();
        assert_eq!((read.sign_in, read.oidc), (SignIn::default(), None));
    }

    #[test]
    fn what_is_served_where_is_read_and_the_command_line_counts_before_it() {
        let text = r#"
            [serve]
            ui = "10.1.2.3:443"
            cloud = "folder:/srv/cloud"
            tls_certificate = "console.pem"
            tls_key = "/etc/orglift/console.key"
            checkpoint_interval = 300
        "#;
        let read = load(text).unwrap().serve;
        let flags = ServeOptions {
            checkpoint_interval: Some(60),
            ..ServeOptions::default()
        };
        let chosen = flags.or(read);
        assert_eq!(chosen.checkpoint_interval, Some(60));
        let config = chosen
            .config(
                "/var/lib/orglift/hub".into(),
                Database::File("hub.sqlite3".into()),
                Configuration::default(),
            )
            .unwrap();
        assert_eq!(config.ui.to_string(), "10.1.2.3:443");
        assert_eq!(config.settings.checkpoint_interval.as_secs(), 60);
        assert_eq!(config.settings.checkpoint_deadline.as_secs(), 900);
        let (certificate, key) = config.tls.unwrap();
        assert!(
            certificate.is_absolute() && certificate.ends_with("console.pem"),
            "{certificate:?}"
        );
        assert_eq!(key, Path::new("/etc/orglift/console.key"));
        for (wrong, why) in [
            ("[serve]\ncloud = \"moon\"", "aws, or as folder:PATH"),
            ("[serve]\ncheckpoint_interval = 0", "1 to 86400 seconds"),
            ("[serve]\nport = 1", "unknown field"),
        ] {
            let said = load(wrong).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        let half = load("[serve]\ncloud = \"folder:a\"\ntls_key = \"key\"")
            .unwrap()
            .serve;
        let refused = half.config("a".into(), Database::File("b".into()), Configuration::default());
        assert!(refused.unwrap_err().to_string().contains("tls_certificate"));
        let none = ServeOptions::default();
        let refused = none.config("a".into(), Database::File("b".into()), Configuration::default());
        assert!(refused.unwrap_err().to_string().contains("--cloud"));
    }

    #[test]
    fn a_provider_is_read_with_its_rules() {
        let read = load(
            r#"
            [sign_in]
            local = false
            second_factor = "approvers"

            [oidc]
            issuer = "https://id.example.com"
            client_id = "orglift"
            client_secret_file = "oidc-secret"
            console = "https://orglift.example.com"

            [[oidc.grants]]
            claim = "groups"
            value = "tenant-admins"
            role = "approver"
            scopes = ["account:210000000001"]
            "#,
        )
        .unwrap();
        assert_eq!(read.sign_in.second_factor, SecondFactor::Approvers);
        let oidc = read.oidc.unwrap();
        assert!(oidc.client_secret_file.unwrap().is_absolute());
        assert_eq!(oidc.grants[0].role, UserRole::Approver);
        assert_eq!(oidc.grants[0].scopes[0].to_string(), "account:210000000001");
    }

    #[test]
    fn mail_goes_over_tls_unless_the_relay_is_on_this_machine() {
        let smtp = |text: &str| {
            let text = format!("[smtp]\nfrom = \"Orglift <orglift@example.com>\"\n{text}");
            load(&text).unwrap().smtp.unwrap()
        };
        let usual = smtp("host = \"mail.example.com\"\nca_file = \"mail.pem\"");
        assert_eq!((usual.security, usual.port()), (SmtpSecurity::Starttls, 587));
        assert!(usual.ca_file.unwrap().is_absolute());
        assert_eq!(smtp("host = \"mail\"\nsecurity = \"tls\"").port(), 465);
        let here = smtp("host = \"127.0.0.1\"\nport = 2525\nsecurity = \"none\"");
        assert_eq!(here.port(), 2525);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("[sign_in]\nlokal = true", "unknown field `lokal`"),
            ("[sign_in]\nsecond_factor = \"never\"", "second_factor"),
            ("[oidc]\nissuer = \"https://id.example.com\"", "client_id"),
            (
                "[oidc]\nissuer = \"http://id.example.com\"\nclient_id = \"a\"\nconsole = \"https://o.example.com\"",
                "oidc.issuer has to be an address that begins with https://",
            ),
            ("sign_in = ", "hub.toml"),
            (
                "database = \"postgres://orglift:rosebud@db/orglift\"",
                "ORGLIFT_DATABASE",
            ),
            ("[smtp]\nhost = \"mail\"\nfrom = \"nobody\"", "smtp.from"),
            (
                "[smtp]\nhost = \"mail\"\nfrom = \"a@example.com\"\nuser = \"a\"",
                "smtp.password_file",
            ),
            (
                "[smtp]\nhost = \"mail\"\nfrom = \"a@example.com\"\nsecurity = \"none\"",
                "this very machine",
            ),
        ] {
            let error = load(text).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
