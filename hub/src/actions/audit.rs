//! The audit log is taken out of the house.

use super::{ActionError, Order};
use crate::{Hub, audit::export::Format, auth::Actor, entities::user::UserRole};

/// Writes down that it is.
pub async fn export_audit(hub: &Hub, actor: &Actor, format: Format) -> Result<(), ActionError> {
    let order = Order::new(actor, "export", &"the audit log");
    let tx = order.begin_somewhere(hub, UserRole::Viewer).await?;
    order.done_so(tx, format.extension()).await
}
