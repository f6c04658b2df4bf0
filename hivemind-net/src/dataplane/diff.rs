//! The way from what a kernel holds to what it shall hold. No I/O, no clock, no async.
//!
//! The order is safe at every step: links go, or go down, before the rules that guarded them go or change; rules are in
//! force before a link comes up; what is used is there before its user; namespaces go last.

use super::op::{Action, Op};
use super::rules::{Hook, RuleTable, TableChange, TableKey};
use super::state::{KernelState, Link, LinkKind, LinkName, Mac, Netns, NetnsState, SysctlName};

/// The changes that make `desired` of `actual`, in an order in which they can be made; none if they are the same.
pub fn diff(actual: &KernelState, desired: &KernelState) -> Vec<Op> {
    let mut plan = Plan { desired, work: actual.clone(), ops: Vec::new() };
    plan.work.prune();
    if plan.work == *desired {
        return Vec::new();
    }
    plan.namespaces();
    // What is over is over before the rules forget what they knew of it.
    plan.each(Plan::links_down);
    plan.links_gone();
    // Before anything is forwarded, there are the rules for it.
    plan.each(|plan, at, want| plan.tables(at, want, false));
    plan.each(Plan::early_sysctls);
    plan.each(Plan::entries_gone);
    plan.links_made();
    plan.each(|plan, at, want| plan.tables(at, want, true));
    plan.each(Plan::links_changed);
    plan.each(Plan::addresses);
    plan.each(Plan::links_up);
    plan.each(Plan::forwarding);
    plan.each(Plan::routes);
    plan.tables_gone();
    plan.namespaces_gone();
    plan.ops
}

struct Plan<'a> {
    desired: &'a KernelState,
    /// The kernel after all changes so far.
    work: KernelState,
    ops: Vec<Op>,
}

static NOTHING: std::sync::LazyLock<NetnsState> = std::sync::LazyLock::new(NetnsState::default);

impl<'a> Plan<'a> {
    fn emit(&mut self, at: &Netns, action: Action) {
        let op = Op::new(at.clone(), action);
        // Every change is made for the state before it: none can be refused. If one were, the next comparison would
        // find what is missing.
        let _ = self.work.apply(&op);
        self.ops.push(op);
    }

    fn emit_all(&mut self, at: &Netns, actions: Vec<Action>) {
        for action in actions {
            self.emit(at, action);
        }
    }

    fn each(&mut self, step: impl Fn(&mut Self, &'a Netns, &'a NetnsState)) {
        let desired = self.desired;
        for (at, want) in &desired.namespaces {
            step(self, at, want);
        }
    }

    fn have(&self, at: &Netns) -> &NetnsState {
        self.work.namespaces.get(at).unwrap_or(&NOTHING)
    }

    /// What is wanted in each namespace where something is.
    fn wanted(&self) -> Vec<(Netns, &'a NetnsState)> {
        let desired = self.desired;
        let want = |at: &Netns| -> &'a NetnsState { desired.namespaces.get(at).unwrap_or(&NOTHING) };
        self.work.namespaces.keys().map(|at| (at.clone(), want(at))).collect()
    }

    fn namespaces(&mut self) {
        self.each(|plan, at, want| match (plan.have(at).owned, want.owned) {
            (false, true) => plan.emit(at, Action::CreateNetns),
            (true, false) => plan.emit(at, Action::DisownNetns),
            _ => {}
        });
    }

    /// Those of links that are not ours come first: an uplink that is to go on listening to routers has to know so before
    /// its machine forwards, or the kernel forgets its default route at once.
    fn early_sysctls(&mut self, at: &Netns, want: &NetnsState) {
        let foreign = |name: &SysctlName| name.link().is_some_and(|link| !want.links.contains_key(&link));
        self.sysctls(at, want, foreign);
        self.sysctls(at, want, |name| name.link().is_none());
    }

    fn sysctls(&mut self, at: &Netns, want: &NetnsState, which: impl Fn(&SysctlName) -> bool) {
        let have = &self.have(at).sysctls;
        let differing =
            want.sysctls.iter().filter(|(name, value)| which(name) && have.get(*name) != Some(*value));
        let actions = differing.map(|(name, value)| Action::SetSysctl(name.clone(), value.clone())).collect();
        self.emit_all(at, actions);
    }

    /// Tables that are bound to a link come after the links, the others before.
    fn tables(&mut self, at: &Netns, want: &NetnsState, bound: bool) {
        let have = &self.have(at).tables;
        let mut actions = Vec::new();
        for (key, table) in want.tables.iter().filter(|(_, table)| is_bound(table) == bound) {
            actions.extend(table_action(key, have.get(key), table));
        }
        self.emit_all(at, actions);
    }

