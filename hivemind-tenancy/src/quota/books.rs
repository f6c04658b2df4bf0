//! The ledgers that one decision touches: opened, changed together, checked, and staged. No I/O, no clock, no async.
//!
//! A decision changes them as it likes and then asks once whether anything rose above a limit. So one rule decides
//! about reservations, moves in the tree and changes of limits alike, on all levels and all quotas at once.

mod bounds;
mod timed;

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::resources::{ResourceName, Resources};
use hivemind_core::store::{Guard, Snapshot, Staged, Txn};
use hivemind_core::{Collection, Error, ErrorKind, Result, Retry, Stamped, Stored, TenantRef, Timestamp};

use super::ledger::{Change, Charged, Usage, ledger_key, ledgers};
use super::level::{self, LevelRules, Taken, UNLIMITED, charge};
use super::spec::specs;
use super::{OverQuota, QuotaSpec, RequestAttributes, Shortage};
use crate::Tenant;

/// The sums of one resource while a decision is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Line {
    used: i128,
    reserved: i128,
    held: i128,
}

impl Line {
    fn taken(self) -> Taken {
        let usage = self.used + self.reserved;
        Taken { usage, load: usage + self.held }
    }
}

type Lines = BTreeMap<ResourceName, Line>;

/// One tenant's ledger.
#[derive(Debug, Clone)]
struct Level {
    at: Option<Timestamp>,
    tenant: Stamped<Tenant>,
    stored_spec: Option<Stamped<QuotaSpec>>,
    spec: QuotaSpec,
    stored: Option<Stamped<Usage>>,
    /// What was stored, and what was decided since, up to the decision that is being made.
    settled: Usage,
    before: Lines,
    now: Lines,
    scoped_before: BTreeMap<String, Lines>,
    scoped: BTreeMap<String, Lines>,
    /// Whether everything that is taken counts as asked for now.
    as_new: bool,
    /// Whether its ledger is written even if the sums stay the same.
    touched: bool,
    /// How many slices were granted to nodes so far.
    grants: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    now: Option<Timestamp>,
    levels: Vec<Level>,
}

fn lines(used: &Resources, reserved: &Resources, held: &Resources) -> Lines {
    let mut lines = Lines::new();
    used.iter().for_each(|(name, amount)| lines.entry(name).or_default().used = amount.into());
    reserved.iter().for_each(|(name, amount)| lines.entry(name).or_default().reserved = amount.into());
    held.iter().for_each(|(name, amount)| lines.entry(name).or_default().held = amount.into());
    lines
}

fn line(lines: &Lines, resource: &ResourceName) -> Line {
    lines.get(resource).copied().unwrap_or_default()
}

/// A sum as it is stored. Limits keep it from being too large, so it can only be below zero, or too large, if more
/// is given back than was charged, or a ledger was damaged.
fn stored(tenant: &TenantRef, lines: &Lines, of: impl Fn(&Line) -> i128) -> Result<Resources> {
    lines.iter().try_fold(Resources::new(), |sum, (resource, line)| {
        let broken = |_| {
            let message = format!(
                "the ledger of tenant {} would hold {} of {resource}: recount and repair it",
                tenant.id,
                of(line)
            );
            Error::new(ErrorKind::Corrupt, "quota", message)
        };
        Ok(sum.with(resource.clone(), u64::try_from(of(line)).map_err(broken)?))
    })
}

/// Stages the demand that what was read is still so: unchanged, or absent.
pub(crate) fn expect<T: Stored>(
    txn: &mut Txn,
    of: &Collection<T>,
    key: &hivemind_core::store::Key,
    found: Option<&Stamped<T>>,
) -> Result<()> {
    match found {
        Some(found) => of.expect(txn, found),
        None if matches!(txn.staged(key), Staged::Untouched) => txn.guard(key, Guard::Absent),
        None => Ok(()),
    }
}

impl Level {
    fn open(view: &Snapshot, txn: &Txn, tenant: &Stamped<Tenant>, at: Option<Timestamp>) -> Result<Self> {
        let stored = ledgers()?.get(view, txn, &ledger_key(&tenant.tenant)?)?;
        let stored_spec = specs()?.get(view, txn, &spec_key(&tenant.tenant)?)?;
        let usage = stored.as_ref().map(|stored| (*stored.value).clone()).unwrap_or_default();
        let now = lines(&usage.used, &usage.reserved, &usage.held);
        let of = |charged: &Charged| lines(&charged.used, &charged.reserved, &Resources::new());
        let scoped: BTreeMap<_, _> =
            usage.scoped.iter().map(|(name, charged)| (name.clone(), of(charged))).collect();
        Ok(Self {
            at,
            tenant: tenant.clone(),
            spec: stored_spec.as_ref().map(|spec| (*spec.value).clone()).unwrap_or_default(),
            stored_spec,
            stored,
            grants: usage.grants,
            settled: usage,
            before: now.clone(),
            now,
            scoped_before: scoped.clone(),
            scoped,
            as_new: false,
            touched: false,
        })
    }

