//! HTTPS for agents that enrol. The runner passes the request on to the hub, and the answer back.
//!
//! Whoever is about to enrol may also measure the way here, by sending what is thrown away.

use std::{io, net::TcpListener, sync::Arc};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use axum_server::{Handle, tls_rustls::RustlsConfig};
use futures_util::StreamExt;
use protocol::{
    enrol::Problem,
    measure::{self, BYTES_MAX, TIME_MAX},
};
use rustls::ServerConfig;
use tokio::{sync::Semaphore, time::timeout};

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
        .with_state(hub)
        .route(
            measure::PATH,
            post(swallow).with_state(Arc::new(Semaphore::new(1))),
        );
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

/// Reads what is sent, and keeps nothing. Anybody may ask, so that it is for one at a time, and not for long.
async fn swallow(State(turns): State<Arc<Semaphore>>, body: Body) -> StatusCode {
    let Ok(_turn) = turns.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE;
    };
    let swallowing = async {
        let mut left = BYTES_MAX;
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else {
                return StatusCode::BAD_REQUEST;
            };
            let Some(rest) = left.checked_sub(piece.len() as u64) else {
                return StatusCode::PAYLOAD_TOO_LARGE;
            };
            left = rest;
        }
        StatusCode::NO_CONTENT
    };
    timeout(TIME_MAX, swallowing)
        .await
        .unwrap_or(StatusCode::REQUEST_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_may_measure_at_a_time_and_within_bounds() {
        let turns = Arc::new(Semaphore::new(1));
        let swallow = |body: Body| super::swallow(State(Arc::clone(&turns)), body);
        assert_eq!(
            swallow(Body::from(vec![0; 1 << 20])).await,
            StatusCode::NO_CONTENT
        );
        let piece = Bytes::from(vec![0; 1 << 20]);
        let pieces = usize::try_from(BYTES_MAX >> 20).unwrap() + 1;
        let too_much = futures_util::stream::iter(std::iter::repeat_n(piece, pieces).map(Ok::<_, io::Error>));
        assert_eq!(
            swallow(Body::from_stream(too_much)).await,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        let _mine = turns.try_acquire().unwrap();
        assert_eq!(swallow(Body::empty()).await, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_nothing_does_not_keep_the_turn() {
        let never = futures_util::stream::pending::<io::Result<Bytes>>();
        let turns = Arc::new(Semaphore::new(1));
        let answer = swallow(State(Arc::clone(&turns)), Body::from_stream(never)).await;
        assert_eq!(answer, StatusCode::REQUEST_TIMEOUT);
        assert_eq!(turns.available_permits(), 1);
    }
}
