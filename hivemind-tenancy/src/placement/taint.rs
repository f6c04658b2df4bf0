//! What keeps workloads off a node, and what workloads put up with. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::Timestamp;
use hivemind_core::labels::{LabelKey, LabelValue};
use serde::{Deserialize, Serialize};

use crate::isolation::DEDICATED_KEY;

/// What a taint does to workloads that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TaintEffect {
    /// New ones are kept away.
    NoSchedule,
    /// New ones go elsewhere if they can.
    PreferNoSchedule,
    /// New ones are kept away, and those that run are to go.
    NoExecute,
}

/// A mark on a node that keeps workloads away, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Taint {
    /// Its key.
    pub key: LabelKey,
    /// Its value, often empty.
    pub value: LabelValue,
    /// What it does.
    pub effect: TaintEffect,
    /// Since when it is there, if that is known: what tolerates it for a time counts from then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added: Option<Timestamp>,
}

impl Taint {
    /// The taint `key=value:effect`.
    pub fn new(key: LabelKey, value: LabelValue, effect: TaintEffect) -> Self {
        Self { key, value, effect, added: None }
    }

    /// There since `at`.
    #[must_use]
    pub fn since(mut self, at: Timestamp) -> Self {
        self.added = Some(at);
        self
    }

    /// Whether both say the same, whenever they came.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.key, &self.value, self.effect) == (&other.key, &other.value, other.effect)
    }

    /// Whether it keeps new workloads away for certain.
    pub fn repels(&self) -> bool {
        matches!(self.effect, TaintEffect::NoSchedule | TaintEffect::NoExecute)
    }

    /// Whose own its node is: the value of a taint [`DEDICATED_KEY`] that repels. It is a matter of tenants, not of
    /// tolerations: the owner's workloads put up with it, those of others do not get there by tolerating it.
    pub(crate) fn mark(&self) -> Option<&str> {
        (self.repels() && self.key.as_str() == DEDICATED_KEY).then(|| self.value.as_str())
    }

    /// Whether it puts out workloads of the tenant of that mark that do not tolerate it.
    pub(crate) fn puts_out(&self, own: &str) -> bool {
        self.effect == TaintEffect::NoExecute && self.mark() != Some(own)
    }
}

impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{:?}", self.key, self.value, self.effect)
    }
}

/// Which taints a toleration is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Tolerated {
    /// All of them.
    Everything,
    /// Those with this key, whatever their value.
    Exists(LabelKey),
    /// Those with this key and this value.
    Equal(LabelKey, LabelValue),
}

/// A workload puts up with some taints, as in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Toleration {
    /// Which.
    pub of: Tolerated,
    /// With this effect only; `None` means with any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    /// For so many seconds of a `NoExecute` taint; `None` means for ever. New workloads are let in all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl Toleration {
    /// Of taints with any effect.
    pub fn new(of: Tolerated) -> Self {
        Self { of, effect: None, seconds: None }
    }

    /// Of taints with this effect only.
    #[must_use]
    pub fn with_effect(mut self, effect: TaintEffect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// For so many seconds.
    #[must_use]
    pub fn for_seconds(mut self, seconds: u64) -> Self {
        self.seconds = Some(seconds);
        self
    }

    /// Whether it covers `taint`.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let covered = match &self.of {
            Tolerated::Everything => true,
            Tolerated::Exists(key) => *key == taint.key,
            Tolerated::Equal(key, value) => *key == taint.key && *value == taint.value,
        };
        covered && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

/// The first taint that keeps a new workload with these tolerations away, whoever's it is.
pub fn repelled_by<'a>(taints: &'a [Taint], tolerations: &[Toleration]) -> Option<&'a Taint> {
    repelled_among(taints.iter(), tolerations)
}

/// The same of some taints.
pub(crate) fn repelled_among<'a>(
    mut taints: impl Iterator<Item = &'a Taint>,
    tolerations: &[Toleration],
) -> Option<&'a Taint> {
    taints.find(|taint| taint.repels() && !tolerations.iter().any(|one| one.tolerates(taint)))
}

/// How many taints would rather have a workload with these tolerations elsewhere.
pub(crate) fn discouraging(taints: &[Taint], tolerations: &[Toleration]) -> usize {
    let against = |taint: &&Taint| {
        taint.effect == TaintEffect::PreferNoSchedule && !tolerations.iter().any(|one| one.tolerates(taint))
    };
    taints.iter().filter(against).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taint(key: &str, value: &str, effect: TaintEffect) -> Taint {
        Taint::new(key.parse().unwrap(), value.parse().unwrap(), effect)
    }

    #[test]
    fn tolerates_as_kubernetes_does() {
        use TaintEffect::{NoExecute, NoSchedule, PreferNoSchedule};
        let foo = || "foo".parse::<LabelKey>().unwrap();
        let equal = |value: &str| Toleration::new(Tolerated::Equal(foo(), value.parse().unwrap()));
        let exists = || Toleration::new(Tolerated::Exists(foo()));
        for (case, toleration, against, expected) in [
            ("same", equal("bar").with_effect(NoSchedule), taint("foo", "bar", NoSchedule), true),
            ("exists, any value", exists().with_effect(NoSchedule), taint("foo", "x", NoSchedule), true),
            ("no effect means all", exists(), taint("foo", "bar", NoExecute), true),
            ("other key", exists(), taint("other", "bar", NoSchedule), false),
            ("other value", equal("bar"), taint("foo", "baz", NoSchedule), false),
            ("other effect", equal("bar").with_effect(NoExecute), taint("foo", "bar", NoSchedule), false),
            ("everything", Toleration::new(Tolerated::Everything), taint("q", "", PreferNoSchedule), true),
        ] {
            assert_eq!(toleration.tolerates(&against), expected, "{case}");
        }
    }

    #[test]
    fn only_preferences_let_a_workload_in() {
        let soft = [taint("a", "", TaintEffect::PreferNoSchedule)];
        assert_eq!((repelled_by(&soft, &[]), discouraging(&soft, &[])), (None, 1));
        for effect in [TaintEffect::NoSchedule, TaintEffect::NoExecute] {
            let hard = [soft[0].clone(), taint("b", "", effect)];
            assert_eq!(repelled_by(&hard, &[]), hard.get(1));
            let tolerated = [Toleration::new(Tolerated::Exists("b".parse().unwrap()))];
            assert_eq!(repelled_by(&hard, &tolerated), None);
        }
    }
}
