//! What a change does to a kernel, everything that it drags along included. No I/O, no clock, no async.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;

use hivemind_core::ErrorKind;

use super::op::{Action, Op};
use super::rules::Hook;
use super::state::{KernelState, Link, LinkKind, LinkName, Netns, NetnsState, PortSettings};

/// A change that a kernel would refuse. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op} is refused: {problem}")]
pub struct Refused {
    op: String,
    kind: ErrorKind,
    problem: String,
}

impl Refused {
    /// What kind of refusal: it is there already, it is missing, or it cannot be.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

/// Why something is refused.
type Problem = (ErrorKind, String);

fn there(what: impl std::fmt::Display) -> Problem {
    (ErrorKind::AlreadyExists, format!("{what} is there already"))
}

fn missing(what: impl std::fmt::Display) -> Problem {
    (ErrorKind::NotFound, format!("{what} is not there"))
}

fn invalid(problem: impl std::fmt::Display) -> Problem {
    (ErrorKind::Invalid, problem.to_string())
}

impl KernelState {
    /// Makes one change.
    ///
    /// # Errors
    /// What is to be made is there, or what is to be changed is not.
    pub fn apply(&mut self, op: &Op) -> Result<(), Refused> {
        let refused = |(kind, problem): Problem| Refused { op: op.to_string(), kind, problem };
        match &op.action {
            Action::CreateNetns => {
                let netns = self.namespace_mut(&op.netns);
                if netns.owned {
                    return Err(refused(there("it")));
                }
                netns.owned = true;
            }
            Action::DeleteNetns => self.delete_netns(&op.netns),
            Action::CreateLink { name, link, peer } => {
                self.create_link(&op.netns, name, link, peer.as_deref()).map_err(refused)?;
            }
            Action::DeleteLink(name) => {
                if self.link(&op.netns, name).is_none() {
                    return Err(refused(missing("it")));
                }
                self.delete_link(&op.netns, name);
            }
            action => self.namespace_mut(&op.netns).apply(action).map_err(refused)?,
        }
        self.prune();
        Ok(())
    }

    /// Leaves out namespaces in which nothing is ours.
    pub fn prune(&mut self) {
        self.namespaces.retain(|_, netns| netns.owned || !netns.is_empty());
    }

    fn create_link(
        &mut self,
        at: &Netns,
        name: &LinkName,
        link: &Link,
        peer: Option<&Link>,
    ) -> Result<(), Problem> {
        let bare =
            |link: &Link| Link { up: false, master: None, port: PortSettings::default(), ..link.clone() };
        if self.link(at, name).is_some() {
            return Err(there("it"));
        }
        if let LinkKind::Unknown(what) = &link.kind {
            return Err(invalid(format_args!("nobody knows how to make it: {what}")));
        }
        if let LinkKind::Veth { peer_netns, peer: peer_name } = &link.kind {
            let Some(peer) = peer else { return Err(invalid("the other end is not given")) };
            if self.link(peer_netns, peer_name).is_some() {
                return Err(there(format_args!("the other end {peer_name}")));
            }
            self.namespace_mut(peer_netns).links.insert(peer_name.clone(), bare(peer));
        }
        self.namespace_mut(at).links.insert(name.clone(), bare(link));
        Ok(())
    }

    fn delete_link(&mut self, at: &Netns, name: &LinkName) {
        let mut going = vec![(at.clone(), name.clone())];
        while let Some((at, name)) = going.pop() {
            let Some(netns) = self.namespaces.get_mut(&at) else { continue };
            let Some(link) = netns.links.remove(&name) else { continue };
            going.extend(netns.forget_link(&name).into_iter().map(|name| (at.clone(), name)));
            if let LinkKind::Veth { peer_netns, peer } = link.kind {
                going.push((peer_netns, peer));
            }
        }
    }

    fn delete_netns(&mut self, at: &Netns) {
        let Some(netns) = self.namespaces.get(at) else { return };
        let links: Vec<_> = netns.links.keys().cloned().collect();
        for link in links {
            self.delete_link(at, &link);
        }
        self.namespaces.remove(at);
        let carried: Vec<_> = self
            .namespaces
            .iter()
            .flat_map(|(other, netns)| netns.links.iter().map(move |(name, link)| (other, name, link)))
            .filter(|(.., link)| matches!(&link.kind, LinkKind::Vxlan(vxlan) if vxlan.underlay.as_ref() == Some(at)))
            .map(|(other, name, _)| (other.clone(), name.clone()))
            .collect();
        for (other, name) in carried {
            self.delete_link(&other, &name);
        }
    }
}

impl NetnsState {
    /// Drops what hung on a link that is gone; gives back the links that go with it.
    fn forget_link(&mut self, name: &LinkName) -> Vec<LinkName> {
        self.addresses.retain(|key, _| key.dev != *name);
        self.routes.retain(|_, route| route.dev() != Some(name));
        self.neighbours.retain(|key, _| key.dev != *name);
        self.remotes.retain(|key, _| key.dev != *name);
        self.bridge_macs.retain(|key, port| key.bridge != *name && port != name);
        self.sysctls.retain(|sysctl, _| sysctl.link().as_ref() != Some(name));
        for port in self.links.values_mut().filter(|link| link.master.as_ref() == Some(name)) {
            port.master = None;
            port.port = PortSettings::default();
        }
        let hooked = Hook::Ingress(name.clone());
        for table in self.tables.values_mut() {
            table.chains.retain(|_, chain| chain.base.as_ref().is_none_or(|base| base.hook != hooked));
        }
        let above = self.links.iter().filter(|(_, link)| match &link.kind {
            LinkKind::Vxlan(vxlan) => vxlan.dev.as_ref() == Some(name),
            LinkKind::Bridge | LinkKind::Veth { .. } | LinkKind::Dummy | LinkKind::Unknown(_) => false,
        });
        above.map(|(name, _)| name.clone()).collect()
    }

