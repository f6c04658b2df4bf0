//! What the limit ranges of the tenants of a decision say about the things in a request. No I/O, no clock, no async.

use hivemind_core::resources::Resources;
use hivemind_core::{Error, Result};

use super::{Books, line};
use crate::quota::QuotaRequest;
use crate::quota::ranges::{Ranges, within};

impl Books {
    /// Fails unless the limit ranges of `chain` allow each demand of `request`.
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) tells what is wrong with the first demand that is refused, or
    /// that they ask for more than is charged.
    pub(crate) fn bounds(&self, chain: &[usize], request: &QuotaRequest) -> Result<()> {
        let QuotaRequest { id, amount, attributes, demands, .. } = request;
        if demands.is_empty() {
            return Ok(());
        }
        let sum = demands.iter().try_fold(Resources::new(), |sum, one| sum.checked_add(&one.request));
        if !sum.is_ok_and(|sum| sum.fits_in(amount)) {
            let message =
                format!("the demands of reservation {id} ask for more than its {amount}: charge all");
            return Err(Error::invalid("reserve", message));
        }
        let levels = || chain.iter().filter_map(|number| self.levels.get(*number));
        let Some(own) = levels().next() else { return Ok(()) };
        let ranges = levels()
            .enumerate()
            .filter_map(|(depth, level)| Some((depth, level.spec.limit_range(&attributes.kind)?)));
        let ranges = Ranges { tenant: &own.tenant.tenant.id, kind: &attributes.kind, of: ranges.collect() };
        demands.iter().try_for_each(|demand| within(&ranges, demand))
    }

    /// Whether the first of `chain` takes more of anything in `amount` than it is guaranteed.
    pub(crate) fn above_guarantee(&self, chain: &[usize], amount: &Resources) -> bool {
        let Some(own) = chain.first().and_then(|first| self.levels.get(*first)) else { return true };
        amount.iter().any(|(resource, _)| {
            line(&own.now, &resource).taken().usage > i128::from(own.rules(&resource).guaranteed)
        })
    }
}
