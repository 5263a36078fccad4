//! The files of a conversion that people and programs download: what the runner handed over, in the forms in which
//! it can be read, checked and attached to an audit.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use domain::ids::{JobId, SourceServerId};
use protocol::artifacts::{Artifact, SignedChangeList};

use crate::store::{Seen, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// The change list, byte by byte as it was signed.
    Changes,
    Signature,
    Certificate,
    /// The change list for a reader.
    Text,
    Console,
    Screenshot,
}

impl Document {
    pub const ALL: [Self; 6] = [
        Self::Changes,
        Self::Signature,
        Self::Certificate,
        Self::Text,
        Self::Console,
        Self::Screenshot,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Changes => "changes.json",
            Self::Signature => "changes.json.sig",
            Self::Certificate => "certificate.pem",
            Self::Text => "changes.txt",
            Self::Console => "console.txt",
            Self::Screenshot => "screenshot.png",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|document| document.name() == name)
    }

    /// What it is made from.
    pub fn artifact(self) -> Artifact {
        match self {
            Self::Changes | Self::Signature | Self::Certificate | Self::Text => Artifact::ChangeList,
            Self::Console => Artifact::Console,
            Self::Screenshot => Artifact::Screenshot,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Changes => "application/json",
            Self::Signature => "application/octet-stream",
            Self::Certificate => "application/x-pem-file",
            Self::Text | Self::Console => "text/plain; charset=utf-8",
            Self::Screenshot => "image/png",
        }
    }

    /// Its contents, or `None` if there is no such document of the conversion.
    pub async fn load(
        self,
        store: &Seen,
        job: &JobId,
        server: &SourceServerId,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let kept = store.artifact(job, server, self.artifact()).await?;
        Ok(kept.and_then(|kept| self.of(kept)))
    }

    /// From an artifact. A change list was checked when it came.
    fn of(self, artifact: Vec<u8>) -> Option<Vec<u8>> {
        if self.artifact() != Artifact::ChangeList {
            return Some(artifact);
        }
        let signed: SignedChangeList = serde_json::from_slice(&artifact).ok()?;
        match self {
            Self::Changes => Some(signed.json.into_bytes()),
            Self::Signature => Some(signed.signature),
            Self::Certificate => Some(signed.certificate_pem.into_bytes()),
            _ => Some(signed.list().ok()?.text().into_bytes()),
        }
    }

    pub fn answer(self, contents: Vec<u8>) -> Response {
        let saved_as = (self != Self::Screenshot).then(|| self.name());
        file(self.content_type(), saved_as, contents)
    }
}

/// An answer that a browser saves under a name, or shows where it has none, and never takes for a page.
pub fn file(content_type: &'static str, saved_as: Option<&str>, contents: Vec<u8>) -> Response {
    let disposition = match saved_as {
        Some(name) => format!("attachment; filename=\"{name}\""),
        None => "inline".to_owned(),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::try_from(disposition).expect("names of files are plain"),
        ),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
    ];
    (headers, contents).into_response()
}
