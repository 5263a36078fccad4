//! What changes by an import: worked out against what is there, and then written, or only told.
//!
//! What is there already is found by its id, or by the name that people give it, and changed; what is not is made. A
//! server that has no agent yet waits for it in `PENDING_INSTALLATION`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::{
    ids::{AccountId, ApplicationId, SourceServerId, WaveId},
    launch::{BootMode, LaunchConfiguration, instance_type::Architecture},
    lifecycle::Lifecycle,
    replication::Replication,
    source_server::SourceProperties,
    wave::Plan as WavePlan,
};
use sea_orm::ActiveValue::Set;
use serde::{Deserialize, Serialize};

use super::{
    Fault,
    change::{change_groups, change_launch, change_tag},
    column::Column,
    plan::{ApplicationKey, Plan, Said, ServerKey, WaveKey},
    sheet::Cell,
};
use crate::{
    Hub,
    actions::{
        ActionError,
        naming::check_tags,
        waves::{role_for, run},
    },
    auth::Actor,
    clock::now_ms,
    entities::{Doc, Word, account, application, source_server, user::UserRole, wave},
    store::{
        StoreError, Write,
        servers::ServerFilter,
        templates::Templates,
        waves::{ApplicationFilter, WaveFilter},
    },
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    pub created_count: u64,
    pub modified_count: u64,
}

/// MGN's `ImportTaskSummary`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub waves: Count,
    pub applications: Count,
    pub servers: Count,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub summary: Summary,
    pub faults: Vec<Fault>,
    pub rows: usize,
    /// Rows of groups that have a fault: nothing of them is done.
    pub left_out: usize,
}

/// As many servers as MGN has in an application.
const SERVERS_MAX: usize = 200;

/// Does what the plan says, of every group without a fault; or only tells what it would do.
pub async fn apply(hub: &Hub, actor: &Actor, plan: Plan, dry_run: bool) -> Result<Outcome, ActionError> {
    let mut tx = hub.store.begin_as(actor).await?;
    let mut work = Work::prepare(hub, &tx, actor, plan).await?;
    work.regions();
    work.waves(&tx).await?;
    work.applications();
    work.servers();
    work.sizes();
    let outcome = work.outcome();
    if dry_run {
        return Ok(outcome);
    }
    Box::pin(work.write(&mut tx)).await?;
    let Summary {
        waves,
        applications,
        servers,
    } = outcome.summary;
    let detail = format!(
        "made {} waves, {} applications, {} servers; changed {}, {}, {}; {} of {} rows left out",
        waves.created_count,
        applications.created_count,
        servers.created_count,
        waves.modified_count,
        applications.modified_count,
        servers.modified_count,
        outcome.left_out,
        outcome.rows
    );
    tx.audit_done(actor, "import", "", &detail).await?;
    tx.commit().await?;
    Ok(outcome)
}

/// A row of the store as it will be.
struct Wanted<M> {
    /// The first row of the file that names it.
    row: usize,
    is_new: bool,
    before: M,
    after: M,
}

struct Work<'a> {
    hub: &'a Hub,
    actor: &'a Actor,
    plan: Plan,
    accounts: HashMap<AccountId, account::Model>,
    templates: Templates,
    known_waves: Vec<wave::Model>,
    known_applications: HashMap<ApplicationId, application::Model>,
    known_servers: HashMap<SourceServerId, source_server::Model>,
    /// What the file's names stand for.
    wave_ids: BTreeMap<WaveKey, WaveId>,
    application_ids: BTreeMap<ApplicationKey, ApplicationId>,
    waves: BTreeMap<WaveId, Wanted<wave::Model>>,
    applications: BTreeMap<ApplicationId, Wanted<application::Model>>,
    servers: BTreeMap<SourceServerId, Wanted<source_server::Model>>,
    faults: Vec<Fault>,
}