    fn links_down(&mut self, at: &Netns, want: &NetnsState) {
        let down = |(name, link): (&LinkName, &Link)| {
            let wanted = want.links.get(name).is_some_and(|want| !want.up && same_link(want, link));
            (link.up && wanted).then(|| Action::SetUp(name.clone(), false))
        };
        let actions = self.have(at).links.iter().filter_map(down).collect();
        self.emit_all(at, actions);
    }

    fn links_gone(&mut self) {
        for (at, want) in self.wanted() {
            let gone = |(name, link): (&LinkName, &Link)| {
                let kept = want.links.get(name).is_some_and(|want| same_link(want, link));
                (!kept).then(|| name.clone())
            };
            let names: Vec<_> = self.have(&at).links.iter().filter_map(gone).collect();
            for name in names {
                // The other end of a pair, or a tunnel over a link, may have taken it along.
                if self.work.link(&at, &name).is_some() {
                    self.emit(&at, Action::DeleteLink(name));
                }
            }
        }
    }

    fn entries_gone(&mut self, at: &Netns, want: &NetnsState) {
        let have = self.have(at);
        let mut actions = Vec::new();
        for key in have.routes.keys().filter(|key| !want.routes.contains_key(*key)) {
            actions.push(Action::DeleteRoute(key.clone()));
        }
        for (key, is) in &have.neighbours {
            // One kind does not replace the other.
            let same_kind = want
                .neighbours
                .get(key)
                .is_some_and(|w| std::mem::discriminant(w) == std::mem::discriminant(is));
            if !same_kind {
                actions.push(Action::DeleteNeighbour(key.clone(), *is));
            }
        }
        for (key, port) in have.bridge_macs.iter().filter(|(key, _)| !want.bridge_macs.contains_key(*key)) {
            actions.push(Action::DeleteBridgeMac(key.clone(), port.clone()));
        }
        for (key, remotes) in &have.remotes {
            let wanted = want.remotes.get(key);
            // The one remote of a MAC is replaced without a gap.
            let replaced = key.mac != Mac::ZERO && remotes.len() == 1 && wanted.is_some();
            for to in remotes.iter().filter(|to| !replaced && wanted.is_none_or(|w| !w.contains(to))) {
                actions.push(Action::DeleteRemote(key.clone(), *to));
            }
        }
        for (key, _) in have.addresses.iter().filter(|(key, is)| want.addresses.get(*key) != Some(*is)) {
            actions.push(Action::DeleteAddress(key.clone()));
        }
        let reset = have.sysctls.keys().filter(|name| !want.sysctls.contains_key(*name));
        actions.extend(reset.map(|name| Action::ResetSysctl(name.clone())));
        self.emit_all(at, actions);
    }

    fn links_made(&mut self) {
        let mut missing = Vec::new();
        for (at, want) in &self.desired.namespaces {
            for (name, link) in want.links.iter().filter(|(name, _)| !self.have(at).links.contains_key(*name))
            {
                missing.push((rank(&link.kind), at, name, link));
            }
        }
        missing.sort_by_key(|(rank, ..)| *rank);
        for (_, at, name, link) in missing {
            // The other end of a pair was made with the first.
            if self.work.link(at, name).is_some() {
                continue;
            }
            let peer = match &link.kind {
                LinkKind::Veth { peer_netns, peer } => {
                    self.desired.link(peer_netns, peer).cloned().map(Box::new)
                }
                LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Dummy | LinkKind::Unknown(_) => None,
            };
            self.emit(at, Action::CreateLink { name: name.clone(), link: Box::new(link.clone()), peer });
        }
    }

    fn links_changed(&mut self, at: &Netns, want: &NetnsState) {
        let mut links: Vec<_> = want.links.iter().collect();
        links.sort_by_key(|(_, link)| rank(&link.kind));
        for (name, link) in links {
            let Some(is) = self.have(at).links.get(name).cloned() else { continue };
            let mut actions = Vec::new();
            if is.mac != link.mac {
                actions.push(Action::SetMac(name.clone(), link.mac));
            }
            if is.mtu != link.mtu {
                actions.push(Action::SetMtu(name.clone(), link.mtu));
            }
            if is.link_local != link.link_local {
                actions.push(Action::SetLinkLocal(name.clone(), link.link_local));
            }
            if is.master != link.master {
                actions.push(Action::SetMaster(name.clone(), link.master.clone()));
            }
            self.emit_all(at, actions);
            if self.have(at).links.get(name).is_some_and(|is| is.port != link.port) {
                self.emit(at, Action::SetPort(name.clone(), link.port));
            }
        }
        self.sysctls(at, want, |name| name.link().is_some());
    }

