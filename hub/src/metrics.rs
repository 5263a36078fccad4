//! What monitoring asks for, in Prometheus' text format.
//!
//! Requests are counted as they come; all else is read from the store when somebody asks, and so is the same at every hub.
//! No label names a server or a person: what there are many of is counted.

use std::{fmt, sync::Arc, sync::atomic::Ordering, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use crate::{
    Hub,
    auth::Actor,
    clock::now_ms,
    store::{StoreError, accounts::AccountOverview},
    web::is_silent,
};

/// From a millisecond to half a minute.
const SECONDS: (f64, f64, u16) = (0.001, 2.0, 15);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    method: &'static str,
    /// As the router has it, without what stands for `{server}`.
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    state: String,
}

/// Of this hub's process.
pub struct Metrics {
    registry: Registry,
    requests: Family<Asked, Counter>,
    took: Family<Route, Histogram, fn() -> Histogram>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("orglift");
        let requests = Family::default();
        let histogram: fn() -> Histogram = || {
            let (from, factor, count) = SECONDS;
            Histogram::new(exponential_buckets(from, factor, count))
        };
        let took = Family::new_with_constructor(histogram);
        registry.register("http_requests", "Requests that were answered", requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Until the head of the answer",
            Unit::Seconds,
            took.clone(),
        );
        Self {
            registry,
            requests,
            took,
        }
    }
}

/// Counts a request, and how long its answer took.
pub async fn count(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    // Whoever looks for holes asks for a thousand addresses.
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        _ => "other",
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let took = began.elapsed().as_secs_f64();
    let asked = Asked {
        method,
        route: route.clone(),
        status: response.status().as_u16(),
    };
    hub.metrics.requests.get_or_create(&asked).inc();
    hub.metrics.took.get_or_create(&Route { route }).observe(took);
    response
}

/// Everything, for who may see everything.
pub async fn render(hub: &Hub, actor: &Actor) -> Result<String, StoreError> {
    let overview = hub.account_overview(actor).await?;
    let waiting = hub.store.sagas_running().await?;
    let mut now = Registry::with_prefix("orglift");
    let mut gauge = |name: &str, help: &str, value: i64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(value);
        now.register(name, help, gauge);
    };
    let leads = hub.leads.load(Ordering::Relaxed);
    gauge(
        "leads",
        "1 if this hub runs jobs, waves and checks",
        i64::from(leads),
    );
    gauge(
        "steps_running",
        "Steps of jobs under way",
        as_gauge(waiting.len() as u64),
    );
    let repeated = waiting.iter().filter(|saga| saga.attempts > 0).count();
    gauge(
        "steps_repeated",
        "Steps whose last attempt failed and is repeated",
        as_gauge(repeated as u64),
    );
    let sum = |of: fn(&AccountOverview) -> u64| as_gauge(overview.iter().map(of).sum());
    gauge(
        "servers_in_jobs",
        "Source servers that jobs work on",
        sum(|row| row.in_jobs),
    );
    gauge(
        "servers_diverging",
        "Source servers that write more than gets through",
        sum(|row| row.diverging),
    );
    gauge(
        "servers_untracked",
        "Source servers that are compared in full although a person could change that",
        sum(|row| row.untracked),
    );
    gauge(
        "replicated_bytes",
        "Bytes of disks that runners hold",
        sum(|row| row.replicated_bytes),
    );
    gauge(
        "network_findings",
        "What the networks of accounts lack",
        sum(|row| row.network_findings),
    );
    let at = now_ms();
    let oldest = overview.iter().filter_map(|row| row.oldest_lag_basis).min();
    gauge(
        "replication_lag_seconds",
        "Age of the newest launchable checkpoint of the source server that lags most",
        oldest.map_or(0, |basis| (at - basis).max(0) / 1000),
    );
    let silent = overview.iter().flat_map(|row| &row.runners);
    let (silent, all) = silent.fold((0, 0), |(silent, all), runner| {
        (silent + u64::from(is_silent(runner, at)), all + 1)
    });
    gauge("runners", "Runners", as_gauge(all));
    gauge("runners_silent", "Runners that do not report", as_gauge(silent));
    by_state(
        &mut now,
        "source_servers",
        "Source servers by life cycle",
        &overview,
        |row| row.servers.clone(),
    );
    by_state(
        &mut now,
        "replications",
        "Source servers by replication state",
        &overview,
        |row| row.replication.clone(),
    );
    by_state(&mut now, "accounts", "Accounts by access", &overview, |row| {
        [(row.account.access.name().to_owned(), 1)].into()
    });
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = encode_registry(&mut text, &hub.metrics.registry);
    let _ = encode_registry(&mut text, &now);
    let _ = encode_eof(&mut text);
    Ok(text)
}

fn by_state(
    registry: &mut Registry,
    name: &str,
    help: &str,
    overview: &[AccountOverview],
    of: impl Fn(&AccountOverview) -> std::collections::BTreeMap<String, u64>,
) {
    let family: Family<Named, Gauge> = Family::default();
    for (state, count) in overview.iter().flat_map(of) {
        family.get_or_create(&Named { state }).inc_by(as_gauge(count));
    }
    registry.register(name, help, family);
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        http::{StatusCode, header},
    };
    use tower::ServiceExt;

    use crate::{entities::user::UserRole, fixtures, serve::ui_router};

    #[tokio::test]
    async fn monitoring_sees_counts_and_nobody_else_does() {
        let hub = fixtures::hub().await;
        fixtures::with_runner(&hub).await;
        fixtures::add_user(&hub, "monitoring", UserRole::Viewer, "correct horse").await;
        let key = fixtures::add_key(&hub, "monitoring").await;
        let router = ui_router(hub.hub.clone());
        let ask = async |path: &str, key: &str| {
            let request = axum::http::Request::builder()
                .uri(path)
                .header(header::HOST, "hub.example")
                .header(header::AUTHORIZATION, format!("Bearer {key}"));
            let response = router
                .clone()
                .oneshot(request.body(Body::empty()).unwrap())
                .await
                .unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(ask("/metrics", "wrong").await.0, StatusCode::FORBIDDEN);
        ask("/servers/s-11111111111111111", &key).await;
        let (status, text) = ask("/metrics", &key).await;
        assert_eq!(status, StatusCode::OK);
        for line in [
            "orglift_runners 1",
            "orglift_accounts{state=\"",
            "orglift_http_requests_total{method=\"GET\",route=\"/servers/{server}\",status=\"303\"} 1",
            "orglift_http_request_duration_seconds_count{route=\"/servers/{server}\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(text.ends_with("# EOF\n") && !text.contains("s-1111"), "{text}");
    }
}
