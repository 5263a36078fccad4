//! What an endpoint's policy says of a request, by the rules of IAM: nothing passes that no statement allows, and a
//! statement that denies has the last word.
//!
//! A policy may ask for what nobody here knows, such as a tag or the organization's id. That is neither allowed nor
//! refused: the answer names the statement and what of it cannot be judged.

/// In the order in which they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(pub Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub effect: Effect,
    /// Its own name, or none.
    pub sid: Option<String>,
    pub principal: Element,
    pub action: Element,
    pub resource: Element,
    /// All must hold.
    pub conditions: Vec<Condition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Allow,
    Deny,
}

/// `Action` or `NotAction`, and so on: `*` stands for any text, `?` for a character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    OneOf(Vec<String>),
    NoneOf(Vec<String>),
    Unreadable,
}

/// One key below one operator; none of the values, if they could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub operator: String,
    pub key: String,
    pub values: Vec<String>,
}

/// What a policy is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub action: &'a str,
    /// An ARN, in which `*` stands for all names that there may be, or `*` where the action has no resource.
    pub resource: &'a str,
    pub caller: &'a Caller<'a>,
}

/// Who asks, and on which way.
#[derive(Debug, Clone)]
pub struct Caller<'a> {
    pub account: &'a str,
    /// The ARN of the role.
    pub role: &'a str,
    pub region: &'a str,
    pub vpc: &'a str,
    pub endpoint: &'a str,
    /// Policies of gateway endpoints know no principal but `*`.
    pub by_gateway: bool,
    /// Whose the resource is, where the service says it to policies.
    pub resource_account: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// No statement allows it.
    NotAllowed,
    /// By the statement of this index.
    Denied(usize),
    /// The statement of this index, which allows or denies it, cannot be judged.
    Undecided {
        statement: usize,
        why: String,
    },
}

/// Whether something holds, or why that cannot be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    Unknown(String),
}

impl Policy {
    /// The one that endpoints have where nobody wrote another.
    pub fn everything() -> Self {
        Self(vec![Statement::of(Element::OneOf(vec!["*".into()]))])
    }

    pub fn unreadable() -> Self {
        Self(vec![Statement::of(Element::Unreadable)])
    }

    pub fn judge(&self, request: Request<'_>) -> Verdict {
        let of = |effect| {
            let all = self.0.iter().enumerate();
            all.filter(move |(_, statement)| statement.effect == effect)
                .map(|(index, statement)| (index, statement.applies(request)))
        };
        let allowed = first(of(Effect::Allow));
        match (first(of(Effect::Deny)), allowed) {
            (Some((index, Holds::Yes)), _) => Verdict::Denied(index),
            (_, None) => Verdict::NotAllowed,
            (_, Some((statement, Holds::Unknown(why))))
            | (Some((statement, Holds::Unknown(why))), Some(_)) => Verdict::Undecided { statement, why },
            _ => Verdict::Allowed,
        }
    }
}

/// One that applies, or else one of which nobody knows.
fn first(statements: impl Iterator<Item = (usize, Holds)>) -> Option<(usize, Holds)> {
    let mut unknown = None;
    for (index, holds) in statements {
        match holds {
            Holds::Yes => return Some((index, holds)),
            Holds::Unknown(_) => unknown = unknown.or(Some((index, holds))),
            Holds::No => {}
        }
    }
    unknown
}

impl Statement {
    /// One that allows, all of whose elements are this one.
    fn of(element: Element) -> Self {
        Self {
            effect: Effect::Allow,
            sid: None,
            principal: element.clone(),
            action: element.clone(),
            resource: element,
            conditions: Vec::new(),
        }
    }

    fn applies(&self, request: Request<'_>) -> Holds {
        let action = |pattern: &str| yes_if(is_like(&lower(request.action), &lower(pattern)));
        let elements = [
            self.names_caller(request.caller),
            self.action.holds("Action", action),
            self.resource
                .holds("Resource", |pattern| names(pattern, request.resource)),
        ];
        let conditions = self.conditions.iter().map(|one| one.holds(request.caller));
        all_of(elements.into_iter().chain(conditions))
    }

    fn names_caller(&self, caller: &Caller<'_>) -> Holds {
        let holds = self.principal.holds("Principal", |name| caller.is_named(name));
        match (&self.principal, holds) {
            // That leaves out the role, and not each of its sessions.
            (Element::NoneOf(names), Holds::No) if !names.iter().any(|name| name == "*") => {
                Holds::Unknown("its NotPrincipal names the runner's account or role".into())
            }
            (_, holds) => holds,
        }
    }
}

impl Element {
    fn holds(&self, name: &str, is_meant: impl Fn(&str) -> Holds) -> Holds {
        match self {
            Self::OneOf(values) => one_of(values.iter().map(|value| is_meant(value))),
            Self::NoneOf(values) => !one_of(values.iter().map(|value| is_meant(value))),
            Self::Unreadable => Holds::Unknown(format!("its {name} is not one that Orglift can read")),
        }
    }
}

impl Caller<'_> {
    fn is_named(&self, principal: &str) -> Holds {
        let of_account = |arn: &str| {
            let parts: Vec<_> = arn.splitn(6, ':').collect();
            matches!(parts[..], ["arn", _, "iam", "", account, "root"] if account == self.account)
        };
        let role = self.role.rsplit('/').next().unwrap_or_default();
        let is_session = principal.contains(&format!("::{}:assumed-role/{role}/", self.account));
        match principal {
            "*" => Holds::Yes,
            _ if is_session => Holds::Unknown("its Principal is one session of the runner's role".into()),
            _ if principal != self.account && principal != self.role && !of_account(principal) => Holds::No,
            _ if self.by_gateway => Holds::Unknown(
                "its Principal is not *, which policies of gateway endpoints must have: they name roles and accounts \
                 in conditions on aws:PrincipalArn and aws:PrincipalAccount"
                    .into(),
            ),
            _ => Holds::Yes,
        }
    }

    fn value(&self, key: &str) -> Option<&str> {
        Some(match lower(key).as_str() {
            "aws:principalaccount" => self.account,
            "aws:principalarn" => self.role,
            "aws:requestedregion" => self.region,
            "aws:sourcevpc" => self.vpc,
            "aws:sourcevpce" => self.endpoint,
            "aws:resourceaccount" | "s3:resourceaccount" => self.resource_account?,
            "aws:securetransport" => "true",
            "aws:principalisawsservice" | "aws:viaawsservice" => "false",
            _ => return None,
        })
    }
}

