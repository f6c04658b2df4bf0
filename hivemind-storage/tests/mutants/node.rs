//! Node sides with one bug each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use hivemind_core::resources::ByteSize;
use hivemind_core::{Error, ErrorKind, Result, async_trait};
use hivemind_storage::conformance::Fixture;
use hivemind_storage::{
    AccessMode, ExpandOnNode, NodeCapability, NodeInfo, NodeStorage, PublishVolume, StageVolume, VolumeRef,
    VolumeStats,
};

use super::failed;
use super::suite::Setup;

/// What is wrong with the node side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NodeBug {
    None,
    PublishesOnce,
    StagesOnce,
    FailsToUnpublishWhatIsMissing,
    PublishesWhatIsNotStaged,
    PublishesNowhere,
    SecondTargets,
    OverwritesTargets,
    OverwritesStaging,
    UnstagesUnderWorkloads,
    UnpublishesWhosever,
    TellsStatsOfAnyPath,
    ExpandsAnyPath,
    IsAnotherNode,
    TellsNoCondition,
    LeaksSecrets,
}

#[derive(Debug)]
struct MutantNode {
    inner: Arc<dyn NodeStorage>,
    bug: NodeBug,
    seen: Mutex<BTreeMap<std::path::PathBuf, VolumeRef>>,
}

impl MutantNode {
    fn is(&self, bug: NodeBug) -> bool {
        self.bug == bug
    }

    /// Whether this was here before.
    fn again(&self, path: &Path, volume: &VolumeRef) -> Option<VolumeRef> {
        self.seen.lock().unwrap().insert(path.to_owned(), volume.clone())
    }
}

#[async_trait]
impl NodeStorage for MutantNode {
    fn node_capabilities(&self) -> BTreeSet<NodeCapability> {
        self.inner.node_capabilities()
    }
    async fn node_info(&self) -> Result<NodeInfo> {
        let info = self.inner.node_info().await?;
        Ok(if self.is(NodeBug::IsAnotherNode) { NodeInfo::new("n9".parse().unwrap()) } else { info })
    }
    async fn stage_volume(&self, request: &StageVolume) -> Result<()> {
        let mut outcome = self.inner.stage_volume(request).await;
        let taken = outcome.as_ref().is_err_and(|e| e.kind() == ErrorKind::AlreadyExists);
        if self.is(NodeBug::OverwritesStaging) && taken {
            outcome = Ok(());
        }
        let once = self.is(NodeBug::StagesOnce) && outcome.is_ok();
        if once && self.again(&request.staging_path, &request.volume).is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "stage_volume", "it is mounted already"));
        }
        if self.is(NodeBug::LeaksSecrets) {
            outcome = outcome.map_err(|e| {
                let secret =
                    request.secrets.get("key").map(|s| String::from_utf8_lossy(s.expose()).into_owned());
                Error::new(e.kind(), e.operation(), format!("mount -o key={secret:?} failed"))
            });
        }
        outcome
    }
    async fn unstage_volume(&self, volume: &VolumeRef, staging_path: &Path) -> Result<()> {
        let outcome = self.inner.unstage_volume(volume, staging_path).await;
        if self.is(NodeBug::UnstagesUnderWorkloads) { Ok(()) } else { outcome }
    }
    async fn publish_volume(&self, request: &PublishVolume) -> Result<()> {
        let mut wish = request.clone();
        match self.bug {
            NodeBug::PublishesNowhere => return Ok(()),
            NodeBug::SecondTargets => wish.access_mode = AccessMode::ReadWriteOnce,
            _ => {}
        }
        let outcome = self.inner.publish_volume(&wish).await;
        let refused_as = outcome.as_ref().err().map(Error::kind);
        match (self.bug, refused_as) {
            (NodeBug::PublishesWhatIsNotStaged, Some(ErrorKind::Conflict))
            | (NodeBug::OverwritesTargets, Some(ErrorKind::AlreadyExists)) => Ok(()),
            (NodeBug::PublishesOnce, None) if self.again(&request.target_path, &request.volume).is_some() => {
                Err(Error::new(ErrorKind::AlreadyExists, "publish_volume", "it is mounted already"))
            }
            (NodeBug::UnpublishesWhosever, None) => {
                self.again(&request.target_path, &request.volume);
                Ok(())
            }
            _ => outcome,
        }
    }
    async fn unpublish_volume(&self, volume: &VolumeRef, target_path: &Path) -> Result<()> {
        match self.bug {
            NodeBug::FailsToUnpublishWhatIsMissing => {
                drop(self.inner.volume_stats(volume, target_path).await?)
            }
            NodeBug::UnpublishesWhosever => {
                let there = self.seen.lock().unwrap().remove(target_path);
                return self.inner.unpublish_volume(there.as_ref().unwrap_or(volume), target_path).await;
            }
            _ => {}
        }
        self.seen.lock().unwrap().remove(target_path);
        self.inner.unpublish_volume(volume, target_path).await
    }
    async fn expand_on_node(&self, request: &ExpandOnNode) -> Result<ByteSize> {
        let outcome = self.inner.expand_on_node(request).await;
        let any = self.is(NodeBug::ExpandsAnyPath) && outcome.is_err();
        if any { Ok(ByteSize::from_mib(1)) } else { outcome }
    }
    async fn volume_stats(&self, volume: &VolumeRef, path: &Path) -> Result<VolumeStats> {
        let stats = self.inner.volume_stats(volume, path).await;
        match self.bug {
            NodeBug::TellsStatsOfAnyPath => Ok(stats.unwrap_or_default()),
            NodeBug::TellsNoCondition => {
                Ok(stats?.with_condition(hivemind_storage::VolumeCondition::Unknown))
            }
            _ => stats,
        }
    }
}