    fn rules(&self, resource: &ResourceName) -> LevelRules {
        self.spec.level(&self.tenant, resource, self.at)
    }

    fn charge(&self, resource: &ResourceName) -> i128 {
        charge(line(&self.now, resource).taken().load, self.rules(resource).held())
    }

    /// Adds to one resource; returns by how much the charge to the level above changes.
    fn add(&mut self, resource: &ResourceName, used: i128, reserved: i128, load: i128) -> i128 {
        let was = self.charge(resource);
        let line = self.now.entry(resource.clone()).or_default();
        line.used += used;
        line.reserved += reserved;
        line.held += load - used - reserved;
        self.charge(resource) - was
    }

    fn shortages(&self, depth: usize, part: bool, short: &mut Vec<Shortage>) {
        for (resource, now) in &self.now {
            let before = line(&self.before, resource);
            if let Some(found) =
                level::shortage(self.rules(resource).limits(part), before.taken(), now.taken())
            {
                short.push(self.short(depth, resource, None, before, now.taken(), (found.limit, found.by)));
            }
            if now.taken().usage > before.taken().usage && !self.covers(resource) {
                let by = (0, u64::try_from(now.taken().usage).unwrap_or(UNLIMITED));
                let uncovered = self.short(depth, resource, None, before, now.taken(), by);
                short.push(Shortage { uncovered: true, ..uncovered });
            }
        }
        for (name, lines_now) in &self.scoped {
            let Some(quota) = self.spec.scoped.get(name) else { continue };
            for (resource, limit) in &quota.limits {
                let of = |all: &BTreeMap<String, Lines>| {
                    all.get(name).map(|lines| line(lines, resource)).unwrap_or_default()
                };
                let (before, now) = (of(&self.scoped_before), line(lines_now, resource));
                let rules = LevelRules { max: *limit, ..LevelRules::default() };
                if let Some(found) = level::shortage(rules.limits(false), before.taken(), now.taken()) {
                    let by = (found.limit, found.by);
                    short.push(self.short(depth, resource, Some(name.clone()), before, now.taken(), by));
                }
            }
        }
        self.soft_shortages(depth, short);
        self.budget_shortages(depth, short);
    }

    fn short(
        &self,
        depth: usize,
        resource: &ResourceName,
        quota: Option<String>,
        before: Line,
        now: Taken,
        (limit, short_by): (u64, u64),
    ) -> Shortage {
        let amount = |amount: i128| u64::try_from(amount.max(0)).unwrap_or(UNLIMITED);
        let more = now.usage - before.taken().usage;
        Shortage {
            resource: resource.clone(),
            tenant: self.tenant.tenant.id.clone(),
            depth,
            quota,
            uncovered: false,
            soft: None,
            budget: None,
            limit,
            used: amount(before.used),
            reserved: amount(before.reserved),
            held: amount(before.held),
            // A guarantee asks, too.
            asked: amount(if more > 0 { more } else { now.load - before.taken().load }),
            short_by,
        }
    }

    /// Whether a limit covers what must be covered.
    fn covers(&self, resource: &ResourceName) -> bool {
        let scoped = || {
            self.spec.scoped.iter().any(|(name, quota)| {
                quota.limits.contains_key(resource) && self.scoped.get(name) != self.scoped_before.get(name)
            })
        };
        !self.spec.required.contains(resource) || self.rules(resource).max != UNLIMITED || scoped()
    }

    fn usage(&self) -> Result<Usage> {
        let tenant = &self.tenant.tenant;
        let scoped = |(name, lines): (&String, &Lines)| {
            let (used, reserved) =
                (stored(tenant, lines, |line| line.used)?, stored(tenant, lines, |line| line.reserved)?);
            Ok((name.clone(), Charged { used, reserved }))
        };
        let counts = |(_, lines): &(&String, &Lines)| lines.values().any(|line| *line != Line::default());
        Ok(Usage {
            used: stored(tenant, &self.now, |line| line.used)?,
            reserved: stored(tenant, &self.now, |line| line.reserved)?,
            held: stored(tenant, &self.now, |line| line.held)?,
            scoped: self.scoped.iter().filter(counts).map(scoped).collect::<Result<_>>()?,
            soft: self.soft_states(),
            budgets: self.budget_states(),
            grants: self.grants,
        })
    }
}

