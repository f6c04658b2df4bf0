//! Which provider, where, how many copies, encrypted or not: rules of the administrator, and why. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::num::NonZeroU8;
use std::time::Duration;

use hivemind_core::labels::Selector;
use hivemind_core::{SnapshotId, StorageClassName, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::topology::{in_words, narrow};
use crate::{ClaimSpec, PerformanceClass, Topology};

/// How often snapshots of a volume are taken, and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SnapshotSchedule {
    /// The time from one to the next.
    pub every: Duration,
    /// How many are kept; the oldest go first.
    pub keep: usize,
}

/// What a schedule wants done now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleActions {
    /// A snapshot of this name is to be taken.
    pub take: Option<SnapshotId>,
    /// These are to be deleted.
    pub delete: Vec<SnapshotId>,
    /// When to ask again.
    pub next: Option<Timestamp>,
}

/// What every scheduled snapshot's name begins with: others are left alone.
const SCHEDULED: &str = "auto-";

impl SnapshotSchedule {
    /// One each `every`, of which `keep` are kept: at least one.
    pub fn new(every: Duration, keep: usize) -> Self {
        Self { every, keep: keep.max(1) }
    }

    /// What is to be done at `now`, when these snapshots are there. After a long silence one is taken, not one for each
    /// that was missed. Names are the second in which they are due, so two replicas that decide at once take one.
    pub fn due(&self, there: impl IntoIterator<Item = SnapshotId>, now: Timestamp) -> ScheduleActions {
        let second = |name: &SnapshotId| name.as_str().strip_prefix(SCHEDULED)?.parse::<u64>().ok();
        let mut own: Vec<(u64, SnapshotId)> =
            there.into_iter().filter_map(|name| Some((second(&name)?, name))).collect();
        own.sort();
        let every = self.every.as_secs().max(1);
        let slot = now.as_secs() - now.as_secs() % every;
        let mut actions = ScheduleActions::default();
        if own.last().is_none_or(|(newest, _)| *newest < slot) {
            actions.take = SnapshotId::new(format!("{SCHEDULED}{slot}")).ok();
        }
        let kept = self.keep - usize::from(actions.take.is_some());
        let surplus = own.len().saturating_sub(kept);
        actions.delete = own.into_iter().take(surplus).map(|(_, name)| name).collect();
        actions.next = slot.checked_add(every).map(Timestamp::from_secs);
        actions
    }
}

/// A rule: of which claims, and what follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PolicyRule {
    /// What it is called, in explanations.
    pub name: String,
    /// Of these tenants; empty for all.
    pub tenants: BTreeSet<TenantId>,
    /// Of claims whose labels match.
    pub labels: Selector,
    /// Of claims of these classes; empty for all, and for claims without one.
    pub classes: BTreeSet<StorageClassName>,
    /// They are of this class instead.
    pub class: Option<StorageClassName>,
    /// At least so many copies.
    pub replicas: Option<NonZeroU8>,
    /// Encrypted at rest.
    pub encryption: bool,
    /// So fast.
    pub performance_class: Option<PerformanceClass>,
    /// With snapshots.
    pub snapshots: Option<SnapshotSchedule>,
    /// Only in these places; empty for all.
    pub allowed_topologies: Vec<Topology>,
    /// With copies that differ in this segment of their places, such as `zone`.
    pub spread_over: Option<String>,
}

impl PolicyRule {
    /// A rule of that name, of every claim, from which nothing follows.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn matches(&self, tenant: &TenantId, claim: &ClaimSpec) -> bool {
        (self.tenants.is_empty() || self.tenants.contains(tenant))
            && self.labels.matches(&claim.options.labels)
            && (self.classes.is_empty()
                || claim.class.as_ref().is_some_and(|class| self.classes.contains(class)))
    }
}

/// What the rules make of a claim, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicyDecision {
    /// The claim, as the rules want it.
    pub claim: ClaimSpec,
    /// The snapshots of its volume.
    pub snapshots: Option<SnapshotSchedule>,
    /// Which rule decided what, one sentence each, in the order of rules.
    pub because: Vec<String>,
}

/// Rules of the administrator, in order: of two that say something about the same thing, the first one counts; copies
/// and encryption only ever grow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoragePolicy(Vec<PolicyRule>);

impl StoragePolicy {
    /// These rules, in this order.
    pub fn new(rules: impl IntoIterator<Item = PolicyRule>) -> Self {
        Self(rules.into_iter().collect())
    }