    fn addresses(&mut self, at: &Netns, want: &NetnsState) {
        let have = &self.have(at).addresses;
        let missing = want.addresses.iter().filter(|(key, _)| !have.contains_key(*key));
        let actions = missing.map(|(key, address)| Action::AddAddress(key.clone(), *address)).collect();
        self.emit_all(at, actions);
    }

    fn links_up(&mut self, at: &Netns, want: &NetnsState) {
        let mut up: Vec<_> = want
            .links
            .iter()
            .filter(|(name, link)| link.up && self.have(at).links.get(*name).is_some_and(|is| !is.up))
            .collect();
        up.sort_by_key(|(_, link)| rank(&link.kind));
        let actions = up.into_iter().map(|(name, _)| Action::SetUp(name.clone(), true)).collect();
        self.emit_all(at, actions);
    }

    fn forwarding(&mut self, at: &Netns, want: &NetnsState) {
        let have = self.have(at);
        let mut actions = Vec::new();
        for (key, port) in
            want.bridge_macs.iter().filter(|(key, port)| have.bridge_macs.get(*key) != Some(*port))
        {
            actions.push(Action::SetBridgeMac(key.clone(), port.clone()));
        }
        for (key, remotes) in &want.remotes {
            let known = have.remotes.get(key);
            for to in remotes.iter().filter(|to| known.is_none_or(|known| !known.contains(to))) {
                actions.push(if key.mac == Mac::ZERO {
                    Action::AddRemote(key.clone(), *to)
                } else {
                    Action::SetRemote(key.clone(), *to)
                });
            }
        }
        for (key, is) in want.neighbours.iter().filter(|(key, is)| have.neighbours.get(*key) != Some(*is)) {
            actions.push(Action::SetNeighbour(key.clone(), *is));
        }
        self.emit_all(at, actions);
    }

    fn routes(&mut self, at: &Netns, want: &NetnsState) {
        let have = &self.have(at).routes;
        let mut differing: Vec<_> =
            want.routes.iter().filter(|(key, route)| have.get(*key) != Some(*route)).collect();
        // A next hop must be reachable before there is a route by it.
        differing.sort_by_key(|(_, route)| has_gateway(route));
        let action = |(key, route): (&_, &super::state::Route)| match have.get(key) {
            Some(_) => Action::ReplaceRoute(Clone::clone(key), route.clone()),
            None => Action::AddRoute(Clone::clone(key), route.clone()),
        };
        let actions = differing.into_iter().map(action).collect();
        self.emit_all(at, actions);
    }

    fn tables_gone(&mut self) {
        for (at, want) in self.wanted() {
            // A namespace that goes takes its rules along, and not before.
            if self.goes(&at, want) {
                continue;
            }
            let gone = self.have(&at).tables.keys().filter(|key| !want.tables.contains_key(*key));
            let actions = gone.map(|key| Action::DeleteTable(key.clone())).collect();
            self.emit_all(&at, actions);
        }
    }

    fn goes(&self, at: &Netns, want: &NetnsState) -> bool {
        self.have(at).owned && !want.owned && !self.desired.namespaces.contains_key(at)
    }

    fn namespaces_gone(&mut self) {
        for (at, want) in self.wanted() {
            if self.goes(&at, want) {
                self.emit(&at, Action::DeleteNetns);
            } else if !self.desired.namespaces.contains_key(&at) {
                self.entries_gone(&at, want);
            }
        }
    }
}

/// Whether one can be made of the other by changes alone.
fn same_link(want: &Link, is: &Link) -> bool {
    want.kind == is.kind
}

/// What is below comes first.
fn rank(kind: &LinkKind) -> u8 {
    match kind {
        LinkKind::Bridge | LinkKind::Dummy | LinkKind::Unknown(_) => 0,
        LinkKind::Veth { .. } => 1,
        LinkKind::Vxlan(_) => 2,
    }
}

fn has_gateway(route: &super::state::Route) -> bool {
    matches!(&route.target, super::state::RouteTarget::Link { gateway: Some(_), .. })
}

fn is_bound(table: &RuleTable) -> bool {
    table
        .chains
        .values()
        .any(|chain| chain.base.as_ref().is_some_and(|base| matches!(base.hook, Hook::Ingress(_))))
}

fn table_action(key: &TableKey, have: Option<&RuleTable>, want: &RuleTable) -> Option<Action> {
    let Some(have) = have else { return Some(Action::PutTable(key.clone(), Box::new(want.clone()))) };
    if have == want {
        return None;
    }
    let action = match TableChange::between(have, want) {
        Some(change) => Action::ChangeTable(key.clone(), Box::new(change)),
        None => Action::PutTable(key.clone(), Box::new(want.clone())),
    };
    Some(action)
}
