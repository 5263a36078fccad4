//! Whether a launch would go well, asked without launching anything.

use cloud::route::Errand;
use domain::launch::Purpose;

use super::ActionError;
use crate::{
    Hub,
    auth::Actor,
    entities::source_server,
    sagas::{StepError, launch::plan},
};

/// What would be launched now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    Possible {
        instance_type: String,
        /// What the account does not let us look at.
        not_checked: Vec<String>,
    },
    /// With everything that is in the way.
    Impossible(Vec<String>),
    /// The account could not be asked.
    Unknown(String),
}

pub async fn launch_check(
    hub: &Hub,
    actor: &Actor,
    server: &source_server::Model,
    purpose: Purpose,
) -> Result<Foreseen, ActionError> {
    let errand = Errand {
        who: actor.name.clone(),
        why: "check a launch".into(),
    };
    let place = hub.store.seen_by(actor).place(&server.account, errand).await?;
    let planned = plan::plan(hub, &place, server, &server.launch_configuration, purpose).await;
    Ok(match planned {
        Ok(plan) if plan.outlook.obstacles.is_empty() => Foreseen::Possible {
            instance_type: plan.instance_type,
            not_checked: plan.outlook.not_checked,
        },
        Ok(plan) => Foreseen::Impossible(plan.outlook.obstacles),
        Err(StepError::Permanent(why)) => Foreseen::Impossible(vec![why]),
        Err(StepError::Transient(why)) => Foreseen::Unknown(why),
    })
}