const NODE_BUGS: &[(NodeBug, &str)] = &[
    (NodeBug::PublishesOnce, "publish_is_idempotent"),
    (NodeBug::StagesOnce, "stage_is_idempotent"),
    (NodeBug::FailsToUnpublishWhatIsMissing, "unpublish_is_idempotent"),
    (NodeBug::PublishesWhatIsNotStaged, "publish_of_what_is_not_staged_is_refused"),
    (NodeBug::PublishesNowhere, "stats_tell_how_full_it_is"),
    (NodeBug::SecondTargets, "a_volume_for_one_workload_is_refused_at_a_second_target"),
    (NodeBug::OverwritesTargets, "publish_of_another_volume_at_one_path_is_refused"),
    (NodeBug::OverwritesStaging, "stage_of_another_volume_at_one_path_is_refused"),
    (NodeBug::UnstagesUnderWorkloads, "unstage_of_what_is_published_is_refused"),
    (NodeBug::UnpublishesWhosever, "unpublish_by_another_volume_leaves_it"),
    (NodeBug::TellsStatsOfAnyPath, "stats_of_another_path_are_not_found"),
    (NodeBug::ExpandsAnyPath, "expand_on_the_node_at_another_path_is_not_found"),
    (NodeBug::IsAnotherNode, "the_node_says_what_it_is"),
    (NodeBug::TellsNoCondition, "stats_tell_the_condition"),
    (NodeBug::LeaksSecrets, "secrets_are_not_told_by_the_node"),
];

fn node_fixture(bug: NodeBug) -> Fixture {
    let mut fixture = Setup::default().fixture();
    let inner = fixture.node.clone().unwrap();
    fixture.node = Some(Arc::new(MutantNode { inner, bug, seen: Mutex::default() }));
    fixture
}

#[test]
fn each_bug_of_a_node_side_is_found_by_the_case_about_it() {
    assert_eq!(failed(|| node_fixture(NodeBug::None)), BTreeSet::new(), "the mutant itself is wrong");
    let mut survivors = Vec::new();
    for (bug, expected) in NODE_BUGS {
        let found = failed(|| node_fixture(*bug));
        if !found.contains(expected) {
            survivors.push((*bug, *expected, found));
        }
    }
    assert_eq!(survivors, vec![]);
}
