//! What a kernel can hold, as far as one comparison after the other would never find it held. No I/O, no clock, no async.

use super::state::{KernelState, LinkKind, LinkName, Mac, Netns, NetnsState};

/// A state that no kernel can be brought to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{netns}: {problem}")]
pub struct InvalidState {
    netns: Netns,
    problem: String,
}

impl KernelState {
    /// Whether a kernel can hold it.
    ///
    /// # Errors
    /// Says where what cannot be.
    pub fn validate(&self) -> Result<(), InvalidState> {
        for (at, netns) in &self.namespaces {
            let checked = check_remotes(netns).and_then(|()| self.check_links(at, netns));
            let checked = checked.and_then(|()| check_tables(netns));
            checked.map_err(|problem| InvalidState { netns: at.clone(), problem })?;
        }
        Ok(())
    }

    fn check_links(&self, at: &Netns, netns: &NetnsState) -> Result<(), String> {
        for (name, link) in &netns.links {
            match &link.kind {
                LinkKind::Veth { peer_netns, peer } => {
                    let back = self.link(peer_netns, peer).map(|peer| &peer.kind);
                    if !matches!(back, Some(LinkKind::Veth { peer_netns, peer }) if peer_netns == at && peer == name)
                    {
                        return Err(format!(
                            "link {name} is one end of a pair, and {peer} in {peer_netns} is not the other: put both in"
                        ));
                    }
                }
                LinkKind::Unknown(what) => return Err(format!("link {name} cannot be made: {what}")),
                LinkKind::Bridge | LinkKind::Vxlan(_) | LinkKind::Dummy => {}
            }
            check_master(netns, name, link.master.as_ref())?;
        }
        for (key, port) in &netns.bridge_macs {
            // A port that is not ours is not here, and its bridge not known.
            if netns.links.get(port).is_some_and(|link| link.master.as_ref() != Some(&key.bridge)) {
                return Err(format!(
                    "{} cannot be behind {port}, which is no port of {}",
                    key.mac, key.bridge
                ));
            }
        }
        Ok(())
    }
}

fn check_master(netns: &NetnsState, name: &LinkName, master: Option<&LinkName>) -> Result<(), String> {
    match master.map(|master| (master, netns.links.get(master).map(|link| &link.kind))) {
        None | Some((_, Some(LinkKind::Bridge))) => Ok(()),
        Some((master, _)) => {
            Err(format!("link {name} cannot be a port of {master}, which is no bridge of ours"))
        }
    }
}

fn check_remotes(netns: &NetnsState) -> Result<(), String> {
    for (key, remotes) in &netns.remotes {
        let (mac, dev) = (key.mac, &key.dev);
        match remotes.len() {
            0 => return Err(format!("{mac} on {dev} has no remote: leave it out")),
            1 => {}
            // The kernel has one for each MAC but that of zeroes.
            _ if mac == Mac::ZERO => {}
            count => return Err(format!("{mac} on {dev} has {count} remotes: it is in one place")),
        }
    }
    Ok(())
}

fn check_tables(netns: &NetnsState) -> Result<(), String> {
    netns.tables.iter().try_for_each(|(key, table)| {
        table.validate().map_err(|problem| format!("table {}, {problem}", key.name))
    })
}