    fn link_mut(&mut self, name: &LinkName) -> Result<&mut Link, Problem> {
        self.links.get_mut(name).ok_or_else(|| missing(format_args!("link {name}")))
    }

    fn apply(&mut self, action: &Action) -> Result<(), Problem> {
        match action {
            Action::DisownNetns => self.owned = false,
            Action::SetSysctl(name, value) => drop(self.sysctls.insert(name.clone(), value.clone())),
            Action::ResetSysctl(name) => drop(self.sysctls.remove(name)),
            Action::SetMac(name, mac) => self.link_mut(name)?.mac = *mac,
            Action::SetMtu(name, mtu) => self.link_mut(name)?.mtu = *mtu,
            Action::SetLinkLocal(name, on) => self.link_mut(name)?.link_local = *on,
            Action::SetMaster(name, master) => {
                let link = self.link_mut(name)?;
                link.master.clone_from(master);
                link.port = PortSettings::default();
                self.bridge_macs.retain(|_, port| port != name);
            }
            Action::SetPort(name, port) => {
                let link = self.link_mut(name)?;
                if link.master.is_none() {
                    return Err(invalid("it is a port of no bridge"));
                }
                link.port = *port;
            }
            Action::SetUp(name, up) => {
                self.link_mut(name)?.up = *up;
                if !up {
                    self.addresses.retain(|key, _| key.dev != *name || key.address.is_ipv4());
                    self.routes.retain(|_, route| route.dev() != Some(name));
                    self.neighbours.retain(|key, _| key.dev != *name);
                }
            }
            _ => self.apply_entry(action)?,
        }
        Ok(())
    }

    fn apply_entry(&mut self, action: &Action) -> Result<(), Problem> {
        let it = || missing("it");
        match action {
            Action::AddAddress(key, address) => match self.addresses.entry(key.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(*address)),
                Entry::Occupied(_) => return Err(there("it")),
            },
            Action::DeleteAddress(key) => drop(self.addresses.remove(key).ok_or_else(it)?),
            Action::AddRoute(key, route) => match self.routes.entry(key.clone()) {
                Entry::Vacant(entry) => drop(entry.insert(route.clone())),
                Entry::Occupied(_) => return Err(there("it")),
            },
            Action::ReplaceRoute(key, route) => {
                *self.routes.get_mut(key).ok_or_else(it)? = route.clone();
            }
            Action::DeleteRoute(key) => drop(self.routes.remove(key).ok_or_else(it)?),
            Action::SetNeighbour(key, neighbour) => drop(self.neighbours.insert(key.clone(), *neighbour)),
            Action::DeleteNeighbour(key, _) => drop(self.neighbours.remove(key).ok_or_else(it)?),
            Action::SetRemote(key, to) => drop(self.remotes.insert(key.clone(), BTreeSet::from([*to]))),
            Action::AddRemote(key, to) => {
                if !self.remotes.entry(key.clone()).or_default().insert(*to) {
                    return Err(there("it"));
                }
            }
            Action::DeleteRemote(key, to) => {
                let remotes = self.remotes.get_mut(key).ok_or_else(it)?;
                remotes.remove(to);
                if remotes.is_empty() {
                    self.remotes.remove(key);
                }
            }
            Action::SetBridgeMac(key, port) => {
                // A port that is not ours is not here, and its bridge not known.
                if self.links.get(port).is_some_and(|link| link.master.as_ref() != Some(&key.bridge)) {
                    return Err(invalid(format_args!("link {port} is no port of bridge {}", key.bridge)));
                }
                self.bridge_macs.insert(key.clone(), port.clone());
            }
            Action::DeleteBridgeMac(key, _) => drop(self.bridge_macs.remove(key).ok_or_else(it)?),
            Action::PutTable(key, table) => {
                table.validate().map_err(invalid)?;
                self.tables.insert(key.clone(), (**table).clone());
            }
            Action::ChangeTable(key, change) => {
                let mut table = self.tables.get(key).ok_or_else(it)?.clone();
                change.apply(&mut table);
                table.validate().map_err(invalid)?;
                self.tables.insert(key.clone(), table);
            }
            Action::DeleteTable(key) => drop(self.tables.remove(key).ok_or_else(it)?),
            _ => return Err(invalid("it is no change of an entry")),
        }
        Ok(())
    }
}
