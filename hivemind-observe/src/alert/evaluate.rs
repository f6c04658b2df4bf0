//! One rule, one moment. No I/O, no clock, no async.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use hivemind_core::{AlertName, Timestamp};

use super::state::{Instance, RuleState};
use super::{AlertPhase, AlertRule, AlertTotals, Transition, WhenUnknown};
use crate::weight::weight;

type Labels = BTreeMap<String, String>;
/// The series that a rule is about, in the order of their labels, with their values.
pub(super) type Seen<'a> = [(&'a Labels, f64)];

/// An instance, with the value of its series if it was seen.
type Valued = (Instance, Option<f64>);

/// All instances of a rule take no more: they are one record.
const ROOM: usize = 512 << 10;
/// How often it is written that somebody evaluates, if nothing else changes.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Longer ago, and nobody has looked.
const GAP: Duration = Duration::from_secs(300);

/// Whether a condition holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Yes,
    No,
    /// It counts as it was.
    Unknown,
}

impl From<WhenUnknown> for Holds {
    fn from(what: WhenUnknown) -> Self {
        match what {
            WhenUnknown::Resolve => Self::No,
            WhenUnknown::Keep => Self::Unknown,
            WhenUnknown::Fire => Self::Yes,
        }
    }
}

/// Whether the condition of `rule` holds for what an instance is about, given the value of its series and whether there is
/// any series at all; nothing, if the samples could not be had.
fn holds(rule: &AlertRule, instance: &Instance, value: Option<f64>, any: Option<bool>) -> Holds {
    let unknown = |what: WhenUnknown| match instance.phase {
        AlertPhase::Inactive if !instance.absent => Holds::No,
        _ => what.into(),
    };
    match (value, any) {
        (_, None) => unknown(rule.failed()),
        (_, Some(true)) if instance.absent => Holds::No,
        (None, Some(_)) => unknown(rule.missing()),
        (Some(value), _) if rule.holds(value, instance.phase == AlertPhase::Firing) => Holds::Yes,
        (Some(_), _) => Holds::No,
    }
}

/// Brings the state of a rule up to `now`, given what was seen, if anything could be.
pub(super) fn rule(
    rule: &AlertRule,
    state: &mut RuleState,
    now: Timestamp,
    seen: Option<&Seen<'_>>,
    out: &mut Vec<Transition>,
) {
    let idle = state.instances.is_empty();
    if !idle {
        pass_over_what_nobody_saw(state, now);
    }
    let any = seen.map(|seen| !seen.is_empty());
    let (mut instances, new) = join(std::mem::take(&mut state.instances), seen.unwrap_or_default());
    state.refused = admit(rule, &mut instances, now, new, any);
    for (mut instance, value) in instances {
        let holds = holds(rule, &instance, value, any);
        advance(rule, &mut state.totals, &mut instance, (now, holds, value), out);
        if instance.is_worth_keeping() {
            state.instances.push(instance);
        }
    }
    if !state.instances.is_empty() && (idle || now.since(state.seen) >= HEARTBEAT) {
        state.seen = now;
    }
}

/// Each instance with the value of its series, and the series that are no instance. Both are in order.
fn join<'a>(instances: Vec<Instance>, seen: &Seen<'a>) -> (Vec<Valued>, Vec<(&'a Labels, f64)>) {
    let (mut seen, mut new) = (seen.iter().copied().peekable(), Vec::new());
    let with_value = |instance: Instance| {
        if instance.absent {
            return (instance, None);
        }
        let mut value = None;
        while let Some((labels, found)) = seen.peek() {
            match (*labels).cmp(&instance.labels) {
                Ordering::Less => new.push((*labels, *found)),
                Ordering::Equal => value = Some(*found),
                Ordering::Greater => break,
            }
            seen.next();
        }
        (instance, value)
    };
    let instances = instances.into_iter().map(with_value).collect();
    new.extend(seen);
    (instances, new)
}

/// A rule is no longer there: what fires by it resolves.
pub(super) fn end(name: &AlertName, state: &mut RuleState, now: Timestamp, out: &mut Vec<Transition>) {
    let active = |one: &Instance| one.phase != AlertPhase::Inactive;
    for instance in std::mem::take(&mut state.instances).into_iter().filter(active) {
        change(name, &mut state.totals, &instance, (AlertPhase::Inactive, now, None), false, out);
    }
    state.refused = 0;
}

/// A clock that went back, or a long time in which nobody looked, is as if that time had not been.
fn pass_over_what_nobody_saw(state: &mut RuleState, now: Timestamp) {
    // The clocks of replicas differ a little: that is no way back.
    let back = Some(state.seen.since(now)).filter(|back| *back >= GAP).unwrap_or_default();
    let gap = now.since(state.seen).saturating_sub(GAP);
    if back.is_zero() && gap.is_zero() {
        return;
    }
    for instance in &mut state.instances {
        instance.go_back(back);
        instance.pass_over(gap);
    }
    state.seen = now;
}

/// Adds those of the new series for which the condition holds, as far as there is room; tells how many found none.
fn admit(
    rule: &AlertRule,
    instances: &mut Vec<Valued>,
    now: Timestamp,
    mut new: Vec<(&Labels, f64)>,
    any: Option<bool>,
) -> usize {
    new.retain(|(_, value)| rule.holds(*value, false));
    let quiet = |(one, _): &Valued| one.phase == AlertPhase::Inactive;
    let unknown = if any.is_some() { rule.missing() } else { rule.failed() };
    let absent = unknown == WhenUnknown::Fire && any != Some(true) && instances.iter().all(quiet);
    if new.is_empty() && !absent {
        return 0;
    }
    let count = new.len();
    let mut room = Room::left(rule, instances.iter().filter(|one| !quiet(one)));
    new.retain(|(labels, _)| room.take(labels));
    let refused = count - new.len();
    // What is only remembered makes room, for what comes and not for what is refused.
    let weighs: usize = instances.iter().map(|(one, _)| one.weight()).sum();
    let comes: usize = new.iter().map(|(labels, _)| weight(labels)).sum();
    let mut over = (instances.len() + new.len() + usize::from(absent)).saturating_sub(rule.limit());
    let mut too_heavy = (weighs + comes).saturating_sub(ROOM);
    instances.retain(|one| {
        let goes = (over > 0 || too_heavy > 0) && quiet(one);
        over = over.saturating_sub(usize::from(goes));
        too_heavy = too_heavy.saturating_sub(if goes { one.0.weight() } else { 0 });
        !goes
    });
    let new = new.into_iter().map(|(labels, value)| (Instance::new(labels.clone(), now, false), Some(value)));
    instances.extend(new);
    if absent && instances.len() < rule.limit() {
        instances.push((Instance::new(rule.matches().clone(), now, true), None));
    }
    instances.sort_by(|(one, _), (other, _)| one.place().cmp(&other.place()));
    refused
}

/// How much room a rule has left. No tenant gets more than half of it all: others come later.
struct Room<'a> {
    limit: usize,
    alerts: usize,
    bytes: usize,
    tenants: BTreeMap<&'a str, (usize, usize)>,
}

