//! Answers that come when something else has been decided meanwhile.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::channel::oneshot::{Receiver, Sender, channel};
use futures::executor::block_on;
use futures::pin_mut;
use futures::task::Poll;
use hivemind_core::{
    Effect, Error, ErrorKind, OpToken, Pending, Progress, ProviderName, Result, async_trait,
};
use hivemind_storage::{
    AttachVolume, Attachment, Capabilities, CreateVolume, DetachVolume, NodeInfo, ProviderRegistry,
    ProvisionedVolume, StorageMetrics, StorageProvider, StorageProviderType, VolumeController, VolumeRef,
    VolumeStatus,
};

use super::world::{World, controller, memory, name, node};

/// What is said of an attachment that is made.
#[derive(Debug, Clone, Copy)]
enum Said {
    Ready,
    Pending,
    Lost,
}

/// A memory provider whose calls wait at a gate: attachments before they happen, detachments after that.
#[derive(Debug)]
struct Gated {
    inner: Arc<hivemind_storage::MemoryProvider>,
    attaches: Mutex<VecDeque<Receiver<Said>>>,
    detaches: Mutex<VecDeque<Receiver<()>>>,
}

#[async_trait]
impl StorageProvider for Gated {
    fn name(&self) -> &ProviderName {
        self.inner.name()
    }
    fn provider_type(&self) -> StorageProviderType {
        self.inner.provider_type()
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
    async fn probe(&self) -> Result<()> {
        Ok(())
    }
    async fn create_volume(&self, request: &CreateVolume) -> Result<Progress<ProvisionedVolume>> {
        self.inner.create_volume(request).await
    }
    async fn delete_volume(&self, token: &OpToken, volume: &VolumeRef) -> Result<Progress<()>> {
        self.inner.delete_volume(token, volume).await
    }
    async fn attach_volume(&self, request: &AttachVolume) -> Result<Progress<Attachment>> {
        let gate = self.attaches.lock().unwrap().pop_front();
        let said = match gate {
            None => Said::Ready,
            Some(gate) => gate.await.unwrap(),
        };
        let done = self.inner.attach_volume(request).await?;
        match said {
            Said::Ready => Ok(done),
            Said::Pending => {
                let later = Pending::new(request.token.clone(), std::time::Duration::from_secs(1));
                Ok(Progress::Pending(later))
            }
            Said::Lost => {
                let lost = Error::new(ErrorKind::Unavailable, "attach_volume", "no answer came");
                Err(lost.with_effect(Effect::Unknown))
            }
        }
    }
    async fn detach_volume(&self, request: &DetachVolume) -> Result<Progress<()>> {
        let gate = self.detaches.lock().unwrap().pop_front();
        let done = self.inner.detach_volume(request).await;
        if let Some(gate) = gate {
            gate.await.unwrap();
        }
        done
    }
    async fn get_volume_status(&self, volume: &VolumeRef) -> Result<VolumeStatus> {
        self.inner.get_volume_status(volume).await
    }
    async fn get_provider_metrics(&self) -> Result<StorageMetrics> {
        self.inner.get_provider_metrics().await
    }
}

/// A world with a volume that is to come to node n1, and two control planes, the first of which has its calls gated.
struct Two {
    world: World,
    gated: Arc<Gated>,
    first: VolumeController,
}

impl Two {
    fn new() -> Self {
        let world = World::new(memory());
        let info = NodeInfo::new(node("n1")).with_max_volumes(1);
        world.commit(|s, view, txn| s.stage_node(view, txn, &name(), &info)).unwrap();
        world.ready("other");
        world.ready("data");
        world.attach("data", "n1").unwrap();
        let (attaches, detaches) = (Mutex::default(), Mutex::default());
        let gated = Arc::new(Gated { inner: world.provider.clone(), attaches, detaches });
        let mut providers = ProviderRegistry::new();
        providers.add(gated.clone()).unwrap();
        let first = controller(Arc::new(world.store.clone()), providers, world.clock.clone());
        Self { world, gated, first }
    }

    fn gate_attach(&self) -> Sender<Said> {
        let (open, gate) = channel();
        self.gated.attaches.lock().unwrap().push_back(gate);
        open
    }

    fn gate_detach(&self) -> Sender<()> {
        let (open, gate) = channel();
        self.gated.detaches.lock().unwrap().push_back(gate);
        open
    }

    fn detach(&self) {
        let (claim, n1) = ("data".parse().unwrap(), node("n1"));
        self.world
            .commit(|s, view, txn| s.stage_detach(view, txn, &self.world.ctx("acme"), &claim, &n1))
            .unwrap();
    }
}

#[test]
fn an_attachment_that_comes_after_the_node_has_lost_the_volume_is_taken_back() {
    for said in [Said::Ready, Said::Pending, Said::Lost] {
        let two = Two::new();
        let open = two.gate_attach();
        block_on(async {
            let slow = two.first.tick();
            pin_mut!(slow);
            assert!(matches!(futures::poll!(&mut slow), Poll::Pending));
            // The other control plane decides otherwise, and finds nothing on the node.
            two.detach();
            two.world.settle();
            assert!(!two.world.volume("data").in_use());
            open.send(said).unwrap();
            slow.await.unwrap();
        });
        assert!(two.world.nodes_of("data").contains("n1"), "the slow one was fast");
        let volume = two.world.volume("data");
        assert!(volume.maybe_attached.contains_key(&node("n1")), "{said:?}: nobody knows that it is there");
        // It takes its slot there.
        assert_eq!(two.world.attach("other", "n1").unwrap_err().kind(), ErrorKind::Exhausted, "{said:?}");
        two.world.settle();
        assert!(two.world.nodes_of("data").is_empty() && !two.world.volume("data").in_use(), "{said:?}");
        two.world.attach("data", "n2").unwrap();
        two.world.attach("other", "n1").unwrap();
        two.world.settle();
        assert!(two.world.nodes_of("data").contains("n2") && two.world.nodes_of("other").contains("n1"));
    }
}

#[test]
fn whoever_is_just_taking_the_volume_away_does_it_again() {
    let two = Two::new();
    let (attach, detach) = (two.gate_attach(), two.gate_detach());
    block_on(async {
        let slow = two.first.tick();
        pin_mut!(slow);
        assert!(matches!(futures::poll!(&mut slow), Poll::Pending));
        two.detach();
        // It has taken nothing away, and is about to write that down.
        let other = two.first.clone();
        let taking = other.tick();
        pin_mut!(taking);
        assert!(matches!(futures::poll!(&mut taking), Poll::Pending));
        attach.send(Said::Ready).unwrap();
        slow.await.unwrap();
        detach.send(()).unwrap();
        taking.await.unwrap();
    });
    two.world.settle();
    assert!(two.world.nodes_of("data").is_empty() && !two.world.volume("data").in_use());
}

#[test]
fn an_attachment_that_is_wished_for_again_stays() {
    let two = Two::new();
    let open = two.gate_attach();
    block_on(async {
        let slow = two.first.tick();
        pin_mut!(slow);
        assert!(matches!(futures::poll!(&mut slow), Poll::Pending));
        two.detach();
        two.world.settle();
        two.world.attach("data", "n1").unwrap();
        two.world.settle();
        open.send(Said::Ready).unwrap();
        slow.await.unwrap();
    });
    let calls = two.world.provider.calls();
    two.world.settle();
    assert_eq!(two.world.provider.calls(), calls, "it was taken away from whoever uses it");
    assert!(two.world.nodes_of("data").contains("n1"));
}
