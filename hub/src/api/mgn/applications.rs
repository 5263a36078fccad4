//! Applications and waves.

use std::{
    collections::{BTreeMap, HashMap},
    future::{Ready, ready},
    sync::Arc,
};

use axum::{Json, extract::State, http::StatusCode};
use domain::{
    ids::{AccountId, ApplicationId, SourceServerId, WaveId},
    wave::Standing,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Items, Paging, confined};
use crate::{
    Hub,
    actions::{
        applications,
        naming::{Naming, Renaming},
        waves,
    },
    api::{ApiError, Ask, caller::Caller, date_time},
    clock::now_ms,
    entities::{application, wave},
    store::waves::{ApplicationFilter, WaveFilter},
};

type Answer = Result<Json<Value>, ApiError>;

/// As many as MGN takes in one request.
const NAMED_MAX: usize = 50;

#[derive(Debug, Deserialize)]
pub struct Create {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
}

impl Create {
    fn naming(self) -> Naming {
        Naming {
            name: self.name,
            description: self.description,
            tags: self.tags,
        }
    }
}

/// Of `accountID`, or of the only account that the caller sees.
pub async fn create_application(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let account = match &request.account {
        Some(account) => account.clone(),
        None => match &caller.store.account_list().await?[..] {
            [only] => only.id.0.clone(),
            _ => {
                return Err(ApiError::validation(
                    "name the account of the application by accountID",
                ));
            }
        },
    };
    let id = applications::create(&hub, &caller.actor, &account, request.naming()).await?;
    Ok((StatusCode::CREATED, the_application(&caller, &id).await?))
}

