//! What containers cost: what the operator's file says, and nothing without one.

use async_trait::async_trait;

use super::inventory::Reader;
use crate::Result;
use crate::model::resource::{Cost, Size};
use crate::provider::Pricing;

#[async_trait]
impl Pricing for Reader {
    async fn cost(&self, size: &Size, _location: &str) -> Result<Option<Cost>> {
        self.flavours.cost(size).map_err(|error| error.with_provider(super::PROVIDER))
    }
}
