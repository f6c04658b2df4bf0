//! Which addresses are at which node: for the route plan.

use hivemind_core::store::{Snapshot, Txn};
use hivemind_core::{NodeId, Result, TenantContext};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::IpamManager;
use super::session::Session;
use crate::addr::Cidr;
use crate::records::{holders, nodes};

/// Where packets for some addresses go; the longest prefix wins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AddressRoute {
    /// A node's subnet, or one address that is elsewhere.
    pub destination: IpNet,
    /// Where it is.
    pub node: NodeId,
    /// Whether it is one address outside its node's subnets: borrowed, or taken along in a move. Its node must not
    /// discard it, and the owner of the subnet must route it although it discards what is free there.
    pub elsewhere: bool,
}

impl IpamManager {
    /// Every subnet and where it is, and every address that is not where its subnet is, in order. So each address
    /// that a workload has is routed on each node.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`](hivemind_core::ErrorKind::Corrupt) if a record cannot be read.
    pub fn routes(&self, view: &Snapshot, ctx: &TenantContext) -> Result<Vec<AddressRoute>> {
        let session = Session::new(view, &Txn::new(), ctx, self.now(ctx));
        let (mut routes, mut owners) = (Vec::new(), std::collections::BTreeMap::new());
        let tenant = session.keys.nodes()?;
        for stamped in nodes()?.list(view, &session.txn, &tenant)? {
            let Some(name) = stamped.stored_at.segments().last().and_then(name_of) else { continue };
            for subnet in stamped.subnets.keys() {
                owners.insert(*subnet, name.clone());
                let destination = IpNet::from(*subnet);
                routes.push(AddressRoute { destination, node: name.clone(), elsewhere: false });
            }
        }
        let pools = session.pools_of(ctx)?;
        for holder in holders()?.list(view, &session.txn, &session.keys.holders()?)? {
            for address in holder.lease.addresses() {
                let host = Cidr::host(address);
                let owner = pools.subnet_of(host).and_then(|(_, subnet)| owners.get(&subnet));
                if owner != Some(&holder.node) {
                    let destination = IpNet::from(host);
                    routes.push(AddressRoute { destination, node: holder.node.clone(), elsewhere: true });
                }
            }
        }
        routes.sort_unstable();
        Ok(routes)
    }
}

fn name_of(segment: impl AsRef<[u8]>) -> Option<NodeId> {
    std::str::from_utf8(segment.as_ref()).ok()?.parse().ok()
}
