//! One operation after the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use hivemind_core::ErrorKind;

use super::entry::{self, Write};
use super::fault::Fault;
use super::link::{self, Seen};
use super::netlink::Message;
use super::netns::{self, Inside, move_to};
use super::{Kernel, nft};
use crate::dataplane::rules::{RuleTable, TableChange, TableKey};
use crate::dataplane::state::{
    AddressKey, Link, LinkKind, LinkName, Mac, Neighbour, NeighbourKey, Netns, Route, RouteKey, Vxlan,
};
use crate::dataplane::{Action, Op};

/// The namespaces that one call has been in.
type Open = BTreeMap<Netns, Inside>;

impl Kernel {
    /// On failure, how many were made before.
    pub(super) fn apply(&mut self, ops: &[Op]) -> Result<(), (usize, Fault)> {
        self.kept.tidy();
        let mut open = Open::new();
        for (done, op) in ops.iter().enumerate() {
            self.apply_one(&mut open, op).map_err(|fault| (done, fault))?;
        }
        self.keep(open);
        Ok(())
    }

    fn apply_one(&mut self, open: &mut Open, op: &Op) -> Result<(), Fault> {
        let at = &op.netns;
        match &op.action {
            Action::CreateNetns => return self.create_netns(open, at),
            Action::DeleteNetns => {
                self.owned(open, at)?;
                open.remove(at);
                self.kept.forget(at);
                self.leave();
                netns::delete(at)?;
                return self.saved.forget(at, None);
            }
            Action::CreateLink { name, link, peer } => {
                return self.create_link(open, at, name, link, peer.as_deref());
            }
            _ => {}
        }
        let inside = self.inside(open, at)?;
        match &op.action {
            Action::DisownNetns => send(inside, &[link::unmark_loopback()], "take the mark of lo away"),
            Action::SetSysctl(name, value) => {
                move_to(&inside.file, at)?;
                self.saved.set(at, name, value)
            }
            Action::ResetSysctl(name) => {
                move_to(&inside.file, at)?;
                self.saved.reset(at, name)
            }
            Action::DeleteLink(name) => {
                let index = self.ours(inside, name)?.index;
                send(inside, &[link::delete(index)], "delete it")?;
                self.saved.forget(at, Some(name))
            }
            Action::PutTable(key, table) => self.put_table(inside, key, table),
            Action::ChangeTable(key, change) => self.change_table(inside, key, change),
            Action::DeleteTable(key) => {
                self.our_table(inside, key)?;
                nft::delete(&mut inside.netfilter, key)
            }
            action => self.change_link(inside, action),
        }
    }

