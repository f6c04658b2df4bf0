//! Spans that wait to be exported: a bounded number, shared fairly among tenants. No I/O, no clock, no async.

use std::collections::{BTreeMap, VecDeque};

use hivemind_core::TenantId;

use super::SpanData;

/// Whose spans: a tenant's, or the host's own.
type Owner = Option<TenantId>;

/// Ended spans, by owner. When it is full, an owner with more than a fair share of it loses the newest: the one who adds to
/// it, or whoever has most.
#[derive(Debug, Default)]
pub(super) struct SpanQueue {
    most: usize,
    count: usize,
    /// No owner without spans.
    waiting: BTreeMap<Owner, VecDeque<Box<SpanData>>>,
    /// Who had most when it was last looked for: those who have most stay so for long.
    largest: Owner,
    /// Who had a turn last.
    last: Option<Owner>,
}

impl SpanQueue {
    pub(super) fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Takes a span; gives back the one that is dropped for it, perhaps itself.
    pub(super) fn push(&mut self, span: Box<SpanData>) -> Option<Box<SpanData>> {
        if self.count >= self.most {
            return self.push_into_full(span);
        }
        self.add(span);
        None
    }

    fn add(&mut self, span: Box<SpanData>) {
        self.count += 1;
        match self.waiting.get_mut(&span.tenant) {
            Some(spans) => spans.push_back(span),
            None => drop(self.waiting.insert(span.tenant.clone(), VecDeque::from([span]))),
        }
    }

    fn push_into_full(&mut self, span: Box<SpanData>) -> Option<Box<SpanData>> {
        let has = |owner: &Owner| self.waiting.get(owner).map_or(0, VecDeque::len);
        let owners = self.waiting.len() + usize::from(!self.waiting.contains_key(&span.tenant));
        let too_many = |count: usize| count * owners > self.most;
        if too_many(has(&span.tenant) + 1) {
            return Some(span);
        }
        if !too_many(has(&self.largest)) {
            let largest = self.waiting.iter().max_by_key(|(_, spans)| spans.len())?;
            self.largest = largest.0.clone();
        }
        let largest = self.largest.clone();
        let dropped = self.remove(&largest, VecDeque::pop_back);
        self.add(span);
        dropped
    }

    /// The oldest spans, of one owner after the other, so that nobody waits for all of somebody else's.
    pub(super) fn take(&mut self, most: usize) -> Vec<SpanData> {
        let mut taken = Vec::with_capacity(most.min(self.count));
        while taken.len() < most {
            let Some(owner) = self.next_owner() else { break };
            taken.extend(self.remove(&owner, VecDeque::pop_front).map(|span| *span));
            self.last = Some(owner);
        }
        taken
    }

    fn next_owner(&self) -> Option<Owner> {
        let after = self.last.as_ref().and_then(|last| {
            use std::ops::Bound::{Excluded, Unbounded};
            self.waiting.range((Excluded(last), Unbounded)).next()
        });
        after.or_else(|| self.waiting.iter().next()).map(|(owner, _)| owner.clone())
    }

    fn remove(
        &mut self,
        owner: &Owner,
        which: impl FnOnce(&mut VecDeque<Box<SpanData>>) -> Option<Box<SpanData>>,
    ) -> Option<Box<SpanData>> {
        let spans = self.waiting.get_mut(owner)?;
        let removed = which(spans);
        self.count -= usize::from(removed.is_some());
        if spans.is_empty() {
            self.waiting.remove(owner);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use hivemind_core::{Timestamp, TraceContext};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn span(owner: u8, number: u64) -> Box<SpanData> {
        let context = TraceContext::new(1, number + 1, true).unwrap();
        let mut span = SpanData::begin(context.into(), None, "s".into(), Timestamp::EPOCH);
        span.tenant = (owner > 0).then(|| format!("t{owner}").parse().unwrap());
        Box::new(span)
    }

    fn number(span: &SpanData) -> u64 {
        span.span.trace.parent_id() - 1
    }

    proptest! {
        /// Beside lists of all owners: nothing is lost but what is told, no owner with less than a fair share loses
        /// anything, and each owner's spans come in order.
        #[test]
        fn it_keeps_count_and_is_fair(
            most in 0_usize..12,
            steps in vec(prop_oneof![4 => (0_u8..4).prop_map(Some), 1 => Just(None)], 0..120),
        ) {
            let mut queue = SpanQueue::new(most);
            let mut model = BTreeMap::<Option<TenantId>, Vec<u64>>::new();
            for (step, next) in (0..).zip(steps) {
                if let Some(owner) = next {
                    let new = span(owner, step);
                    model.entry(new.tenant.clone()).or_default().push(step);
                    if let Some(dropped) = queue.push(new) {
                        let owners = model.values().filter(|spans| !spans.is_empty()).count();
                        let spans = model.get_mut(&dropped.tenant).unwrap();
                        prop_assert!(spans.len() * owners > most, "who loses has more than a fair share");
                        prop_assert_eq!(spans.pop(), Some(number(&dropped)));
                    }
                } else {
                    let owners = model.values().filter(|spans| !spans.is_empty()).count();
                    let taken = queue.take(3);
                    let different: BTreeSet<_> = taken.iter().map(|span| span.tenant.clone()).collect();
                    prop_assert!(different.len() >= owners.min(3));
                    for span in taken {
                        prop_assert_eq!(model.get_mut(&span.tenant).unwrap().remove(0), number(&span));
                    }
                }
                prop_assert_eq!(queue.len(), model.values().map(Vec::len).sum::<usize>());
                prop_assert!(queue.len() <= most);
            }
        }
    }
}