/// Of `accountID` alone, or without it of every account.
pub async fn create_wave(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<Create>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let account = request.account.clone();
    let id = waves::create(&hub, &caller.actor, account.as_ref(), request.naming()).await?;
    Ok((StatusCode::CREATED, the_wave(&caller, &id).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct List {
    filters: Filters,
    #[serde(flatten)]
    paging: Paging,
    #[serde(rename = "accountID")]
    account: Option<AccountId>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filters {
    #[serde(rename = "applicationIDs")]
    applications: Vec<ApplicationId>,
    #[serde(rename = "waveIDs")]
    waves: Vec<WaveId>,
    is_archived: Option<bool>,
}

pub async fn list_applications(
    caller: Caller,
    Ask(request): Ask<List>,
) -> Result<Json<Items<Value>>, ApiError> {
    let filter = ApplicationFilter {
        ids: request.filters.applications,
        accounts: request.account.into_iter().collect(),
        waves: request.filters.waves,
        archived: request.filters.is_archived,
    };
    let rows = caller.store.application_list(&filter).await?;
    let page = request.paging.cut(rows)?;
    let shapes = Shapes::of(&caller).await?;
    let items = page.items.iter().map(|row| shapes.application(row)).collect();
    Ok(Json(Items {
        items,
        next_token: page.next_token,
    }))
}

pub async fn list_waves(caller: Caller, Ask(request): Ask<List>) -> Result<Json<Items<Value>>, ApiError> {
    let filter = WaveFilter {
        ids: request.filters.waves,
        account: request.account,
        archived: request.filters.is_archived,
    };
    let rows = caller.store.wave_list(&filter).await?;
    let page = request.paging.cut(rows)?;
    let shapes = Shapes::of(&caller).await?;
    let items = page.items.iter().map(|row| shapes.wave(row)).collect();
    Ok(Json(Items {
        items,
        next_token: page.next_token,
    }))
}

#[derive(Debug, Deserialize)]
pub struct OneApplication {
    #[serde(rename = "applicationID")]
    id: ApplicationId,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
    #[serde(flatten)]
    to: To,
}

#[derive(Debug, Deserialize)]
pub struct OneWave {
    #[serde(rename = "waveID")]
    id: WaveId,
    #[serde(default, rename = "accountID")]
    account: Option<AccountId>,
    #[serde(flatten)]
    to: To,
}

/// What some of the requests say beside.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct To {
    name: Option<String>,
    description: Option<String>,
    #[serde(rename = "sourceServerIDs")]
    servers: Vec<SourceServerId>,
    #[serde(rename = "applicationIDs")]
    applications: Vec<ApplicationId>,
}

impl To {
    fn renaming(self) -> Renaming {
        Renaming {
            name: self.name,
            description: self.description,
        }
    }
}

fn few<T>(what: &str, named: &[T]) -> Result<(), ApiError> {
    if (1..=NAMED_MAX).contains(&named.len()) {
        return Ok(());
    }
    Err(ApiError::validation(format!("{what} names 1 to {NAMED_MAX}")))
}

impl OneApplication {
    async fn check(&self, caller: &Caller) -> Result<(), ApiError> {
        let row = caller.store.application(&self.id).await?;
        if confined(self.account.as_ref(), &row.account) {
            return Ok(());
        }
        Err(ApiError::not_found(format_args!(
            "application {} in this account",
            self.id
        )))
    }
}

impl OneWave {
    /// A wave of every account is one of each account, too.
    async fn check(&self, caller: &Caller) -> Result<(), ApiError> {
        let row = caller.store.wave(&self.id).await?;
        if row
            .account
            .is_none_or(|own| confined(self.account.as_ref(), &own))
        {
            return Ok(());
        }
        Err(ApiError::not_found(format_args!(
            "wave {} in this account",
            self.id
        )))
    }
}

macro_rules! orders {
    ($($name:ident($request:ty) => $give:expr, $answer:expr;)*) => {$(
        pub async fn $name(caller: Caller, State(hub): State<Arc<Hub>>, Ask(request): Ask<$request>) -> Answer {
            request.check(&caller).await?;
            let id = request.id.clone();
            $give(&hub, &caller, request).await?;
            $answer(&caller, &id).await
        }
    )*};
}

orders! {
    update_application(OneApplication) => async |hub: &Hub, caller: &Caller, request: OneApplication| {
        applications::update(hub, &caller.actor, &request.id, request.to.renaming()).await
    }, the_application;
    archive_application(OneApplication) => async |hub: &Hub, caller: &Caller, request: OneApplication| {
        applications::archive(hub, &caller.actor, &request.id, true).await
    }, the_application;
    unarchive_application(OneApplication) => async |hub: &Hub, caller: &Caller, request: OneApplication| {
        applications::archive(hub, &caller.actor, &request.id, false).await
    }, the_application;
    associate_source_servers(OneApplication) => async |hub: &Hub, caller: &Caller, request: OneApplication| {
        few("sourceServerIDs", &request.to.servers)?;
        applications::associate(hub, &caller.actor, &request.id, &request.to.servers).await.map_err(ApiError::from)
    }, nothing;
    disassociate_source_servers(OneApplication) => async |hub: &Hub, caller: &Caller, request: OneApplication| {
        few("sourceServerIDs", &request.to.servers)?;
        applications::disassociate(hub, &caller.actor, &request.id, &request.to.servers).await.map_err(ApiError::from)
    }, nothing;
    update_wave(OneWave) => async |hub: &Hub, caller: &Caller, request: OneWave| {
        waves::update(hub, &caller.actor, &request.id, request.to.renaming()).await
    }, the_wave;
    archive_wave(OneWave) => async |hub: &Hub, caller: &Caller, request: OneWave| {
        waves::archive(hub, &caller.actor, &request.id, true).await
    }, the_wave;
    unarchive_wave(OneWave) => async |hub: &Hub, caller: &Caller, request: OneWave| {
        waves::archive(hub, &caller.actor, &request.id, false).await
    }, the_wave;
    associate_applications(OneWave) => async |hub: &Hub, caller: &Caller, request: OneWave| {
        few("applicationIDs", &request.to.applications)?;
        waves::associate(hub, &caller.actor, &request.id, &request.to.applications).await.map_err(ApiError::from)
    }, nothing;
    disassociate_applications(OneWave) => async |hub: &Hub, caller: &Caller, request: OneWave| {
        few("applicationIDs", &request.to.applications)?;
        waves::disassociate(hub, &caller.actor, &request.id, &request.to.applications).await.map_err(ApiError::from)
    }, nothing;
}

pub async fn delete_application(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<OneApplication>,
) -> Result<StatusCode, ApiError> {
    request.check(&caller).await?;
    applications::delete(&hub, &caller.actor, &request.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn delete_wave(
    caller: Caller,
    State(hub): State<Arc<Hub>>,
    Ask(request): Ask<OneWave>,
) -> Result<StatusCode, ApiError> {
    request.check(&caller).await?;
    waves::delete(&hub, &caller.actor, &request.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn nothing<I>(_: &Caller, _: &I) -> Ready<Answer> {
    ready(Ok(Json(json!({}))))
}

async fn the_application(caller: &Caller, id: &ApplicationId) -> Answer {
    let row = caller.store.application(id).await?;
    Ok(Json(Shapes::of(caller).await?.application(&row)))
}

async fn the_wave(caller: &Caller, id: &WaveId) -> Answer {
    let row = caller.store.wave(id).await?;
    Ok(Json(Shapes::of(caller).await?.wave(&row)))
}

/// What MGN's structures say beside the row itself.
struct Shapes {
    standings: HashMap<ApplicationId, Standing>,
    /// What each wave has of applications that are not archived.
    waves: HashMap<WaveId, Vec<ApplicationId>>,
    regions: HashMap<AccountId, String>,
}

impl Shapes {
    async fn of(caller: &Caller) -> Result<Self, ApiError> {
        let active = ApplicationFilter {
            archived: Some(false),
            ..ApplicationFilter::default()
        };
        let mut waves: HashMap<WaveId, Vec<ApplicationId>> = HashMap::new();
        for row in caller.store.application_list(&active).await? {
            if let Some(wave) = row.wave {
                waves.entry(wave.0).or_default().push(row.id.0);
            }
        }
        let accounts = caller.store.account_list().await?;
        Ok(Self {
            standings: caller.store.standings(&ApplicationFilter::default()).await?,
            waves,
            regions: accounts.into_iter().map(|row| (row.id.0, row.region)).collect(),
        })
    }

    fn arn(&self, account: Option<&AccountId>, kind: &str, id: &str) -> String {
        let region = account.and_then(|account| self.regions.get(account));
        let (region, account) = (
            region.map_or("", String::as_str),
            account.map_or("", AccountId::as_str),
        );
        format!("arn:aws:mgn:{region}:{account}:{kind}/{id}")
    }

    fn application(&self, row: &application::Model) -> Value {
        let none = Standing::default();
        let standing = self.standings.get(&row.id.0).unwrap_or(&none);
        let mut shape = json!({
            "applicationID": row.id.0,
            "arn": self.arn(Some(&row.account), "application", row.id.as_str()),
            "name": row.name,
            "description": row.description,
            "isArchived": row.archived,
            "applicationAggregatedStatus": {
                "lastUpdateDateTime": date_time(now_ms()),
                "healthStatus": standing.health(),
                "progressStatus": standing.progress(),
                "totalSourceServers": standing.total(),
            },
            "creationDateTime": date_time(row.created_at),
            "lastModifiedDateTime": date_time(row.modified_at),
            "tags": row.tags.0,
        });
        if let Some(wave) = &row.wave {
            shape["waveID"] = json!(wave.0);
        }
        shape
    }

    fn wave(&self, row: &wave::Model) -> Value {
        let applications = self.waves.get(&row.id.0).map_or(&[][..], Vec::as_slice);
        let mut standing = Standing::default();
        for one in applications.iter().filter_map(|id| self.standings.get(id)) {
            standing.add(one);
        }
        let mut status = json!({
            "lastUpdateDateTime": date_time(now_ms()),
            "healthStatus": standing.health(),
            "progressStatus": standing.progress(),
            "totalApplications": applications.len(),
        });
        if let Some(at) = standing.first_byte_at {
            status["replicationStartedDateTime"] = json!(date_time(at));
        }
        json!({
            "waveID": row.id.0,
            "arn": self.arn(row.account.as_ref().map(|account| &account.0), "wave", row.id.as_str()),
            "name": row.name,
            "description": row.description,
            "isArchived": row.archived,
            "waveAggregatedStatus": status,
            "creationDateTime": date_time(row.created_at),
            "lastModifiedDateTime": date_time(row.modified_at),
            "tags": row.tags.0,
        })
    }
}
