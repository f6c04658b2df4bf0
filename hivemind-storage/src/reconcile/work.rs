//! What is being worked on: calls that go on beside each other.

use std::fmt;
use std::task::{Context, Poll};

use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use hivemind_core::store::{Key, Snapshot, Txn};
use hivemind_core::{BoxFuture, ProviderName, Result, Stamped, StateStoreExt};

use super::lanes::{Lane, Lanes, Work};
use super::{Did, VolumeController, read};
use crate::records::{Todo, groups, nodes, snapshots, todo_of, todos, volume_at, volumes};
use crate::steps::{self, Step};
use crate::{Overdue, ProviderApi, Volume, VolumeKey};

/// What is due, and the calls that go on.
#[derive(Default)]
pub(super) struct Working<'a> {
    lanes: Lanes,
    calls: FuturesUnordered<BoxFuture<'a, (Work, bool, Result<Did>)>>,
}

impl fmt::Debug for Working<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Working").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

impl<'a> Working<'a> {
    /// What is due now, in place of what was due before and is not begun.
    pub(super) fn refill(&mut self, due: Vec<Work>) {
        self.lanes.refill(due);
    }

    /// Begins what there is room for, and tells what has ended; nothing once there is nothing left to do.
    pub(super) fn poll_next(
        &mut self,
        controller: &'a VolumeController,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Did>>> {
        let room = |lane: &Lane| controller.room(lane);
        while let Some(mut work) = self.lanes.begin(room) {
            self.calls.push(Box::pin(async move {
                let (overdue, did) = controller.turn(&work.todo, work.read.take()).await;
                (work, overdue, did)
            }));
        }
        self.lanes.age();
        self.calls.poll_next_unpin(context).map(|ended| {
            let (work, overdue, did) = ended?;
            self.lanes.end(&work, overdue);
            Some(did)
        })
    }
}

impl VolumeController {
    fn room(&self, (provider, api): &Lane) -> usize {
        let limits = provider.as_ref().map(|name| self.providers.limits(name)).unwrap_or_default();
        limits.of(*api).at_once.get()
    }

    /// Takes one thing a step further, and writes down when to come again. Also whether its provider was overdue.
    async fn turn(&self, todo: &Stamped<Todo>, read: Option<Snapshot>) -> (bool, Result<Did>) {
        match self.step(todo, read).await {
            Ok(Did::Pending(after)) => {
                (false, self.look_again(todo, after).await.map(|()| Did::Pending(after)))
            }
            Ok(did) => (false, Ok(did)),
            Err(e) => {
                let overdue = e.detail::<Overdue>().is_some();
                (overdue, self.put_off(todo, &e).await.map(|()| Did::Failed))
            }
        }
    }

    /// What is due, and how much of the rest waits for its time because it failed or goes on.
    pub(super) async fn due(&self) -> Result<(Vec<Work>, u64)> {
        let view = self.store.snapshot(&[todos()?.prefix().clone()]).await?;
        let now = self.clock.now();
        let all = todos()?.list(&view, &Txn::new(), todos()?.prefix())?;
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|todo| todo.not_before <= now);
        // An archived volume waits for its time, and that is as wished.
        let waiting = later.iter().filter(|todo| todo.failures > 0 || todo.pending).count();
        // One after the other, far stores would be asked for long before anything begins.
        let works = stream::iter(due).map(|todo| self.work(todo)).buffered(LOOKS);
        Ok((works.try_collect().await?, u64::try_from(waiting).unwrap_or(u64::MAX)))
    }

    async fn work(&self, todo: Stamped<Todo>) -> Result<Work> {
        let at = todo_of(&todo.stored_at)?;
        let view = self.records(std::slice::from_ref(&at)).await?;
        // What cannot be read is told by whoever works on it.
        let (lane, about) = classify(&view, &at).unwrap_or((NO_CALL, Vec::new()));
        Ok(Work { todo, lane, about, read: Some(view) })
    }
}

/// How many records are asked for at once.
const LOOKS: usize = 32;

/// The lane of what calls nobody.
const NO_CALL: Lane = (None, ProviderApi::Describe);

/// Which API is needed first for the record at `at`, and which volumes that is about.
fn classify(view: &Snapshot, at: &Key) -> Result<(Lane, Vec<Key>)> {
    let lane = |provider: &ProviderName, api| (Some(provider.clone()), api);
    let nothing = Ok((NO_CALL, Vec::new()));
    match at.segments().nth(1) {
        Some(b"volumes") => Ok(read(&volumes()?, view, at)?.map_or((NO_CALL, Vec::new()), |volume| {
            let lane = first_api(&volume).map_or(NO_CALL, |api| lane(&volume.provider, api));
            (lane, vec![at.clone()])
        })),
        Some(b"snapshots") => match read(&snapshots()?, view, at)? {
            None => nothing,
            Some(one) => Ok((lane(&one.provider, ProviderApi::Snapshot), vec![volume_at(&one.key.volume)?])),
        },
        Some(b"groups") => match read(&groups()?, view, at)? {
            None => nothing,
            Some(group) => {
                let of = |name: &hivemind_core::VolumeId| {
                    volume_at(&VolumeKey::new(group.key.tenant.clone(), name.clone()))
                };
                let about = group.volumes.iter().map(of).collect::<Result<_>>()?;
                Ok((lane(&group.provider, ProviderApi::Snapshot), about))
            }
        },
        Some(b"nodes") if read(&nodes()?, view, at)?.is_some() => {
            let name = at.segments().nth(2).and_then(|name| std::str::from_utf8(name).ok());
            let provider = name.and_then(|name| name.parse().ok());
            Ok(((provider, ProviderApi::Attach), Vec::new()))
        }
        Some(b"audit") => {
            // Of a volume, by its tenant and name, like that.
            let of = at.segments().skip(2).take(2);
            let volume = volumes()?.key(of)?;
            Ok((NO_CALL, vec![volume]))
        }
        _ => nothing,
    }
}

fn first_api(volume: &Volume) -> Option<ProviderApi> {
    Some(match steps::next(volume, true).first()? {
        Step::Create => ProviderApi::Create,
        Step::Attach(_) | Step::Detach(_) => ProviderApi::Attach,
        Step::Expand | Step::Modify => ProviderApi::Modify,
        Step::Restore => ProviderApi::Snapshot,
        Step::Delete => ProviderApi::Delete,
        Step::Expire(_) => return None,
    })
}