impl Condition {
    fn holds(&self, caller: &Caller<'_>) -> Holds {
        let holds = caller.value(&self.key).and_then(|value| self.of_value(value));
        holds.map_or_else(
            || {
                Holds::Unknown(format!(
                    "Orglift cannot judge its condition {} on {}",
                    self.operator, self.key
                ))
            },
            yes_if,
        )
    }

    /// Nothing, where this is a condition of another kind.
    fn of_value(&self, value: &str) -> Option<bool> {
        let operator = self.operator.strip_suffix("IfExists").unwrap_or(&self.operator);
        let is_any = |test: fn(&str, &str) -> bool| self.values.iter().any(|wanted| test(value, wanted));
        let is_any_arn = || {
            let tests = self.values.iter().map(|pattern| is_like_arn(value, pattern));
            tests.collect::<Option<Vec<_>>>().map(|all| all.contains(&true))
        };
        if self.values.is_empty() || self.values.iter().any(|value| is_template(value)) {
            return None;
        }
        match operator {
            "StringEquals" => Some(is_any(|value, wanted| value == wanted)),
            "StringNotEquals" => Some(!is_any(|value, wanted| value == wanted)),
            "StringLike" => Some(is_any(is_like)),
            "StringNotLike" => Some(!is_any(is_like)),
            "ArnEquals" | "ArnLike" => is_any_arn(),
            "ArnNotEquals" | "ArnNotLike" => is_any_arn().map(|is| !is),
            "Bool" => Some(is_any(str::eq_ignore_ascii_case)),
            _ => None,
        }
    }
}

/// Nothing, if the pattern is none of an ARN. Part by part: a star does not go over a colon, but for those of the last part.
fn is_like_arn(arn: &str, pattern: &str) -> Option<bool> {
    let parts = |text: &str| text.splitn(6, ':').map(str::to_owned).collect::<Vec<_>>();
    let (arn, pattern) = (parts(arn), parts(pattern));
    let mut pairs = arn.iter().zip(&pattern);
    (pattern.len() == arn.len()).then(|| pairs.all(|(part, pattern)| is_like(part, pattern)))
}

/// A variable, whose value would have to be put in.
fn is_template(pattern: &str) -> bool {
    pattern.contains("${")
}

/// Whether a pattern means all of a resource, none of it, or some.
fn names(pattern: &str, resource: &str) -> Holds {
    if is_template(pattern) {
        Holds::Unknown("its Resource has a variable".into())
    } else if is_like(resource, pattern) {
        Holds::Yes
    } else if overlap(resource, pattern) {
        Holds::Unknown("its Resource is a part of that".into())
    } else {
        Holds::No
    }
}

/// Whether a pattern means a text; a star in the text, which stands for any, is meant by stars alone.
fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut at, mut next) = (0, 0);
    // What follows the last star, and where that star ends so far: going back to it alone keeps a hostile pattern cheap.
    let mut star = None;
    while let Some(given) = text.get(at) {
        match pattern.get(next) {
            Some(b'*') => {
                next += 1;
                star = Some((next, at));
            }
            Some(wanted) if wanted == given || (*wanted == b'?' && *given != b'*') => {
                (at, next) = (at + 1, next + 1);
            }
            _ => {
                let Some((after, end)) = star else { return false };
                (at, next) = (end + 1, after);
                star = Some((after, end + 1));
            }
        }
    }
    pattern[next..].iter().all(|left| *left == b'*')
}

/// Whether there is a text that both patterns mean.
fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // Of the rest of `one` that begins here: whether it overlaps each rest of `other`.
    let mut below = vec![false; other.len() + 1];
    for at in (0..=one.len()).rev() {
        let mut row = vec![false; other.len() + 1];
        for next in (0..=other.len()).rev() {
            row[next] = match (one.get(at), other.get(next)) {
                (None, None) => true,
                (Some(b'*'), _) => below[next] || (next < other.len() && row[next + 1]),
                (_, Some(b'*')) => row[next + 1] || (at < one.len() && below[next]),
                (Some(a), Some(b)) => (a == b || *a == b'?' || *b == b'?') && below[next + 1],
                _ => false,
            };
        }
        below = row;
    }
    below[0]
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn yes_if(is: bool) -> Holds {
    if is { Holds::Yes } else { Holds::No }
}

fn all_of(each: impl Iterator<Item = Holds>) -> Holds {
    !one_of(each.map(|holds| !holds))
}

/// One that holds is enough; one that nobody knows of might be it.
fn one_of(each: impl Iterator<Item = Holds>) -> Holds {
    let mut told = Holds::No;
    for holds in each {
        match (&told, holds) {
            (_, Holds::Yes) => return Holds::Yes,
            (Holds::No, unknown @ Holds::Unknown(_)) => told = unknown,
            _ => {}
        }
    }
    told
}

impl std::ops::Not for Holds {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::Yes => Self::No,
            Self::No => Self::Yes,
            unknown @ Self::Unknown(_) => unknown,
        }
    }
}

#[cfg(test)]
mod tests;
