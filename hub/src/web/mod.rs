//! The console's pages.

use std::sync::Arc;

use axum::{Router, response::Html, routing::get};

use crate::Hub;

pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route(
            "/",
            get(async || Html("<!doctype html><title>Orglift</title><h1>Orglift</h1>")),
        )
        .with_state(hub)
}
