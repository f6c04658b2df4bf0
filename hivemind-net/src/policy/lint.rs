//! What is probably not meant: rules that never decide, selectors that match nothing, orders that nobody wrote.
//! No I/O, no clock, no async.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::compile::Fates;
use super::{AnyPolicy, Direction, Engine, Home, Peer, PolicyRef, PolicyRule};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Problem {
    /// The policy selects no workload.
    SelectsNothing,
    /// A peer of a rule matches no workload. The number is that of the peer.
    NoPeers(usize),
    /// The rule is about nobody, or no traffic: its peers match nothing, or nobody has its named ports.
    NeverApplies,
    /// All that the rule is about is decided before it is asked.
    Unreachable,
    /// Other rules allow all that it allows.
    Redundant,
    /// It and this rule have the same priority and say different things about the same traffic: it is their names
    /// that decide, and the other comes first.
    Tie {
        /// The policy that is asked first.
        first: PolicyRef,
        /// Which of its rules.
        rule: usize,
    },
}

/// One thing that is probably not meant, with the workloads there are at present.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// In which policy.
    pub policy: PolicyRef,
    /// Which of its rules, if it is about one.
    pub rule: Option<(Direction, usize)>,
    /// What is wrong.
    pub problem: Problem,
}

impl Engine {
    /// Everything that is probably not meant, in the order of the policies' names.
    pub fn lint(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for policy in self.world().policies() {
            self.lint_selectors(policy, &mut findings);
        }
        let mut fates = Fates::default();
        self.domains().for_each(|domain| fates.look(domain));
        for ((policy, direction, rule), fate) in fates.rules {
            // Of a policy that selects nobody, that is told already.
            let silent = Finding { policy: policy.clone(), rule: None, problem: Problem::SelectsNothing };
            let problem = match fate {
                _ if findings.contains(&silent) => continue,
                fate if !fate.applies => Problem::NeverApplies,
                fate if !fate.reached => Problem::Unreachable,
                fate if !fate.matters => Problem::Redundant,
                _ => continue,
            };
            findings.push(Finding { policy, rule: Some((direction, rule)), problem });
        }
        for ((first, _, rule), (policy, direction, later)) in fates.ties {
            findings.push(Finding {
                policy,
                rule: Some((direction, later)),
                problem: Problem::Tie { first, rule },
            });
        }
        findings.sort_unstable();
        findings
    }

    fn lint_selectors(&self, policy: &AnyPolicy, findings: &mut Vec<Finding>) {
        let profiles = || self.world().endpoints().map(|endpoint| &**endpoint.profile());
        let selects = profiles().any(|profile| match policy {
            AnyPolicy::Cluster(one) => one.selects(profile),
            AnyPolicy::Network(one) => one.selects(profile),
            AnyPolicy::Grant(one) => one.selects(profile),
        });
        if !selects {
            findings.push(Finding { policy: policy.key(), rule: None, problem: Problem::SelectsNothing });
            return;
        }
        let mut look = |direction: Direction, index: usize, rule: &PolicyRule| {
            for (number, peer) in rule.peers().iter().enumerate() {
                let Peer::Workloads(peer) = peer else { continue };
                let matched = match policy {
                    AnyPolicy::Network(one) => profiles().any(|profile| peer.matches(one.home(), profile)),
                    _ => profiles().any(|profile| {
                        peer.matches(Home { tenant: profile.tenant(), namespace: None }, profile)
                    }),
                };
                if !matched {
                    let rule = Some((direction, index));
                    findings.push(Finding { policy: policy.key(), rule, problem: Problem::NoPeers(number) });
                }
            }
        };
        for direction in Direction::ALL {
            match policy {
                AnyPolicy::Network(one) => {
                    let rules = one.spec().rules(direction).into_iter().flatten();
                    rules.enumerate().for_each(|(index, rule)| look(direction, index, rule));
                }
                AnyPolicy::Cluster(one) => {
                    let rules = one.rules(direction).iter().enumerate();
                    rules.for_each(|(index, rule)| look(direction, index, rule.rule()));
                }
                AnyPolicy::Grant(_) => {}
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((direction, rule)) = self.rule {
            write!(f, "{direction} rule {rule} of ")?;
        }
        write!(f, "{}: ", self.policy)?;
        match &self.problem {
            Problem::SelectsNothing => f.write_str("it selects no workload that there is"),
            Problem::NoPeers(peer) => write!(f, "peer {peer} matches no workload that there is"),
            Problem::NeverApplies => f.write_str("it is about nobody, or about ports that nobody has"),
            Problem::Unreachable => f.write_str("all it is about is decided before it is asked"),
            Problem::Redundant => f.write_str("other rules allow all that it allows"),
            Problem::Tie { first, rule } => {
                write!(
                    f,
                    "rule {rule} of {first} has the same priority and says otherwise; their names decide"
                )
            }
        }
    }
}
