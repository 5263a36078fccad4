//! The API.

use std::sync::Arc;

use axum::Router;

use crate::Hub;

pub fn router(_hub: Arc<Hub>) -> Router {
    Router::new()
}
