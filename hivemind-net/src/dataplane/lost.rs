//! What is given up once a change was refused, so that the rest can still be made. No I/O, no clock, no async.

use std::collections::BTreeSet;

use super::op::{Action, Op};
use super::state::{LinkKind, LinkName, Netns};

/// Namespaces and links about which something was refused: nothing more is done there, for it may depend on that.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    namespaces: BTreeSet<Netns>,
    links: BTreeSet<(Netns, LinkName)>,
}

impl Lost {
    /// `op` was refused. What is about one link costs that link, on both sides; anything else, such as the rules of a
    /// namespace, costs all that would come after it there: no link goes up behind rules that are missing.
    pub(crate) fn refused(&mut self, op: &Op) {
        match &op.action {
            Action::CreateLink { name, link, .. } => self.lose(&op.netns, name, &link.kind),
            action => match action.link() {
                Some(link) => {
                    self.links.insert((op.netns.clone(), link));
                }
                None => {
                    self.namespaces.insert(op.netns.clone());
                }
            },
        }
    }

    fn lose(&mut self, at: &Netns, name: &LinkName, kind: &LinkKind) {
        self.links.insert((at.clone(), name.clone()));
        if let LinkKind::Veth { peer_netns, peer } = kind {
            self.links.insert((peer_netns.clone(), peer.clone()));
        }
    }

    /// What is left to do of `ops`, in order.
    pub(crate) fn left(&mut self, ops: &[Op]) -> Vec<Op> {
        let mut left = Vec::new();
        for op in ops {
            if let Action::CreateLink { name, link, .. } = &op.action
                && (self.is_lost(op) || self.leads_to_lost(&link.kind))
            {
                self.lose(&op.netns, name, &link.kind);
            } else if !self.is_lost(op) {
                left.push(op.clone());
            }
        }
        left
    }

    fn is_lost(&self, op: &Op) -> bool {
        let of_link = |link: LinkName| self.links.contains(&(op.netns.clone(), link));
        self.namespaces.contains(&op.netns) || op.action.link().is_some_and(of_link)
    }

    fn leads_to_lost(&self, kind: &LinkKind) -> bool {
        match kind {
            LinkKind::Veth { peer_netns, peer } => {
                self.namespaces.contains(peer_netns)
                    || self.links.contains(&(peer_netns.clone(), peer.clone()))
            }
            LinkKind::Vxlan(tunnel) => {
                tunnel.underlay.as_ref().is_some_and(|below| self.namespaces.contains(below))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::state::{Link, Mac};

    fn netns(name: &str) -> Netns {
        name.parse().unwrap()
    }

    fn link(name: &str) -> LinkName {
        name.parse().unwrap()
    }

    fn pair(router: &str, end: &str, workload: &str) -> Op {
        let kind = LinkKind::Veth { peer_netns: netns(workload), peer: link("eth0") };
        let made = Link::new(kind, Mac::ZERO, 1500);
        Op::new(
            netns(router),
            Action::CreateLink { name: link(end), link: Box::new(made.clone()), peer: Some(Box::new(made)) },
        )
    }

    fn up(at: &str, name: &str) -> Op {
        Op::new(netns(at), Action::SetUp(link(name), true))
    }

    fn sysctl(at: &str) -> Op {
        Op::new(netns(at), Action::SetSysctl("net/ipv4/ip_forward".parse().unwrap(), "1".to_owned()))
    }

    #[test]
    fn a_namespace_that_is_gone_costs_the_links_to_it_and_nothing_else() {
        let mut lost = Lost::default();
        lost.refused(&sysctl("w1"));
        let ops = [
            sysctl("w1"),
            pair("red", "a", "w1"),
            pair("red", "b", "w2"),
            up("red", "a"),
            up("red", "b"),
            up("w1", "eth0"),
            up("w2", "eth0"),
        ];
        assert_eq!(lost.left(&ops), [ops[2].clone(), ops[4].clone(), ops[6].clone()]);
    }

    #[test]
    fn a_link_that_is_refused_costs_both_of_its_ends() {
        let mut lost = Lost::default();
        lost.refused(&pair("red", "a", "w1"));
        let ops = [up("red", "a"), up("red", "b"), up("w1", "eth0"), sysctl("w1")];
        assert_eq!(lost.left(&ops), [ops[1].clone(), ops[3].clone()]);
    }

    #[test]
    fn no_link_goes_up_where_rules_were_refused() {
        let mut lost = Lost::default();
        let key = crate::dataplane::rules::TableKey::new(
            crate::dataplane::rules::Family::Inet,
            "policy".parse().unwrap(),
        );
        lost.refused(&Op::new(netns("red"), Action::DeleteTable(key)));
        let ops = [up("red", "a"), pair("red", "b", "w2"), up("w2", "eth0"), up("blue", "a")];
        assert_eq!(lost.left(&ops), [ops[3].clone()]);
    }
}
