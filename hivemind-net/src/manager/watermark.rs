//! The newest observation told of each node, so that an older one changes nothing. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::{NodeId, Result, Stamped, Timestamp};

use super::session::Session;
use crate::records::{Holder, Watermark, watermarks};

/// The watermarks that concern one observation.
pub(super) struct Watermarks {
    /// The node that was observed; `None` if all.
    scope: Option<NodeId>,
    all: Option<Stamped<Watermark>>,
    /// Of the node observed, or of each node that has one.
    nodes: BTreeMap<NodeId, Stamped<Watermark>>,
}

impl Watermarks {
    pub(super) fn read(session: &Session<'_>, scope: Option<&NodeId>) -> Result<Self> {
        let get = |node| watermarks()?.get(session.view, &session.txn, &session.keys.watermark(node)?);
        let marks = match scope {
            Some(_) => get(scope)?.into_iter().collect(),
            None => watermarks()?.list(session.view, &session.txn, &session.keys.node_watermarks()?)?,
        };
        let nodes = marks.into_iter().filter_map(|mark| Some((mark.node.clone()?, mark))).collect();
        Ok(Self { scope: scope.cloned(), all: get(None)?, nodes })
    }

    fn newest_at(&self, nodes: impl IntoIterator<Item = NodeId>) -> Option<Timestamp> {
        let of = |node| self.nodes.get(&node).map(|mark| mark.at);
        nodes.into_iter().filter_map(of).chain(self.all.as_ref().map(|mark| mark.at)).max()
    }

    /// The newest observation told of all that was observed.
    pub(super) fn newest_of_scope(&self) -> Option<Timestamp> {
        self.newest_at(self.scope.clone())
    }

    /// The newest observation told of where a holder is.
    pub(super) fn newest(&self, holder: &Holder) -> Option<Timestamp> {
        self.newest_at(std::iter::once(holder.node.clone()).chain(holder.moving.clone()))
    }

    /// What is decided about a holder holds only if no newer observation is told meanwhile.
    pub(super) fn expect(&self, session: &mut Session<'_>, holder: &Holder) -> Result<()> {
        if self.scope.is_none() {
            for node in std::iter::once(&holder.node).chain(&holder.moving) {
                unchanged(session, Some(node), self.nodes.get(node))?;
            }
        }
        Ok(())
    }

    /// Stages that this observation was told, and forgets up to `most` watermarks that it makes useless. One watermark
    /// is for all leases of a node, so that to see what is well costs one write and not one for each lease.
    pub(super) fn tell(
        &self,
        session: &mut Session<'_>,
        holders: &[Stamped<Holder>],
        at: Timestamp,
        most: usize,
    ) -> Result<()> {
        unchanged(session, None, self.all.as_ref())?;
        let known = match &self.scope {
            Some(node) => {
                unchanged(session, Some(node), self.nodes.get(node))?;
                self.nodes.get(node)
            }
            None => self.all.as_ref(),
        };
        // Where nobody has a lease, nobody will have one that is older than this.
        let empty =
            self.scope.as_ref().is_some_and(|node| !holders.iter().any(|holder| holder.node == *node));
        match known {
            Some(known) if empty => return watermarks()?.delete(&mut session.txn, known),
            None if empty => return Ok(()),
            _ if self.newest_of_scope().is_some_and(|newest| newest >= at) => {}
            Some(known) => {
                watermarks()?.update(&mut session.txn, known, &Watermark { at, ..(*known.value).clone() })?;
            }
            None => {
                let (key, node) = (session.keys.watermark(self.scope.as_ref())?, self.scope.clone());
                watermarks()?.create(session.view, &mut session.txn, key, &Watermark { node, at })?;
            }
        }
        if self.scope.is_none() {
            for old in self.nodes.values().filter(|mark| mark.at <= at).take(most) {
                watermarks()?.delete(&mut session.txn, old)?;
            }
        }
        Ok(())
    }
}

impl Session<'_> {
    /// Stages that nothing is known of a node any more: it has no leases, and may never be observed again.
    pub(super) fn forget_watermark(&mut self, node: &NodeId) -> Result<()> {
        let key = self.keys.watermark(Some(node))?;
        match watermarks()?.get(self.view, &self.txn, &key)? {
            Some(found) => watermarks()?.delete(&mut self.txn, &found),
            None => Ok(()),
        }
    }
}

/// The watermark is still as it was found when the transaction commits: also if there was none.
fn unchanged(
    session: &mut Session<'_>,
    node: Option<&NodeId>,
    found: Option<&Stamped<Watermark>>,
) -> Result<()> {
    if let Some(found) = found {
        return watermarks()?.expect(&mut session.txn, found);
    }
    let key = session.keys.watermark(node)?;
    session.expect_absent(&key)
}
