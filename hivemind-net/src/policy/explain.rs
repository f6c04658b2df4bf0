//! Why a flow passes or not: what decided, and what became of every rule that was asked. No I/O, no clock, no async.

use std::fmt;

use hivemind_core::TenantRef;
use serde::{Deserialize, Serialize};

use super::eval::{Applicable, Ends, Question, Told};
use super::{
    Action, Asked, Decision, Direction, Engine, Flow, InvalidFlow, Outcome, Party, PolicyRef, Side, Verdict,
    World,
};

/// What one end of a flow says, and all it asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SideExplanation {
    /// What it says, and what decided.
    pub side: Side,
    /// Every rule that was asked, in order. Rules after one of a cluster policy that decides are not asked. If the
    /// policies of the tenant have more than 64 rules about the workload, those that mean others than the other end are
    /// not listed.
    pub asked: Vec<Asked>,
    /// How many rules were not listed.
    #[serde(default)]
    pub others: usize,
}

/// What both ends of a flow say, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The flow.
    pub flow: Flow,
    /// Whether it passes.
    pub verdict: Verdict,
    /// The sender's end, if it is a workload.
    pub egress: Option<SideExplanation>,
    /// The receiver's end, if it is a workload.
    pub ingress: Option<SideExplanation>,
}

impl Explanation {
    fn new<'a>(flow: &Flow, ends: &Ends<'a>, policies: impl Fn(&Question<'a>) -> Applicable<'a>) -> Self {
        let side = |direction| {
            let question = ends.question(direction)?;
            let (mut asked, mut others) = (Vec::new(), 0);
            let side = question.decide(&policies(&question), &mut |told| match told {
                Told::Rule(one) => asked.push(one),
                Told::Others(count) => others += count,
            });
            Some(SideExplanation { side, asked, others })
        };
        let (egress, ingress) = (side(Direction::Egress), side(Direction::Ingress));
        let said = |one: &Option<SideExplanation>| one.as_ref().map(|one| one.side.clone());
        let verdict = Decision::new(said(&egress), said(&ingress)).verdict();
        Self { flow: flow.clone(), verdict, egress, ingress }
    }

    /// The same as the tenant may know it: of the end of another tenant nothing is told, not even its verdict, and
    /// of policies of the cluster what they decided, not what they were.
    #[must_use]
    pub fn seen_by(mut self, tenant: &TenantRef) -> Self {
        let own = |party: &Party| matches!(party, Party::Workload(key) if key.tenant == *tenant);
        let visible = |asked: &Asked| !matches!(asked.policy, PolicyRef::Cluster(_));
        let keep = |side: Option<SideExplanation>, own: bool| {
            side.filter(|_| own).map(|mut side| {
                side.asked.retain(visible);
                side
            })
        };
        let (from, to) = (own(&self.flow.from), own(&self.flow.to));
        self.egress = keep(self.egress, from);
        self.ingress = keep(self.ingress, to);
        let said = self.egress.iter().chain(&self.ingress);
        self.verdict =
            Verdict::of(said.clone().count() > 0 && said.clone().all(|one| one.side.verdict.passes()));
        self
    }
}

impl Engine {
    /// Whether a flow passes, and why. Only the policies that select its ends are looked at; of many, only those that
    /// mean the other end.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn explain(&self, flow: &Flow) -> Result<Explanation, InvalidFlow> {
        let ends = Ends::find(self.world(), flow)?;
        Ok(Explanation::new(flow, &ends, |question| self.applicable(question, flow)))
    }
}

impl World {
    /// The same as [`Engine::explain`], from all policies.
    ///
    /// # Errors
    /// [`InvalidFlow`]: there is no such flow.
    pub fn explain(&self, flow: &Flow) -> Result<Explanation, InvalidFlow> {
        let ends = Ends::find(self, flow)?;
        Ok(Explanation::new(flow, &ends, |_| Applicable::of(self.policies())))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload(key) => write!(f, "{} of {}", key.id, key.tenant.id),
            Self::Host(node, address) => write!(f, "host {node} ({address})"),
            Self::Outside(address) => write!(f, "{address}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Applied(Action::Allow) => "allows it",
            Self::Applied(Action::Deny) => "denies it",
            Self::Applied(Action::Pass) => "passes it on",
            Self::OtherPeers => "its peers are others",
            Self::OtherPorts => "its ports are others",
            Self::NoRules => "has no rule",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { from, to, family, traffic } = &self.flow;
        write!(f, "{from} to {to}, {traffic} over {family:?}: {}", self.verdict)?;
        for (direction, side) in [(Direction::Egress, &self.egress), (Direction::Ingress, &self.ingress)] {
            let Some(SideExplanation { side, asked, others }) = side else { continue };
            write!(f, "\n  {direction} {side}")?;
            for Asked { policy, rule, outcome } in asked {
                match outcome {
                    Outcome::NoRules => write!(f, "\n    {policy}: {outcome}")?,
                    _ => write!(f, "\n    rule {rule} of {policy}: {outcome}")?,
                }
            }
            if *others > 0 {
                write!(f, "\n    {others} more rules: their peers are others")?;
            }
        }
        Ok(())
    }
}
