//! Style sheets, scripts and the mark, embedded in the program.
//!
//! A page asks for them under an address that carries their digest, so browsers keep them for good and
//! an upgrade is seen at once.

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::text;

#[derive(Debug, RustEmbed)]
#[folder = "static"]
struct Static;

/// The address of an asset, digest included.
pub fn url(path: &str) -> String {
    match Static::get(path) {
        Some(file) => format!("/static/{path}?v={}", digest(&file)),
        None => format!("/static/{path}"),
    }
}

pub async fn serve(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Some(file) = Static::get(&path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let tag = format!("\"{}\"", digest(&file));
    let fresh = [
        (header::ETAG, tag.clone()),
        (
            header::CACHE_CONTROL,
            "public, max-age=31536000, immutable".into(),
        ),
    ];
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, fresh).into_response();
    }
    let kind = [(header::CONTENT_TYPE, file.metadata.mimetype().to_owned())];
    (fresh, kind, file.data).into_response()
}

/// The first eight bytes of the file's SHA-256, in hexadecimal.
fn digest(file: &EmbeddedFile) -> String {
    text::hex(&file.metadata.sha256_hash()[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_asset_is_kept_for_good_and_asked_for_by_its_digest() {
        let address = url("base.css");
        let (_, version) = address.split_once("?v=").unwrap();
        let first = serve(Path("base.css".into()), HeaderMap::new()).await;
        assert_eq!(first.status(), StatusCode::OK);
        assert_eq!(first.headers()[header::CONTENT_TYPE], "text/css");
        assert_eq!(first.headers()[header::ETAG], format!("\"{version}\""));

        let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone())]);
        let second = serve(Path("base.css".into()), known).await;
        assert_eq!(second.status(), StatusCode::NOT_MODIFIED);
    }

    #[tokio::test]
    async fn nothing_outside_the_folder_is_served() {
        for path in ["../Cargo.toml", "/etc/passwd", "nothing.css"] {
            let answer = serve(Path(path.into()), HeaderMap::new()).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