impl<'a> Room<'a> {
    fn left(rule: &AlertRule, active: impl Iterator<Item = &'a Valued>) -> Self {
        let (limit, alerts, bytes) = (rule.limit(), rule.limit(), ROOM);
        let mut room = Self { limit, alerts, bytes, tenants: BTreeMap::new() };
        active.for_each(|(one, _)| room.count(&one.labels, one.weight()));
        room
    }

    fn count(&mut self, labels: &'a Labels, weight: usize) {
        (self.alerts, self.bytes) = (self.alerts.saturating_sub(1), self.bytes.saturating_sub(weight));
        if let Some(tenant) = labels.get("tenant") {
            let (alerts, bytes) = self.tenants.entry(tenant).or_default();
            (*alerts, *bytes) = (*alerts + 1, *bytes + weight);
        }
    }

    /// Takes some of it for what has these labels, if there is enough.
    fn take(&mut self, labels: &'a Labels) -> bool {
        let weight = weight(labels);
        let own =
            labels.get("tenant").map(|tenant| self.tenants.get(tenant.as_str()).copied().unwrap_or_default());
        let within =
            own.is_none_or(|(alerts, bytes)| alerts < self.limit.div_ceil(2) && bytes + weight <= ROOM / 2);
        let fits = within && self.alerts > 0 && weight <= self.bytes;
        if fits {
            self.count(labels, weight);
        }
        fits
    }
}

fn advance(
    rule: &AlertRule,
    totals: &mut AlertTotals,
    instance: &mut Instance,
    (now, holds, value): (Timestamp, Holds, Option<f64>),
    out: &mut Vec<Transition>,
) {
    match rule.flaps() {
        // What flaps does so until it is over.
        Some((times, _))
            if instance.phase == AlertPhase::Firing && instance.fired.len() >= times as usize => {}
        Some((_, window)) => instance.fired.retain(|at| now.since(*at) < window),
        None => instance.fired.clear(),
    }
    if holds == Holds::Unknown {
        instance.unknown.get_or_insert(now);
        return;
    }
    if let Some(unknown) = instance.unknown.take() {
        instance.pass_over(now.since(unknown));
    }
    let holds = holds == Holds::Yes;
    let lasts = !rule.keeps_firing(usize::MAX).is_zero();
    // Only where it decides something: the state of an alert that just goes on need not be written.
    if holds && lasts {
        instance.held = now;
    }
    let next = next_phase(rule, instance, now, holds);
    if next != instance.phase {
        let mut flapping = false;
        if let Some((times, _)) = rule.flaps().filter(|_| next == AlertPhase::Firing) {
            instance.fired.push(now);
            flapping = instance.fired.len() == times as usize;
        }
        change(rule.name(), totals, instance, (next, now, value), flapping, out);
        instance.phase = next;
        instance.since = now;
    }
}

fn next_phase(rule: &AlertRule, instance: &Instance, now: Timestamp, holds: bool) -> AlertPhase {
    let keep = rule.keeps_firing(instance.fired.len());
    match (instance.phase, holds) {
        (AlertPhase::Firing, true) => AlertPhase::Firing,
        (AlertPhase::Firing, false) if now.since(instance.held) < keep => AlertPhase::Firing,
        (_, false) => AlertPhase::Inactive,
        (AlertPhase::Pending, true) if now.since(instance.since) < rule.holds_for() => AlertPhase::Pending,
        (AlertPhase::Inactive, true) if !rule.holds_for().is_zero() => AlertPhase::Pending,
        (_, true) => AlertPhase::Firing,
    }
}

fn change(
    rule: &AlertName,
    totals: &mut AlertTotals,
    instance: &Instance,
    (to, at, value): (AlertPhase, Timestamp, Option<f64>),
    flapping: bool,
    out: &mut Vec<Transition>,
) {
    let labels = instance.labels.clone();
    let transition = Transition { rule: rule.clone(), labels, from: instance.phase, to, at, value, flapping };
    totals.fired += u64::from(transition.fired());
    totals.resolved += u64::from(transition.resolved());
    out.push(transition);
}
