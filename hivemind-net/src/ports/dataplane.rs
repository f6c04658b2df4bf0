//! The kernel of one machine.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use hivemind_core::{Error, ErrorKind, Result};

use crate::dataplane::lost::Lost;
use crate::dataplane::state::Netns;
use crate::dataplane::{Connection, KernelState, Op, diff};

/// Reads and changes what the kernel of one machine holds of ours.
///
/// # Contract
///
/// **Ours.** Everything that [`apply`](Self::apply) makes is marked in the kernel itself, so that an agent that restarts
/// knows it again. [`read`](Self::read) gives back all that is marked, and nothing else; what is not marked is never
/// changed, and an operation that would have to is refused with [`AlreadyExists`](hivemind_core::ErrorKind) or
/// [`NotFound`](hivemind_core::ErrorKind).
///
/// **Exact.** What was applied is what is read: after every operation of a [`diff`] was applied, `read` gives the desired
/// state, unless somebody else changed something.
///
/// **Order.** Operations are made in the order given. The first that is refused ends the call; those before it remain,
/// those after it are not begun. The error's detail is [`Stopped`]. A rule table changes whole or not at all.
///
/// **Repeatable.** Reading changes nothing. A caller that does not know how far a call came reads, compares and applies
/// the difference. If nothing differs, nothing is written, and traffic does not notice.
///
/// **Connections.** Those that are there when rules become stricter go on, because the rules let pass what is
/// established. A caller that wants them cut compares [`connections`](Self::connections) with the policies and has those
/// forgotten that would not be let in now.
///
/// A dropped future may leave the rest of its operations to be made in the background, before any later call's.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Dataplane: fmt::Debug + Send + Sync + 'static {
    /// What is there of ours: in the machine's own namespace, in those that have a name and are ours or hold a link of
    /// ours, and in `also`.
    ///
    /// A namespace of `also` that is not there is left out.
    async fn read(&self, also: &BTreeSet<Netns>) -> Result<KernelState>;

    /// Makes these changes in order.
    async fn apply(&self, ops: &[Op]) -> Result<()>;

    /// The connections that the kernel keeps track of in a namespace, in no particular order.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound): no such namespace.
    async fn connections(&self, netns: &Netns) -> Result<Vec<Connection>>;

    /// Forgets these connections, so that rules judge their next packets anew; tells how many were there.
    ///
    /// # Errors
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound): no such namespace.
    async fn forget(&self, netns: &Netns, connections: &[Connection]) -> Result<usize>;
}

/// How far [`Dataplane::apply`] came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("operation {} of {of} ({op}) failed: {problem}", done.saturating_add(1))]
#[non_exhaustive]
pub struct Stopped {
    /// How many operations were made.
    pub done: usize,
    /// How many there were.
    pub of: usize,
    /// The operation that failed, in words.
    pub op: String,
    /// Why.
    pub problem: String,
}

impl Stopped {
    /// Operation `done` (counted from zero) of `of` failed.
    pub fn new(done: usize, of: usize, op: &Op, problem: impl Into<String>) -> Self {
        Self { done, of, op: op.to_string(), problem: problem.into() }
    }
}

/// What every data plane can do beyond its own methods.
#[async_trait]
pub trait DataplaneExt: Dataplane {
    /// Makes the kernel hold `desired`: reads, compares, applies, and looks again until nothing differs.
    ///
    /// Gives back the changes that were made: none if the kernel held it already.
    ///
    /// What is refused does not hold up the rest: of it nothing more is made, and where it was about rules, nothing in its
    /// namespace; everything else is, and then the first refusal is the error, unless nothing is due any more.
    ///
    /// # Errors
    /// Those of the port; [`Invalid`](hivemind_core::ErrorKind::Invalid) if no kernel can hold it
    /// ([`KernelState::validate`]), and then nothing was changed; [`Unavailable`](hivemind_core::ErrorKind::Unavailable) if something still differs after the
    /// third time, because somebody else keeps changing it.
    async fn sync(&self, desired: &KernelState) -> Result<Vec<Op>>;

    /// Takes away everything that is ours.
    ///
    /// # Errors
    /// As [`sync`](Self::sync).
    async fn uninstall(&self, also: &BTreeSet<Netns>) -> Result<Vec<Op>>;
}

#[async_trait]
impl<D: Dataplane + ?Sized> DataplaneExt for D {
    async fn sync(&self, desired: &KernelState) -> Result<Vec<Op>> {
        desired.validate().map_err(|e| Error::of(ErrorKind::Invalid, "sync", e))?;
        let also = desired.namespaces.keys().cloned().collect();
        converge(self, desired, &also).await
    }

    async fn uninstall(&self, also: &BTreeSet<Netns>) -> Result<Vec<Op>> {
        converge(self, &KernelState::new(), also).await
    }
}

/// How often a kernel is compared before it is said that somebody else keeps changing it.
const ROUNDS: usize = 3;

/// Applies what can be: what was made, and the first refusal, if there was one.
async fn apply_all<D: Dataplane + ?Sized>(dataplane: &D, ops: &[Op]) -> Result<(Vec<Op>, Option<Error>)> {
    let (mut lost, mut made, mut refusal) = (Lost::default(), Vec::new(), None);
    let mut left = ops.to_vec();
    while let Err(e) = dataplane.apply(&left).await {
        // Whoever does not say how far it came is not asked for more.
        let done = e.detail::<Stopped>().map_or(left.len(), |stopped| stopped.done);
        let Some((refused, rest)) = left.get(done..).and_then(<[Op]>::split_first) else { return Err(e) };
        lost.refused(refused);
        let rest = lost.left(rest);
        made.extend(left.drain(..done));
        left = rest;
        refusal.get_or_insert(e);
    }
    made.extend(left);
    Ok((made, refusal))
}

async fn converge<D: Dataplane + ?Sized>(
    dataplane: &D,
    desired: &KernelState,
    also: &BTreeSet<Netns>,
) -> Result<Vec<Op>> {
    let mut desired = desired.clone();
    desired.prune();
    let (mut made, mut refused) = (Vec::new(), None::<(Vec<Op>, Error)>);
    for _ in 0..ROUNDS {
        let ops = diff(&dataplane.read(also).await?, &desired);
        if ops.is_empty() {
            return Ok(made);
        }
        // Much is refused because somebody else was faster, and is not due any more then. What is, is refused again.
        if let Some((before, e)) = refused.take()
            && before == ops
        {
            return Err(e);
        }
        let (done, refusal) = apply_all(dataplane, &ops).await?;
        made.extend(done);
        refused = refusal.map(|e| (ops, e));
    }
    let left = diff(&dataplane.read(also).await?, &desired);
    match (left.first(), refused) {
        (None, _) => Ok(made),
        (Some(_), Some((_, refusal))) => Err(refusal),
        (Some(op), None) => {
            let message = format!(
                "{} changes are still due after {ROUNDS} rounds, the first is \"{op}\": look who else changes it",
                left.len()
            );
            Err(Error::new(ErrorKind::Unavailable, "sync", message))
        }
    }
}