impl<'a> Work<'a> {
    async fn prepare(hub: &'a Hub, tx: &Write, actor: &'a Actor, mut plan: Plan) -> Result<Self, StoreError> {
        let accounts: HashMap<_, _> = tx
            .account_list()
            .await?
            .into_iter()
            .map(|account| (account.id.0.clone(), account))
            .collect();
        let of_plan: BTreeSet<_> = plan
            .applications
            .values()
            .filter_map(|said| said.account.clone())
            .chain(plan.servers.values().filter_map(|said| said.account.clone()))
            .filter(|account| accounts.contains_key(account))
            .collect();
        let known_servers = if of_plan.is_empty() {
            Vec::new()
        } else {
            let filter = ServerFilter {
                accounts: of_plan.into_iter().collect(),
                ..ServerFilter::default()
            };
            tx.server_list(&filter).await?
        };
        let known_applications = tx.application_list(&ApplicationFilter::default()).await?;
        Ok(Self {
            hub,
            actor,
            accounts,
            templates: tx.templates().await?,
            known_waves: tx.wave_list(&WaveFilter::default()).await?,
            known_applications: known_applications
                .into_iter()
                .map(|row| (row.id.0.clone(), row))
                .collect(),
            known_servers: known_servers
                .into_iter()
                .map(|row| (row.id.0.clone(), row))
                .collect(),
            wave_ids: BTreeMap::new(),
            application_ids: BTreeMap::new(),
            waves: BTreeMap::new(),
            applications: BTreeMap::new(),
            servers: BTreeMap::new(),
            faults: std::mem::take(&mut plan.faults),
            plan,
        })
    }

    fn fault(&mut self, row: usize, column: &Column, value: &str, message: impl Into<String>) {
        self.faults.push(Fault::of_cell(row, column, value, message));
    }

    /// Both rows are at fault, and so the groups of both.
    fn named_twice(&mut self, one: usize, other: usize, what: &str) {
        for (row, elsewhere) in [(one, other), (other, one)] {
            let why = format!(
                "{what} is named by its id in one row and by its name in another; see row {elsewhere}"
            );
            self.faults.push(Fault::of_row(row, why));
        }
    }

    /// The account of a row, if its people may change it.
    fn account(&mut self, row: usize, account: Option<&AccountId>) -> Option<account::Model> {
        let id = account?;
        let Some(account) = self.accounts.get(id).cloned() else {
            self.fault(
                row,
                &Column::Account,
                id.as_str(),
                format!("account {id} does not exist here"),
            );
            return None;
        };
        if self.actor.role_in(&account) < Some(UserRole::Operator) {
            let why = format!("{} is no operator in account {id}", self.actor.name);
            self.fault(row, &Column::Account, id.as_str(), why);
            return None;
        }
        Some(account)
    }

    fn regions(&mut self) {
        for (row, id, region) in std::mem::take(&mut self.plan.regions) {
            let own = self.accounts.get(&id).map(|account| account.region.clone());
            if let Some(own) = own.filter(|own| *own != region) {
                let why = format!("account {id} is worked in in {own}");
                self.fault(row, &Column::Region, &region, why);
            }
        }
    }

    async fn waves(&mut self, tx: &Write) -> Result<(), StoreError> {
        for (key, said) in std::mem::take(&mut self.plan.waves) {
            let accounts = self.plan.accounts_of_waves.remove(&key).unwrap_or_default();
            let Some((before, is_new)) = self.wave(tx, &key, said.row, &accounts).await? else {
                continue;
            };
            let mut after = before.clone();
            for (column, (row, cell)) in &said.fields {
                match (column, cell) {
                    (Column::WaveName, Cell::Set(name)) => after.name.clone_from(name),
                    (Column::WaveDescription, Cell::Set(text)) => after.description.clone_from(text),
                    (Column::WaveTag(tag), cell) => change_tag(&mut after.tags.0, tag, cell),
                    _ => {}
                }
                self.tags_of(*row, column, &after.tags);
            }
            let id = before.id.0.clone();
            self.wave_ids.insert(key, id.clone());
            let wanted = Wanted {
                row: said.row,
                is_new,
                before,
                after,
            };
            if let Some(other) = self.waves.insert(id, wanted) {
                self.named_twice(other.row, said.row, "the wave");
            }
        }
        Ok(())
    }

