//! HTTPS for agents that enrol. The runner passes the request on to the hub, and the answer back.

use std::{io, net::TcpListener, sync::Arc};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use protocol::enrol::Problem;
use rustls::ServerConfig;

use crate::{hub::HubClient, staging::chain};

/// The longest request: properties of a machine with sixty disks.
const REQUEST_MAX: usize = 256 << 10;

pub(crate) async fn serve(
    listener: TcpListener,
    tls: ServerConfig,
    hub: HubClient,
    handle: Handle<std::net::SocketAddr>,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/enrol", post(enrol))
        .route("/healthz", get(|| async { "ok\n" }))
        .layer(DefaultBodyLimit::max(REQUEST_MAX))
        .with_state(hub);
    axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(Arc::new(tls)))?
        .handle(handle)
        .serve(routes.into_make_service())
        .await
}

async fn enrol(State(hub): State<HubClient>, body: Bytes) -> Response {
    match hub.pass_on_enrolment(body.to_vec()).await {
        Ok((status, body)) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "cannot pass an enrolment on");
            let problem = Problem {
                code: "hub_unreachable".into(),
                message: "the runner cannot reach the hub just now; try again in a minute".into(),
            };
            (StatusCode::BAD_GATEWAY, Json(problem)).into_response()
        }
    }
}
