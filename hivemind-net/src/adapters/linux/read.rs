//! All that is ours on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

use hivemind_core::ErrorKind;

use super::entry::Reader;
use super::fault::Fault;
use super::link::{self, Peers, Seen};
use super::netns::{Inside, move_to};
use super::{Kernel, nft, sysctl};
use crate::dataplane::KernelState;
use crate::dataplane::state::{LinkName, Netns, NetnsState};

/// A namespace with its links.
struct Place {
    inside: Inside,
    links: Vec<Seen>,
}

impl Place {
    fn has_ours(&self, owner: &str) -> bool {
        self.links.iter().any(|link| link.alias == owner)
    }
}

/// Where links may lead to.
struct Around {
    files: BTreeMap<Netns, Arc<File>>,
    /// By the indexes of both ends, this one first, where there is such a link.
    ends: BTreeMap<(u32, u32), Vec<Netns>>,
}

impl Around {
    fn of(places: &BTreeMap<Netns, Place>) -> Self {
        let files = places.iter().map(|(at, place)| (at.clone(), place.inside.file.clone())).collect();
        let mut ends: BTreeMap<_, Vec<Netns>> = BTreeMap::new();
        for (at, place) in places {
            for pair in place.links.iter().filter_map(Seen::ends) {
                ends.entry(pair).or_default().push(at.clone());
            }
        }
        Self { files, ends }
    }

    /// The namespaces that our links in `place` lead to, by the numbers it has for them. A pair's other end knows the
    /// first one by its index: so few are asked, however many there are.
    fn numbers(&self, place: &mut Place, owner: &str) -> Result<BTreeMap<u32, Netns>, Fault> {
        let ours = place.links.iter().filter(|link| link.alias == owner && link.leads_to().is_some());
        let (mut wanted, mut likely) = (BTreeSet::new(), Vec::new());
        for link in ours {
            wanted.extend(link.leads_to());
            let other = link.ends().and_then(|(own, other)| self.ends.get(&(other, own)));
            likely.extend(other.into_iter().flatten());
        }
        let (mut found, mut asked) = (BTreeMap::new(), BTreeSet::new());
        for at in likely.into_iter().chain(self.files.keys()) {
            if wanted.is_empty() {
                break;
            }
            let Some(file) = self.files.get(at).filter(|_| asked.insert(at)) else { continue };
            if let Some(number) = link::netns_number(&mut place.inside.route, file)? {
                wanted.remove(&number);
                found.insert(number, at.clone());
            }
        }
        Ok(found)
    }
}

impl Kernel {
    pub(super) fn read(&mut self, also: &BTreeSet<Netns>) -> Result<KernelState, Fault> {
        self.kept.tidy();
        let mut wanted: BTreeSet<Netns> = also.clone();
        wanted.insert(Netns::Host);
        let named = self.places.named(&wanted)?;
        let mut places: BTreeMap<Netns, Place> = BTreeMap::new();
        let mut seen = BTreeMap::new();
        for at in wanted.iter().cloned().chain(named) {
            if places.contains_key(&at) {
                continue;
            }
            match self.place(&at) {
                // In a namespace of somebody else nothing is ours but what hangs on a link of ours.
                Ok(Some(place)) if wanted.contains(&at) || place.has_ours(&self.marks.owner) => {
                    if let Some(other) = seen.insert(place.inside.identity()?, at.clone()) {
                        let message = format!("{other} and {at} are one namespace: call it by one name");
                        return Err(Fault::new(ErrorKind::Invalid, message));
                    }
                    places.insert(at, place);
                }
                Ok(_) => {}
                // Somebody else's may vanish, or not be mounted yet, while we look around.
                Err(fault) if wanted.contains(&at) => return Err(fault),
                Err(_) => {}
            }
        }
        let within = &self.places;
        self.saved.keep(|at, name| match (places.get(at), name.link()) {
            (Some(place), Some(link)) => place.links.iter().any(|seen| seen.name == link.as_str()),
            (Some(_), None) => true,
            (None, _) => !matches!(within.file(at), Ok(None)),
        })?;
        let mut peers = Peers::default();
        for (at, place) in &places {
            for link in &place.links {
                peers.names.insert((at.clone(), link.index), link.name.clone());
            }
        }
        let around = Around::of(&places);
        let mut state = KernelState::new();
        for (at, place) in &mut places {
            peers.by_number = around.numbers(place, &self.marks.owner)?;
            let netns = self.read_place(at, place, &peers)?;
            state.namespaces.insert(at.clone(), netns);
        }
        state.prune();
        self.keep(places.into_iter().map(|(at, place)| (at, place.inside)));
        Ok(state)
    }

    fn place(&mut self, at: &Netns) -> Result<Option<Place>, Fault> {
        let Some(mut inside) = self.enter(at)? else { return Ok(None) };
        let links = link::all(&mut inside.route)?;
        Ok(Some(Place { inside, links }))
    }

    fn read_place(&self, at: &Netns, place: &mut Place, peers: &Peers) -> Result<NetnsState, Fault> {
        let mut netns = NetnsState::default();
        let mut names: BTreeMap<u32, LinkName> = BTreeMap::new();
        for link in &place.links {
            if link.name == "lo" {
                netns.owned = *at != Netns::Host && link.alias == self.marks.owner;
            } else if let Ok(name) = link.name.parse::<LinkName>() {
                names.insert(link.index, name.clone());
                if link.alias == self.marks.owner {
                    netns.links.insert(name, link.link(at, peers));
                }
            }
        }
        let reader = Reader { names: &names, protocol: self.marks.protocol };
        reader.read(&mut place.inside.route, &mut netns)?;
        let parameters = self.saved.of(at);
        if !parameters.is_empty() {
            move_to(&place.inside.file, at)?;
        }
        for name in parameters {
            // A parameter of a link that is gone is gone with it.
            if let Ok(value) = sysctl::read(&name) {
                netns.sysctls.insert(name, value);
            }
        }
        netns.tables = nft::read(&mut place.inside.netfilter, &self.marks.owner)?;
        Ok(netns)
    }
}