    async fn wave(
        &mut self,
        tx: &Write,
        key: &WaveKey,
        row: usize,
        accounts: &BTreeSet<AccountId>,
    ) -> Result<Option<(wave::Model, bool)>, StoreError> {
        let found: Vec<_> = match key {
            WaveKey::Id(id) => self.known_waves.iter().filter(|wave| wave.id.0 == *id).collect(),
            WaveKey::Name(name) => self
                .known_waves
                .iter()
                .filter(|wave| wave.name == *name)
                .filter(|wave| wave.account.as_ref().is_none_or(|own| accounts.contains(&own.0)))
                .collect(),
        };
        let known = match (&found[..], key) {
            ([one], _) => (*one).clone(),
            ([], WaveKey::Id(id)) => {
                self.fault(
                    row,
                    &Column::WaveId,
                    id.as_str(),
                    format!("wave {id} does not exist"),
                );
                return Ok(None);
            }
            ([], WaveKey::Name(name)) => return Ok(self.new_wave(row, name, accounts)),
            (_, _) => {
                let WaveKey::Name(name) = key else {
                    unreachable!("an id is of one wave");
                };
                let why = "several waves have this name; name the one that is meant by mgn:wave:id";
                self.fault(row, &Column::WaveName, name, why);
                return Ok(None);
            }
        };
        let held = match role_for(tx, self.actor, &known).await {
            Err(StoreError::NotFound { .. }) => None,
            held => held?,
        };
        if held < Some(UserRole::Operator) {
            let why = format!("{} may not change wave “{}”", self.actor.name, known.name);
            self.fault(row, &Column::WaveName, &known.name, why);
            return Ok(None);
        }
        if known.archived || run::is_under_way(&known) {
            let why = format!(
                "wave “{}” is archived, or its servers are being launched",
                known.name
            );
            self.fault(row, &Column::WaveName, &known.name, why);
            return Ok(None);
        }
        Ok(Some((known, false)))
    }

    /// Of all accounts if who imports may act everywhere, else of the only account that it is named in.
    fn new_wave(
        &mut self,
        row: usize,
        name: &str,
        accounts: &BTreeSet<AccountId>,
    ) -> Option<(wave::Model, bool)> {
        let account = if self.actor.role_everywhere() >= Some(UserRole::Operator) {
            None
        } else {
            let mut accounts = accounts.iter();
            let (Some(only), None) = (accounts.next(), accounts.next()) else {
                let why = format!("{} may not make a wave that spans accounts", self.actor.name);
                self.fault(row, &Column::WaveName, name, why);
                return None;
            };
            Some(self.account(row, Some(only))?.id)
        };
        let now = now_ms();
        let row = wave::Model {
            id: Word(WaveId::from_entropy(rand::random())),
            account,
            name: name.to_owned(),
            description: String::new(),
            tags: Doc::default(),
            archived: false,
            plan: Doc(WavePlan::default()),
            run: Doc(None),
            run_state: String::new(),
            created_by: self.actor.name.clone(),
            created_at: now,
            modified_at: now,
        };
        Some((row, true))
    }