    /// What the rules make of a claim of `tenant`. All rules look at the claim as it was asked for.
    pub fn decide(&self, tenant: &TenantId, asked: &ClaimSpec) -> PolicyDecision {
        let mut decision = PolicyDecision { claim: asked.clone(), snapshots: None, because: Vec::new() };
        let (mut class, mut speed, mut placed, mut spread) = (false, false, false, false);
        for rule in self.0.iter().filter(|rule| rule.matches(tenant, asked)) {
            let mut told = |what: String| decision.because.push(format!("rule {}: {what}", rule.name));
            let claim = &mut decision.claim;
            if let Some(wanted) = rule.class.as_ref().filter(|_| !class) {
                class = true;
                told(format!("class {wanted}"));
                claim.class = Some(wanted.clone());
                claim.provider = None;
            }
            if let Some(wanted) = rule.replicas.filter(|wanted| *wanted > claim.options.replicas) {
                told(format!("{wanted} replicas instead of {}", claim.options.replicas));
                claim.options.replicas = wanted;
            }
            if rule.encryption && !claim.options.encryption {
                told("encrypted at rest".to_owned());
                claim.options.encryption = true;
            }
            if let Some(wanted) = rule.performance_class.filter(|_| !speed) {
                speed = true;
                told(format!("performance class {wanted:?}"));
                claim.options.performance_class = wanted;
            }
            if !rule.allowed_topologies.is_empty() && !placed {
                placed = true;
                told(format!("only in {}", in_words(&rule.allowed_topologies)));
                // Of what was asked for, as much as the rule allows; if that is nothing, the rule counts.
                let both = narrow(&claim.allowed_topologies, &rule.allowed_topologies);
                claim.allowed_topologies = both.unwrap_or_else(|| rule.allowed_topologies.clone());
            }
            if let Some(segment) = rule.spread_over.as_ref().filter(|_| !spread) {
                spread = true;
                told(format!("copies spread over {segment}"));
                claim.spread_over = Some(segment.clone());
            }
            if let Some(wanted) = rule.snapshots.filter(|_| decision.snapshots.is_none()) {
                told(format!("a snapshot every {} s, {} kept", wanted.every.as_secs(), wanted.keep));
                decision.snapshots = Some(wanted);
            }
        }
        decision
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::labels::Labels;
    use hivemind_core::resources::ByteSize;

    use super::*;
    use crate::VolumeOptions;

    fn rule(name: &str, change: impl FnOnce(&mut PolicyRule)) -> PolicyRule {
        let mut rule = PolicyRule::new(name);
        change(&mut rule);
        rule
    }

    #[test]
    fn the_first_rule_that_says_something_counts_and_safety_only_grows() {
        let policy = StoragePolicy::new([
            rule("databases", |rule| {
                rule.labels = "app=db".parse().unwrap();
                rule.class = Some("fast".parse().unwrap());
                rule.replicas = NonZeroU8::new(3);
            }),
            rule("regulated", |rule| {
                rule.tenants = BTreeSet::from(["acme".parse().unwrap()]);
                rule.encryption = true;
                rule.replicas = NonZeroU8::new(2);
            }),
            rule("everybody", |rule| {
                rule.class = Some("cheap".parse().unwrap());
                rule.snapshots = Some(SnapshotSchedule::new(Duration::from_secs(3600), 24));
            }),
        ]);
        let labels = Labels::new().with("app", "db").unwrap();
        let claim = ClaimSpec::new("data".parse().unwrap(), ByteSize::from_gib(1))
            .with_options(VolumeOptions::default().with_labels(labels));
        let decided = policy.decide(&"acme".parse().unwrap(), &claim);
        assert_eq!(decided.claim.class.as_ref().unwrap().as_str(), "fast");
        assert_eq!((decided.claim.options.replicas.get(), decided.claim.options.encryption), (3, true));
        assert_eq!(
            decided.because,
            [
                "rule databases: class fast",
                "rule databases: 3 replicas instead of 1",
                "rule regulated: encrypted at rest",
                "rule everybody: a snapshot every 3600 s, 24 kept",
            ]
        );
        let plain = ClaimSpec::new("data".parse().unwrap(), ByteSize::from_gib(1));
        let other = policy.decide(&"globex".parse().unwrap(), &plain);
        assert_eq!(other.claim.class.unwrap().as_str(), "cheap");
        assert!(!other.claim.options.encryption);
    }

    #[test]
    fn a_rule_decides_where_and_says_so() {
        let zone = |name: &str| Topology::everywhere().with("zone", name);
        let policy = StoragePolicy::new([
            rule("residency", |rule| {
                rule.tenants = BTreeSet::from(["acme".parse().unwrap()]);
                rule.allowed_topologies = vec![zone("a"), zone("b")];
                rule.spread_over = Some("zone".to_owned());
            }),
            rule("elsewhere", |rule| rule.allowed_topologies = vec![zone("c")]),
        ]);
        let claim = ClaimSpec::new("data".parse().unwrap(), ByteSize::from_gib(1));
        let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let decided = policy.decide(&acme, &claim);
        assert_eq!(decided.claim.allowed_topologies, [zone("a"), zone("b")]);
        assert_eq!(decided.claim.spread_over.as_deref(), Some("zone"));
        assert_eq!(
            decided.because,
            ["rule residency: only in zone=a or zone=b", "rule residency: copies spread over zone"]
        );
        assert_eq!(policy.decide(&globex, &claim).claim.allowed_topologies, [zone("c")]);
        // Whoever asks for less gets it; whoever asks for something else does not.
        let asks = |name: &str| policy.decide(&acme, &claim.clone().with_allowed_topologies([zone(name)]));
        assert_eq!(asks("b").claim.allowed_topologies, [zone("b")]);
        assert_eq!(asks("z").claim.allowed_topologies, [zone("a"), zone("b")]);
    }

    #[test]
    fn a_schedule_takes_one_a_slot_and_leaves_what_is_not_its_own() {
        let schedule = SnapshotSchedule::new(Duration::from_secs(100), 3);
        let mut there: Vec<SnapshotId> = vec!["by-hand".parse().unwrap()];
        let mut taken = 0;
        for second in (0..2000).step_by(30) {
            let actions = schedule.due(there.iter().cloned(), Timestamp::from_secs(second));
            there.retain(|name| !actions.delete.contains(name));
            taken += usize::from(actions.take.is_some());
            there.extend(actions.take);
            assert!(there.len() <= 4 && there[0].as_str() == "by-hand");
            assert!(actions.next.unwrap().as_secs() > second);
        }
        assert_eq!(taken, 20);
        // After a long silence one is taken.
        let late = schedule.due(there.iter().cloned(), Timestamp::from_secs(99_950));
        assert_eq!(late.take.unwrap().as_str(), "auto-99900");
        assert_eq!(late.delete.len(), 1);
    }
}
