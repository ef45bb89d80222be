//! Ends what waits for an endpoint that was switched off or removed, in small steps: as dead, to be sent again when it is
//! back, or as cancelled.

use crate::{
    engine::{self, Piece, Worker},
    gateway::Gateway,
    pipeline::WorkError,
    store::{
        flow::{DeliveryState, WorkKind},
        key::Subject,
        resource::Endpoint,
    },
};

/// Deliveries that one commit ends.
const STEP: usize = 500;
/// Why a delivery ended whose endpoint is off.
pub const DISABLED: &str = "the endpoint is disabled";
/// Why a delivery ended whose endpoint is gone.
pub const DELETED: &str = "the endpoint was deleted";

/// Ends deliveries.
pub struct Drain;

impl Worker for Drain {
    const KIND: WorkKind = WorkKind::Drain;

    async fn work(gateway: &Gateway, piece: &mut Piece) -> Result<(), WorkError> {
        let claim = &piece.claim;
        let Subject::Endpoint(id) = &claim.subject else { return Ok(gateway.store.abandon(claim).await?) };
        let endpoint = gateway.store.find::<Endpoint>(Some(&claim.app), id.as_str()).await?;
        let (state, reason) = match endpoint {
            Some(endpoint) if !endpoint.value.disabled => return Ok(gateway.store.abandon(claim).await?),
            Some(_) => (DeliveryState::Dead, DISABLED),
            None => (DeliveryState::Cancelled, DELETED),
        };
        let now = gateway.clock.now();
        if gateway.store.end_waiting(id, state, reason, STEP, now).await? < STEP {
            return Ok(gateway.store.abandon(claim).await?);
        }
        Ok(engine::put_off(gateway, claim, now).await?)
    }
}