pub(crate) fn spec_key(tenant: &TenantRef) -> Result<hivemind_core::store::Key> {
    specs()?.key([tenant.to_string()])
}

impl Books {
    /// None opened yet, by the limits that hold at `now`.
    pub(crate) fn at(now: Option<Timestamp>) -> Self {
        Self { now, levels: Vec::new() }
    }

    /// Opens the ledgers of `chain`, a tenant and those above it; which are the numbers to name it by.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if one cannot be read.
    pub(crate) fn open(
        &mut self,
        view: &Snapshot,
        txn: &Txn,
        chain: &[Stamped<Tenant>],
    ) -> Result<Vec<usize>> {
        let mut numbers = Vec::new();
        for tenant in chain {
            let known = self.levels.iter().position(|level| level.tenant.tenant == tenant.tenant);
            numbers.push(match known {
                Some(known) => known,
                None => {
                    self.levels.push(Level::open(view, txn, tenant, self.now)?);
                    self.levels.len() - 1
                }
            });
        }
        Ok(numbers)
    }

    /// Adds `change` to every level of `chain`, and to every scoped quota there that counts such requests.
    pub(crate) fn add(&mut self, chain: &[usize], change: &Change, attributes: &RequestAttributes) {
        for (resource, used, reserved) in change.iter() {
            self.raise(chain, resource, used, reserved, used + reserved);
        }
        self.add_scoped(chain, change, attributes);
    }

    /// Adds `change` to the scoped quotas of `chain` only.
    pub(crate) fn add_scoped(&mut self, chain: &[usize], change: &Change, attributes: &RequestAttributes) {
        for number in chain {
            let Some(Level { spec, scoped, .. }) = self.levels.get_mut(*number) else { continue };
            for (name, quota) in &spec.scoped {
                if !quota.scope.matches(attributes) {
                    continue;
                }
                let lines = scoped.entry(name.clone()).or_default();
                for (resource, used, reserved) in change.iter() {
                    let line = lines.entry(resource.clone()).or_default();
                    line.used += used;
                    line.reserved += reserved;
                }
            }
        }
    }

    /// Adds to one resource at the first of `chain`, and upwards what each asks of the one above it.
    fn raise(&mut self, chain: &[usize], resource: &ResourceName, used: i128, reserved: i128, load: i128) {
        let mut load = load;
        for number in chain {
            if let Some(level) = self.levels.get_mut(*number) {
                load = level.add(resource, used, reserved, load);
            }
        }
    }

    /// Moves everything at and below the first of `from` (which is also the first of `to`) to the levels of `to`.
    pub(crate) fn regraft(&mut self, from: &[usize], to: &[usize]) {
        let Some((moved, from)) = from.split_first() else { return };
        let Some((_, to)) = to.split_first() else { return };
        let Some(level) = self.levels.get(*moved) else { return };
        let resources: BTreeSet<_> = level.now.keys().chain(level.spec.rules.keys()).cloned().collect();
        let all: Vec<_> = resources
            .into_iter()
            .map(|resource| {
                let (line, charge) = (line(&level.now, &resource), level.charge(&resource));
                (resource, line, charge)
            })
            .collect();
        for (resource, line, charge) in all {
            self.raise(from, &resource, -line.used, -line.reserved, -charge);
            self.raise(to, &resource, line.used, line.reserved, charge);
        }
    }

    /// Puts other rules in force for the first of `chain`. Its scoped quotas count nothing yet.
    pub(crate) fn set_rules(&mut self, chain: &[usize], spec: &QuotaSpec) {
        let Some((first, above)) = chain.split_first() else { return };
        let Some(level) = self.levels.get_mut(*first) else { return };
        let resources: BTreeSet<_> =
            level.spec.rules.keys().chain(spec.rules.keys()).chain(level.now.keys()).cloned().collect();
        let was: Vec<_> = resources.iter().map(|resource| level.charge(resource)).collect();
        level.spec = spec.clone();
        level.scoped = BTreeMap::new();
        let more: Vec<_> =
            resources.iter().zip(was).map(|(resource, was)| level.charge(resource) - was).collect();
        for (resource, more) in resources.iter().zip(more) {
            if more != 0 {
                self.raise(above, resource, 0, 0, more);
            }
        }
    }

    /// Counts what the first of `chain` takes already as if it were asked for now.
    pub(crate) fn as_new(&mut self, chain: &[usize]) {
        if let Some(level) = chain.first().and_then(|first| self.levels.get_mut(*first)) {
            level.as_new = true;
            level.before = Lines::new();
            level.scoped_before = BTreeMap::new();
        }
    }

