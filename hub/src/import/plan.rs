//! What a file says of each wave, application and server, put together from all rows that name it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::ids::{AccountId, ApplicationId, SourceServerId, WaveId};

use super::{
    Fault,
    column::{Column, Of},
    sheet::{Cell, Row, Sheet},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WaveKey {
    Id(WaveId),
    /// It may have applications of several accounts.
    Name(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ApplicationKey {
    Id(ApplicationId),
    Name(AccountId, String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerKey {
    Id(SourceServerId),
    UserProvidedId(AccountId, String),
}

/// What is said of one resource; `P` is the key of what it belongs to.
#[derive(Debug)]
pub struct Said<P> {
    /// The first row that names it.
    pub row: usize,
    pub account: Option<AccountId>,
    pub within: Option<(usize, P)>,
    /// Each with the row that says it first.
    pub fields: BTreeMap<Column, (usize, Cell)>,
}

/// What a wave belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nothing {}

#[derive(Debug, Default)]
pub struct Plan {
    pub waves: BTreeMap<WaveKey, Said<Nothing>>,
    pub applications: BTreeMap<ApplicationKey, Said<WaveKey>>,
    pub servers: BTreeMap<ServerKey, Said<ApplicationKey>>,
    /// The accounts of the rows that name a wave.
    pub accounts_of_waves: BTreeMap<WaveKey, BTreeSet<AccountId>>,
    /// What rows say of where their accounts are worked in.
    pub regions: Vec<(usize, AccountId, String)>,
    /// The group of each row: rows that share an application or a server have the same.
    pub groups: BTreeMap<usize, usize>,
    pub faults: Vec<Fault>,
    /// Nothing of the file may be carried out.
    pub is_broken: bool,
}

struct Keys {
    account: AccountId,
    wave: Option<WaveKey>,
    application: Option<ApplicationKey>,
    server: Option<ServerKey>,
}

/// `usual`: the account of rows that name none.
pub fn plan(sheet: Sheet, usual: Option<&AccountId>) -> Plan {
    let mut plan = Plan {
        faults: sheet.faults,
        is_broken: sheet.is_broken,
        ..Plan::default()
    };
    let mut union = Union::default();
    for row in &sheet.rows {
        union.add(row.number);
        match keys_of(row, usual) {
            Ok(keys) => plan.take(row, keys, &mut union),
            Err(fault) => plan.faults.push(fault),
        }
    }
    plan.groups = sheet
        .rows
        .iter()
        .map(|row| (row.number, union.root(row.number)))
        .collect();
    plan
}

fn text<'a>(row: &'a Row, column: &Column) -> Option<&'a str> {
    match row.cells.get(column)? {
        Cell::Set(text) => Some(text),
        Cell::Reset | Cell::DeleteTag => None,
    }
}

/// Of cells that their columns have checked.
fn id<T: std::str::FromStr>(row: &Row, column: &Column) -> Option<T> {
    text(row, column)?.parse().ok()
}

fn keys_of(row: &Row, usual: Option<&AccountId>) -> Result<Keys, Fault> {
    let account: AccountId = id(row, &Column::Account)
        .or_else(|| usual.cloned())
        .ok_or_else(|| {
            Fault::of_row(
                row.number,
                format!("{} is empty; name the account", Column::Account),
            )
        })?;
    let name = |column| text(row, column).map(str::to_owned);
    let keys = Keys {
        wave: id(row, &Column::WaveId)
            .map(WaveKey::Id)
            .or_else(|| name(&Column::WaveName).map(WaveKey::Name)),
        application: id(row, &Column::ApplicationId)
            .map(ApplicationKey::Id)
            .or_else(|| {
                name(&Column::ApplicationName).map(|name| ApplicationKey::Name(account.clone(), name))
            }),
        server: id(row, &Column::ServerId).map(ServerKey::Id).or_else(|| {
            name(&Column::UserProvidedId).map(|own| ServerKey::UserProvidedId(account.clone(), own))
        }),
        account,
    };
    let says = |of: Of| row.cells.keys().any(|column| column.of() == of);
    let missing = |is_there: bool, of: Of, by: &str| {
        if is_there || !says(of) {
            return Ok(());
        }
        Err(Fault::of_row(row.number, format!("it says something of {by}")))
    };
    missing(
        keys.wave.is_some(),
        Of::Wave,
        "a wave without its mgn:wave:name or mgn:wave:id",
    )?;
    missing(
        keys.application.is_some(),
        Of::Application,
        "an application without its mgn:app:name or mgn:app:id",
    )?;
    missing(
        keys.server.is_some(),
        Of::Server,
        "a server without its mgn:server:user-provided-id or mgn:server:id",
    )?;
    if keys.wave.is_some() && keys.server.is_some() && keys.application.is_none() {
        let why = "a server is in a wave by its application; name one by mgn:app:name";
        return Err(Fault::of_row(row.number, why));
    }
    if keys.wave.is_none() && keys.application.is_none() && keys.server.is_none() {
        return Err(Fault::of_row(
            row.number,
            "it names no wave, application or server",
        ));
    }
    Ok(keys)
}

impl Plan {
    fn take(&mut self, row: &Row, keys: Keys, union: &mut Union) {
        let faults = &mut self.faults;
        let account = Some(&keys.account);
        if let Some(wave) = &keys.wave {
            let said = said(&mut self.waves, wave, row, None);
            said.say(row, Of::Wave, faults);
            self.accounts_of_waves
                .entry(wave.clone())
                .or_default()
                .insert(keys.account.clone());
        }
        if let Some(application) = &keys.application {
            let said = said(&mut self.applications, application, row, account);
            union.join(row.number, said.row);
            said.say(row, Of::Application, faults);
            said.belong(row, keys.wave, &Column::WaveName, "the application", faults);
        }
        if let Some(server) = &keys.server {
            let said = said(&mut self.servers, server, row, account);
            union.join(row.number, said.row);
            said.say(row, Of::Server, faults);
            said.belong(
                row,
                keys.application,
                &Column::ApplicationName,
                "the server",
                faults,
            );
        }
        if let Some(region) = text(row, &Column::Region) {
            self.regions
                .push((row.number, keys.account.clone(), region.to_owned()));
        }
        self.place(row, &keys.account);
    }

    /// What is known by its id may be said to be of one account only.
    fn place(&mut self, row: &Row, account: &AccountId) {
        let application = id(row, &Column::ApplicationId).map(ApplicationKey::Id);
        let server = id(row, &Column::ServerId).map(ServerKey::Id);
        let application = application.and_then(|key| self.applications.get(&key)?.account.clone());
        let server = server.and_then(|key| self.servers.get(&key)?.account.clone());
        for known in [application, server].into_iter().flatten() {
            if known != *account {
                let why = format!("another row says that it is of account {known}");
                self.faults.push(Fault::of_cell(
                    row.number,
                    &Column::Account,
                    account.as_str(),
                    why,
                ));
            }
        }
    }
}

fn said<'a, K: Ord + Clone, P>(
    all: &'a mut BTreeMap<K, Said<P>>,
    key: &K,
    row: &Row,
    account: Option<&AccountId>,
) -> &'a mut Said<P> {
    all.entry(key.clone()).or_insert_with(|| Said {
        row: row.number,
        account: account.cloned(),
        within: None,
        fields: BTreeMap::new(),
    })
}

impl<P: PartialEq> Said<P> {
    fn say(&mut self, row: &Row, of: Of, faults: &mut Vec<Fault>) {
        for (column, cell) in row.cells.iter().filter(|(column, _)| column.of() == of) {
            match self.fields.get(column) {
                None => {
                    self.fields.insert(column.clone(), (row.number, cell.clone()));
                }
                Some((_, known)) if known == cell => {}
                Some((earlier, known)) => {
                    let why = format!("row {earlier} says “{}” of the same", shown(known));
                    faults.push(Fault::of_cell(row.number, column, shown(cell), why));
                }
            }
        }
    }

    fn belong(&mut self, row: &Row, to: Option<P>, column: &Column, what: &str, faults: &mut Vec<Fault>) {
        match (&self.within, to) {
            (_, None) => {}
            (None, Some(to)) => self.within = Some((row.number, to)),
            (Some((earlier, known)), Some(to)) => {
                if *known != to {
                    let why = format!("row {earlier} puts {what} somewhere else");
                    let value = text(row, column).unwrap_or_default();
                    faults.push(Fault::of_cell(row.number, column, value, why));
                }
            }
        }
    }
}

fn shown(cell: &Cell) -> &str {
    match cell {
        Cell::Set(text) => text,
        Cell::Reset => super::sheet::RESET,
        Cell::DeleteTag => super::sheet::DELETE_TAG,
    }
}

/// Rows that belong together; each set is known by one of them.
#[derive(Default)]
struct Union(HashMap<usize, usize>);

impl Union {
    fn add(&mut self, row: usize) {
        self.0.insert(row, row);
    }

    fn root(&mut self, row: usize) -> usize {
        let mut root = row;
        while let Some(&next) = self.0.get(&root).filter(|next| **next != root) {
            root = next;
        }
        // Each row on the way is closer to it from now on.
        let mut at = row;
        while at != root {
            at = self.0.insert(at, root).unwrap_or(root);
        }
        root
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.0.insert(a.max(b), a.min(b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::sheet;

    fn planned(text: &str) -> Plan {
        plan(sheet::read(text), None)
    }

    const A: &str = "111122223333";

    #[test]
    fn rows_that_share_something_are_one_group() {
        let text = format!(
            "mgn:account-id,mgn:wave:name,mgn:app:name,mgn:server:user-provided-id\n\
             {A},first,shop,web\n{A},first,shop,db\n{A},first,mail,mx\n{A},,,db\n"
        );
        let plan = planned(&text);
        assert_eq!(plan.faults, []);
        let groups: Vec<_> = plan.groups.values().copied().collect();
        assert_eq!(groups, [2, 2, 4, 2], "a wave does not join what is in it");
        assert_eq!(
            (plan.waves.len(), plan.applications.len(), plan.servers.len()),
            (1, 2, 3)
        );
    }

    #[test]
    fn rows_may_not_contradict_each_other() {
        let text = format!(
            "mgn:account-id,mgn:wave:name,mgn:wave:description,mgn:app:name,mgn:server:user-provided-id,mgn:launch:instance-type\n\
             {A},first,one,shop,web,m5.large\n\
             {A},first,two,shop,web,m5.xlarge\n\
             {A},second,,shop,,\n\
             {A},,,mail,web,\n"
        );
        let said: Vec<_> = planned(&text)
            .faults
            .into_iter()
            .map(|fault| format!("{} {}: {}", fault.row, fault.column, fault.message))
            .collect();
        assert_eq!(
            said,
            [
                "3 mgn:wave:description: row 2 says “one” of the same",
                "3 mgn:launch:instance-type: row 2 says “m5.large” of the same",
                "4 mgn:wave:name: row 2 puts the application somewhere else",
                "5 mgn:app:name: row 2 puts the server somewhere else",
            ]
        );
    }

    #[test]
    fn a_row_says_of_what_it_speaks() {
        for (text, says) in [
            ("mgn:app:name\nshop\n", "name the account"),
            (
                "mgn:account-id,mgn:wave:description\n111122223333,x\n",
                "a wave without its",
            ),
            (
                "mgn:account-id,mgn:app:tag:a\n111122223333,x\n",
                "an application without its",
            ),
            (
                "mgn:account-id,mgn:launch:instance-type\n111122223333,m5.large\n",
                "a server without its",
            ),
            (
                "mgn:account-id,mgn:wave:name,mgn:server:user-provided-id\n111122223333,a,b\n",
                "by its application",
            ),
            ("mgn:account-id\n111122223333\n", "names no wave"),
        ] {
            let faults = planned(text).faults;
            assert!(
                faults.len() == 1 && faults[0].message.contains(says),
                "{text}: {faults:?}"
            );
        }
    }
}