    fn applications(&mut self) {
        let by_name: HashMap<_, _> = self
            .known_applications
            .values()
            .map(|row| ((row.account.0.clone(), row.name.clone()), row.id.0.clone()))
            .collect();
        for (key, said) in std::mem::take(&mut self.plan.applications) {
            let Some(account) = self.account(said.row, said.account.as_ref()) else {
                continue;
            };
            let known = match &key {
                ApplicationKey::Id(id) => self.known_applications.get(id).cloned(),
                ApplicationKey::Name(account, name) => by_name
                    .get(&(account.clone(), name.clone()))
                    .and_then(|id| self.known_applications.get(id).cloned()),
            };
            let (before, is_new) = match (known, &key) {
                (Some(known), _) if known.account == account.id => (known, false),
                (_, ApplicationKey::Id(id)) => {
                    let why = format!("application {id} does not exist in account {}", account.id);
                    self.fault(said.row, &Column::ApplicationId, id.as_str(), why);
                    continue;
                }
                (_, ApplicationKey::Name(_, name)) => (new_application(&account, name), true),
            };
            let mut after = before.clone();
            for (column, (row, cell)) in &said.fields {
                match (column, cell) {
                    (Column::ApplicationName, Cell::Set(name)) => after.name.clone_from(name),
                    (Column::ApplicationDescription, Cell::Set(text)) => after.description.clone_from(text),
                    (Column::ApplicationTag(tag), cell) => change_tag(&mut after.tags.0, tag, cell),
                    _ => {}
                }
                self.tags_of(*row, column, &after.tags);
            }
            let taken = by_name.get(&(account.id.0.clone(), after.name.clone()));
            if taken.is_some_and(|taken| *taken != before.id.0) {
                let why = "another application of the account has this name";
                self.fault(said.row, &Column::ApplicationName, &after.name.clone(), why);
            }
            if let Some((row, wave)) = &said.within {
                // A wave that could not be made sense of has its own fault, and takes this group with it.
                match self.wave_ids.get(wave).cloned() {
                    Some(wave) => self.put_into(*row, &mut after, wave),
                    None => self
                        .faults
                        .push(Fault::of_row(*row, "its wave cannot be used; see there")),
                }
            }
            let id = before.id.0.clone();
            self.application_ids.insert(key, id.clone());
            let wanted = Wanted {
                row: said.row,
                is_new,
                before,
                after,
            };
            if let Some(other) = self.applications.insert(id, wanted) {
                self.named_twice(other.row, said.row, "the application");
            }
        }
    }

    fn put_into(&mut self, row: usize, application: &mut application::Model, id: WaveId) {
        let Some(wave) = self.waves.get(&id) else {
            return;
        };
        if let Some(own) = wave
            .after
            .account
            .clone()
            .filter(|own| *own != application.account)
        {
            let (name, value) = (wave.after.name.clone(), application.account.to_string());
            let why = format!("wave “{name}” is of account {own} alone");
            self.fault(row, &Column::WaveName, &value, why);
            return;
        }
        let leaves = application.wave.as_ref().filter(|now| now.0 != id);
        let leaves = leaves.and_then(|now| self.known_waves.iter().find(|wave| wave.id == *now));
        if leaves.is_some_and(run::is_under_way) {
            let why = "the servers of the wave that it is in are being launched";
            self.fault(row, &Column::WaveName, id.as_str(), why);
            return;
        }
        application.wave = Some(Word(id));
    }

    fn servers(&mut self) {
        let by_own_id: HashMap<_, _> = self
            .known_servers
            .values()
            .filter(|server| !server.is_archived())
            .filter_map(|server| {
                Some((
                    (server.account.0.clone(), server.user_provided_id.clone()?),
                    server.id.0.clone(),
                ))
            })
            .collect();
        for (key, said) in std::mem::take(&mut self.plan.servers) {
            let Some(account) = self.account(said.row, said.account.as_ref()) else {
                continue;
            };
            let known = match &key {
                ServerKey::Id(id) => self.known_servers.get(id).cloned(),
                ServerKey::UserProvidedId(account, own) => by_own_id
                    .get(&(account.clone(), own.clone()))
                    .and_then(|id| self.known_servers.get(id).cloned()),
            };
            let (before, is_new) = match (known, &key) {
                (Some(known), _) if known.account == account.id => (known, false),
                (_, ServerKey::Id(id)) => {
                    let why = format!("source server {id} does not exist in account {}", account.id);
                    self.fault(said.row, &Column::ServerId, id.as_str(), why);
                    continue;
                }
                (_, ServerKey::UserProvidedId(_, own)) => {
                    let server = pending_server(self.hub, &account, own);
                    (self.templates.of(&account).configure(server), true)
                }
            };
            let mut after = before.clone();
            self.change_server(&mut after, &said);
            if let Some((row, application)) = &said.within {
                match self.application_ids.get(application) {
                    Some(id) => after.application = Some(Word(id.clone())),
                    None => self
                        .faults
                        .push(Fault::of_row(*row, "its application cannot be used; see there")),
                }
            }
            let own = after.user_provided_id.clone().unwrap_or_default();
            let taken = by_own_id.get(&(account.id.0.clone(), own.clone()));
            if taken.is_some_and(|taken| *taken != before.id.0) {
                let why = "another server of the account has this ID";
                self.fault(said.row, &Column::UserProvidedId, &own, why);
            }
            let wanted = Wanted {
                row: said.row,
                is_new,
                before,
                after,
            };
            if let Some(other) = self.servers.insert(wanted.after.id.0.clone(), wanted) {
                self.named_twice(other.row, said.row, "the server");
            }
        }
    }