    /// Writes the ledger of the first of `chain` even if the sums stay the same: whatever changes a tenant's
    /// reservations changes the revision of its ledger, so that two such decisions are a conflict.
    pub(crate) fn touch(&mut self, chain: &[usize]) {
        if let Some(level) = chain.first().and_then(|first| self.levels.get_mut(*first)) {
            level.touched = true;
        }
    }

    /// The number of a new grant of a slice by the first of `chain`.
    pub(crate) fn grant(&mut self, chain: &[usize]) -> u64 {
        let Some(level) = chain.first().and_then(|first| self.levels.get_mut(*first)) else { return 0 };
        level.grants = level.grants.saturating_add(1);
        level.grants
    }

    /// Whether several requests of `chain` fit together exactly if they fit one after the other, whenever that is.
    pub(crate) fn adds_up(&self, chain: &[usize]) -> bool {
        chain.iter().filter_map(|number| self.levels.get(*number)).all(|Level { spec, .. }| {
            let timeless =
                spec.soft_limits.is_empty() && spec.budgets.is_empty() && spec.temporary.is_empty();
            // A scoped quota covers what counts against it, and not what is asked for at the same time.
            timeless && (spec.required.is_empty() || spec.scoped.is_empty())
        })
    }

    /// Counts what was added so far as taken before, and goes on to the next decision.
    ///
    /// # Errors
    /// As [`stage`](Self::stage).
    pub(crate) fn settle(&mut self) -> Result<()> {
        for level in &mut self.levels {
            if level.now != level.before {
                level.settled = level.usage()?;
                level.before = level.now.clone();
            }
            if level.scoped != level.scoped_before {
                level.scoped_before = level.scoped.clone();
            }
        }
        Ok(())
    }

    /// Decides by the limits that hold at `now` from here on.
    pub(crate) fn set_time(&mut self, now: Option<Timestamp>) {
        self.now = now;
        self.levels.iter_mut().for_each(|level| level.at = now);
    }

    /// Everything that rose above a limit on the levels of `chain`, as its first may see it; `None` if it all fits.
    pub(crate) fn over(&self, chain: &[usize]) -> Option<OverQuota> {
        let levels = || chain.iter().filter_map(|number| self.levels.get(*number));
        let mut short = Vec::new();
        let part = |depth| depth + 1 < chain.len();
        levels().enumerate().for_each(|(depth, level)| level.shortages(depth, part(depth), &mut short));
        let chain: Vec<_> = levels().map(|level| level.tenant.tenant.clone()).collect();
        let tenant = chain.first()?.id.clone();
        (!short.is_empty()).then(|| OverQuota::new(tenant, chain, short))
    }

    /// Fails if a tenant of `chain` admits no work now. That is its state, and no matter of who asks: a conflict, as
    /// for whoever places it.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], to be tried again once that has changed. Of a tenant above it says only that it is one.
    pub(crate) fn admits(&self, chain: &[usize], operation: &'static str) -> Result<()> {
        let tenants: Vec<_> =
            chain.iter().filter_map(|number| self.levels.get(*number)).map(|level| &level.tenant).collect();
        let refusing = tenants.iter().position(|tenant| !tenant.state.admits_work());
        let message = match (refusing, tenants.first()) {
            (Some(0), Some(own)) => {
                format!("tenant {} is {}: nothing new is admitted in it", own.tenant.id, own.state)
            }
            (Some(_), Some(own)) => format!("a tenant above tenant {} admits nothing new now", own.tenant.id),
            _ => return Ok(()),
        };
        Err(Error::new(ErrorKind::Conflict, operation, message).with_retry(Retry::AfterChange))
    }

    /// Stages every ledger that has changed, and that limits, states and ledgers are still what was read.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a ledger would fall below zero.
    pub(crate) fn stage(&self, view: &Snapshot, txn: &mut Txn) -> Result<()> {
        for level in &self.levels {
            // The limits that were read must be the limits when this commits.
            crate::tenant::tenants()?.expect(txn, &level.tenant)?;
            expect(txn, &specs()?, &spec_key(&level.tenant.tenant)?, level.stored_spec.as_ref())?;
            let (key, usage) = (ledger_key(&level.tenant.tenant)?, level.usage()?);
            match &level.stored {
                Some(old) if level.touched || *old.value != usage => ledgers()?.update(txn, old, &usage)?,
                None if level.touched || usage != Usage::default() => {
                    ledgers()?.create(view, txn, key, &usage)?
                }
                same => expect(txn, &ledgers()?, &key, same.as_ref())?,
            }
        }
        Ok(())
    }
}