    fn inside<'o>(&mut self, open: &'o mut Open, at: &Netns) -> Result<&'o mut Inside, Fault> {
        if !open.contains_key(at) {
            let inside = self.enter(at)?.ok_or_else(|| missing(format!("namespace {at}")))?;
            open.insert(at.clone(), inside);
        }
        open.get_mut(at).ok_or_else(|| missing(format!("namespace {at}")))
    }

    fn owned(&mut self, open: &mut Open, at: &Netns) -> Result<(), Fault> {
        let inside = self.inside(open, at)?;
        let lo = link::one(&mut inside.route, "lo")?;
        if lo.is_some_and(|lo| lo.alias == self.marks.owner) {
            Ok(())
        } else {
            Err(Fault::foreign(format!("namespace {at}")))
        }
    }

    fn create_netns(&mut self, open: &mut Open, at: &Netns) -> Result<(), Fault> {
        open.remove(at);
        self.kept.forget(at);
        let owner = &self.marks.owner;
        netns::create(at, owner, |route| {
            let marked = route.request(&[link::mark_loopback(owner)]);
            marked.map_err(|(_, errno)| Fault::system("mark it and bring lo up", errno))
        })
    }

    fn create_link(
        &mut self,
        open: &mut Open,
        at: &Netns,
        name: &LinkName,
        link: &Link,
        peer: Option<&Link>,
    ) -> Result<(), Fault> {
        let owner = &self.marks.owner.clone();
        let there: Option<(Netns, LinkName, Arc<File>)> = match &link.kind {
            LinkKind::Veth { peer_netns, peer } => {
                let file = self.inside(open, peer_netns)?.file.clone();
                Some((peer_netns.clone(), peer.clone(), file))
            }
            LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Dummy | LinkKind::Unknown(_) => None,
        };
        let inside = self.inside(open, at)?;
        if link::one(&mut inside.route, name.as_str())?.is_some() {
            return Err(Fault::foreign(format!("link {name}")));
        }
        let ends = peer.zip(there.as_ref().map(|(.., file)| &**file));
        let mark = link::mark(name, link.link_local, link.mtu, owner);
        match &link.kind {
            LinkKind::Vxlan(Vxlan { underlay: Some(underlay), .. }) if underlay != at => {
                let own = inside.file.clone();
                let carrier = self.inside(open, underlay)?;
                // It is there for a moment: a link of that name would be marked and handed over in its place.
                if link::one(&mut carrier.route, name.as_str())?.is_some() {
                    return Err(Fault::foreign(format!("link {name} in namespace {underlay}")));
                }
                let create = link::create(&mut carrier.route, name, link, None)?;
                let hand_over = link::hand_over(name, &own);
                send(carrier, &[create, mark.clone(), hand_over], "make it")?;
                // What the kernel keeps per namespace of a link begins anew after the move.
                send(self.inside(open, at)?, &[mark], "set it up")?;
            }
            _ => {
                let create = link::create(&mut inside.route, name, link, ends)?;
                send(inside, &[create, mark], "make it")?;
            }
        }
        let Some(((peer_netns, peer_name, _), peer)) = there.zip(peer) else { return Ok(()) };
        let inside = self.inside(open, &peer_netns)?;
        send(inside, &[link::mark(&peer_name, peer.link_local, peer.mtu, owner)], "mark the other end")
    }

    /// The link, which must be there and ours.
    fn ours(&self, inside: &mut Inside, name: &LinkName) -> Result<Seen, Fault> {
        let seen = any(inside, name)?;
        if seen.alias == self.marks.owner { Ok(seen) } else { Err(Fault::foreign(format!("link {name}"))) }
    }

    fn change_link(&self, inside: &mut Inside, action: &Action) -> Result<(), Fault> {
        let message = match action {
            Action::SetMac(name, mac) => link::set_mac(self.ours(inside, name)?.index, *mac),
            Action::SetMtu(name, mtu) => link::set_mtu(self.ours(inside, name)?.index, *mtu),
            Action::SetLinkLocal(name, on) => link::set_link_local(self.ours(inside, name)?.index, *on),
            Action::SetMaster(name, master) => {
                let index = self.ours(inside, name)?.index;
                let master = match master {
                    Some(master) => self.ours(inside, master)?.index,
                    None => 0,
                };
                link::set_master(index, master)
            }
            Action::SetPort(name, port) => link::set_port(self.ours(inside, name)?.index, *port),
            Action::SetUp(name, up) => link::set_up(self.ours(inside, name)?.index, *up),
            action => return self.change_entry(inside, action),
        };
        send(inside, &[message], "change it")
    }

    fn change_entry(&self, inside: &mut Inside, action: &Action) -> Result<(), Fault> {
        let protocol = self.marks.protocol;
        let message = match action {
            Action::AddAddress(key, address) => {
                entry::address(true, any(inside, &key.dev)?.index, key, *address, protocol)
            }
            Action::DeleteAddress(key) => self.delete_address(inside, key)?,
            Action::AddRoute(key, route) => self.route(inside, Write::Add, key, Some(route))?,
            Action::ReplaceRoute(key, route) => self.route(inside, Write::Replace, key, Some(route))?,
            Action::DeleteRoute(key) => self.route(inside, Write::Delete, key, None)?,
            Action::SetNeighbour(key, neighbour) => return self.set_neighbour(inside, key, *neighbour),
            Action::DeleteNeighbour(key, neighbour) => {
                entry::delete_neighbour(any(inside, &key.dev)?.index, key, *neighbour)
            }
            Action::SetRemote(key, to) => {
                entry::remote(entry::OVER, self.ours(inside, &key.dev)?.index, key.mac, *to)
            }
            Action::AddRemote(key, to) => {
                // Unknown MACs may have several; the others were told apart when the plan was made.
                let flags = if key.mac == Mac::ZERO { entry::BESIDE } else { entry::OVER };
                entry::remote(flags, self.ours(inside, &key.dev)?.index, key.mac, *to)
            }
            Action::DeleteRemote(key, to) => {
                entry::delete_remote(self.ours(inside, &key.dev)?.index, key.mac, *to)
            }
            Action::SetBridgeMac(key, port) => {
                entry::bridge_mac(self.port(inside, &key.bridge, port)?, key.mac)
            }
            Action::DeleteBridgeMac(key, port) => {
                entry::delete_bridge_mac(self.port(inside, &key.bridge, port)?, key.mac)
            }
            other => return Err(Fault::new(ErrorKind::Unsupported, format!("{other} is not known here"))),
        };
        send(inside, &[message], "change it")
    }

    /// The index of a port of our bridge: an entry is written by its port, and would be another bridge's.
    fn port(&self, inside: &mut Inside, bridge: &LinkName, port: &LinkName) -> Result<u32, Fault> {
        let master = self.ours(inside, bridge)?.index;
        let seen = any(inside, port)?;
        if seen.master == Some(master) {
            return Ok(seen.index);
        }
        Err(Fault::new(ErrorKind::Invalid, format!("link {port} is no port of bridge {bridge}")))
    }

    fn delete_address(&self, inside: &mut Inside, key: &AddressKey) -> Result<Message, Fault> {
        Ok(entry::address(false, any(inside, &key.dev)?.index, key, Default::default(), self.marks.protocol))
    }

    fn route(
        &self,
        inside: &mut Inside,
        write: Write,
        key: &RouteKey,
        route: Option<&Route>,
    ) -> Result<Message, Fault> {
        let index = match route.and_then(Route::dev) {
            Some(dev) => Some(any(inside, dev)?.index),
            None => None,
        };
        Ok(entry::route(write, index, key, route, self.marks.protocol))
    }

    fn set_neighbour(
        &self,
        inside: &mut Inside,
        key: &NeighbourKey,
        neighbour: Neighbour,
    ) -> Result<(), Fault> {
        let index = any(inside, &key.dev)?.index;
        let protocol = self.marks.protocol;
        let write = |flags| entry::neighbour(flags, index, key, neighbour, protocol);
        // The kernel takes an address that somebody answers for once more without a word, and for ours then.
        let is_there = neighbour == Neighbour::Proxy
            || match inside.route.request(&[write(entry::NEW)]) {
                Ok(()) => return Ok(()),
                Err((_, nix::errno::Errno::EEXIST)) => true,
                Err((_, errno)) => return Err(Fault::system("add it", errno)),
            };
        // What the kernel found out by itself is overwritten, what an administrator wrote is not.
        if is_there && entry::is_foreign_neighbour(&mut inside.route, index, key, neighbour, protocol)? {
            return Err(Fault::foreign(format!("neighbour {}", key.address)));
        }
        send(inside, &[write(entry::OVER)], "replace it")
    }

    fn our_table(&self, inside: &mut Inside, key: &TableKey) -> Result<bool, Fault> {
        match nft::keys(&mut inside.netfilter, &self.marks.owner)?.get(key) {
            None => Ok(false),
            Some(found) if found.ours => Ok(true),
            Some(_) => Err(Fault::foreign(format!("table {}", key.name))),
        }
    }

    fn put_table(&self, inside: &mut Inside, key: &TableKey, table: &RuleTable) -> Result<(), Fault> {
        let there = self.our_table(inside, key)?;
        nft::put(&mut inside.netfilter, key, table, there, &self.marks.owner)
    }

    fn change_table(&self, inside: &mut Inside, key: &TableKey, change: &TableChange) -> Result<(), Fault> {
        if !self.our_table(inside, key)? {
            return Err(missing(format!("table {}", key.name)));
        }
        let sets =
            if change.elements.is_empty() { BTreeMap::new() } else { nft::sets(&mut inside.netfilter, key)? };
        nft::change(&mut inside.netfilter, key, change, &sets)
    }
}

fn missing(what: String) -> Fault {
    Fault::new(ErrorKind::NotFound, format!("{what} is not there"))
}

/// The link, ours or not.
fn any(inside: &mut Inside, name: &LinkName) -> Result<Seen, Fault> {
    link::one(&mut inside.route, name.as_str())?.ok_or_else(|| missing(format!("link {name}")))
}

fn send(inside: &mut Inside, messages: &[Message], doing: &str) -> Result<(), Fault> {
    inside.route.request(messages).map_err(|(_, errno)| Fault::system(doing, errno))
}