    /// What `[RESET_VALUE]` stands for.
    fn usual_launch(&self, account: &AccountId) -> LaunchConfiguration {
        let account = self.accounts.get(account);
        let template = account.and_then(|account| self.templates.of(account).launch);
        template.map(|(_, launch)| launch).unwrap_or_default()
    }

    fn change_server(&mut self, server: &mut source_server::Model, said: &Said<ApplicationKey>) {
        let usual = self.usual_launch(&server.account);
        let mut groups: BTreeMap<u8, &Cell> = BTreeMap::new();
        for (column, (row, cell)) in &said.fields {
            match (column, cell) {
                (Column::UserProvidedId, Cell::Set(own)) => server.user_provided_id = Some(own.clone()),
                (Column::Fqdn, Cell::Set(name)) => {
                    // An agent knows better, once there is one.
                    if server.runner.is_none() {
                        name.split('.')
                            .next()
                            .unwrap_or_default()
                            .clone_into(&mut server.hostname);
                        server.properties.0.hostname.clone_from(&server.hostname);
                        server.properties.0.fqdn.clone_from(name);
                    }
                }
                (Column::ServerTag(tag), cell) => {
                    change_tag(&mut server.tags.0, tag, cell);
                    self.tags_of(*row, column, &server.tags);
                }
                (Column::InstanceTag(tag), cell) => {
                    change_tag(&mut server.launch_configuration.0.tags, tag, cell);
                }
                (Column::SecurityGroup(_, at), cell) => {
                    groups.insert(*at, cell);
                }
                (column, cell) => change_launch(&mut server.launch_configuration.0, &usual, column, cell),
            }
        }
        if !groups.is_empty() {
            change_groups(&mut server.launch_configuration.0.security_groups, &groups);
        }
        if let Err(why) = server.launch_configuration.check() {
            self.faults.push(Fault::of_row(said.row, why));
        }
    }

    fn tags_of(&mut self, row: usize, column: &Column, tags: &BTreeMap<String, String>) {
        if !column.is_tag() {
            return;
        }
        if let Err(why) = check_tags(tags) {
            self.faults.push(Fault::of_cell(row, column, "", why.to_string()));
        }
    }

    /// No application has too many servers afterwards.
    fn sizes(&mut self) {
        let mut sizes: HashMap<ApplicationId, usize> = HashMap::new();
        let mut count = |server: &source_server::Model| {
            if let Some(application) = &server.application {
                *sizes.entry(application.0.clone()).or_default() += 1;
            }
        };
        let untouched = self
            .known_servers
            .iter()
            .filter(|(id, _)| !self.servers.contains_key(*id));
        untouched.for_each(|(_, server)| count(server));
        self.servers.values().for_each(|wanted| count(&wanted.after));
        for (id, wanted) in &self.applications {
            if sizes.get(id).copied().unwrap_or(0) > SERVERS_MAX {
                let why = format!(
                    "application “{}” would have more than {SERVERS_MAX} servers",
                    wanted.after.name
                );
                self.faults.push(Fault::of_row(wanted.row, why));
            }
        }
    }

    /// Groups in which something is wrong.
    fn bad_groups(&self) -> BTreeSet<usize> {
        if self.plan.is_broken {
            return self.plan.groups.values().copied().collect();
        }
        let rows = self
            .faults
            .iter()
            .filter_map(|fault| self.plan.groups.get(&fault.row));
        rows.copied().collect()
    }

    /// Keeps of what is wanted only what changes something, of groups without a fault.
    fn outcome(&mut self) -> Outcome {
        let bad = self.bad_groups();
        let groups = &self.plan.groups;
        let is_good = |row: usize| groups.get(&row).is_none_or(|group| !bad.contains(group));
        self.applications
            .retain(|_, wanted| is_good(wanted.row) && (wanted.is_new || wanted.before != wanted.after));
        self.servers
            .retain(|_, wanted| is_good(wanted.row) && (wanted.is_new || wanted.before != wanted.after));
        let used: BTreeSet<_> = self
            .applications
            .values()
            .filter_map(|wanted| wanted.after.wave.as_ref().map(|wave| wave.0.clone()))
            .collect();
        // A wave is wanted by whatever group is good that names it.
        self.waves.retain(|id, wanted| {
            (is_good(wanted.row) || used.contains(id)) && (wanted.is_new || wanted.before != wanted.after)
        });
        let left_out = groups.values().filter(|group| bad.contains(group)).count();
        self.faults.sort_by_key(|fault| fault.row);
        Outcome {
            summary: Summary {
                waves: counted(&self.waves),
                applications: counted(&self.applications),
                servers: counted(&self.servers),
            },
            faults: self.faults.clone(),
            rows: groups.len(),
            left_out,
        }
    }

    async fn write(self, tx: &mut Write) -> Result<(), StoreError> {
        for (id, wanted) in self.waves {
            if wanted.is_new {
                tx.wave_insert(wanted.after).await?;
                continue;
            }
            let wave::Model {
                name,
                description,
                tags,
                ..
            } = wanted.after;
            tx.wave_update(&id, |row| {
                row.name = Set(name);
                row.description = Set(description);
                row.tags = Set(tags);
            })
            .await?;
        }
        for (id, wanted) in self.applications {
            if wanted.is_new {
                tx.application_insert(wanted.after).await?;
                continue;
            }
            let application::Model {
                name,
                description,
                tags,
                wave,
                ..
            } = wanted.after;
            tx.application_update(&id, |row| {
                row.name = Set(name);
                row.description = Set(description);
                row.tags = Set(tags);
                row.wave = Set(wave);
            })
            .await?;
        }
        for wanted in self.servers.into_values() {
            if wanted.is_new {
                tx.server_insert(wanted.after).await?;
                continue;
            }
            let after = wanted.after;
            tx.server_update(&wanted.before, |row| {
                row.application = Set(after.application);
                row.user_provided_id = Set(after.user_provided_id);
                row.hostname = Set(after.hostname);
                row.properties = Set(after.properties);
                row.tags = Set(after.tags);
                row.launch_configuration = Set(after.launch_configuration);
            })
            .await?;
        }
        Ok(())
    }
}

fn counted<K, M>(wanted: &BTreeMap<K, Wanted<M>>) -> Count {
    let created = wanted.values().filter(|one| one.is_new).count();
    Count {
        created_count: created as u64,
        modified_count: (wanted.len() - created) as u64,
    }
}

fn new_application(account: &account::Model, name: &str) -> application::Model {
    let now = now_ms();
    application::Model {
        id: Word(ApplicationId::from_entropy(rand::random())),
        account: account.id.clone(),
        name: name.to_owned(),
        description: String::new(),
        tags: Doc::default(),
        archived: false,
        wave: None,
        created_at: now,
        modified_at: now,
    }
}

/// A server that is known before its agent is.
fn pending_server(hub: &Hub, account: &account::Model, own_id: &str) -> source_server::Model {
    let properties = SourceProperties {
        hostname: own_id.to_owned(),
        fqdn: String::new(),
        os: String::new(),
        kernel: String::new(),
        architecture: Architecture::default(),
        boot_mode: BootMode::UseSource,
        cpus: 0,
        ram_bytes: 0,
        network_interfaces: Vec::new(),
        disks: Vec::new(),
    };
    source_server::Model {
        user_provided_id: Some(own_id.to_owned()),
        // No runner holds anything of it.
        forgotten: true,
        ..source_server::Model::new(
            SourceServerId::from_entropy(rand::random()),
            account.id.0.clone(),
            Lifecycle::PendingInstallation,
            Replication::Stopped,
            properties,
            &hub.usual_replication(),
        )
    }
}
