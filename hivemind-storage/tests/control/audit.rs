//! What operators say is on record before anything is done by it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hivemind_core::{
    AuditEvent, AuditOutcome, AuditSink, Error, ErrorKind, MemoryAudit, Result, async_trait, block_on,
};
use hivemind_storage::Fenced;

use super::world::{World, memory, node};

fn lost(world: &World, proof: &Fenced) -> Result<()> {
    let (claim, n1, n2) = ("data".parse().unwrap(), node("n1"), node("n2"));
    world.commit(|s, view, txn| s.stage_move(view, txn, &world.ctx("acme"), &claim, &n1, &n2, proof))
}

fn on_n1() -> World {
    let world = World::new(memory());
    world.ready("data");
    world.attach("data", "n1").unwrap();
    world.settle();
    world
}

fn ada() -> Fenced {
    Fenced::operator("ada".parse().unwrap(), "I pulled its plug")
}

#[test]
fn an_operators_word_is_on_record_with_who_where_why_and_since_when() {
    let world = on_n1();
    let ctx = world.ctx("acme");
    lost(&world, &ada()).unwrap();
    assert!(world.audit.events().is_empty());
    world.settle();
    let events = world.audit.events();
    assert_eq!(events.len(), 1);
    let event = &events[0];
    assert_eq!((event.outcome, event.request.kind.as_str()), (AuditOutcome::Done, "volumes"));
    assert_eq!((event.ctx.principal(), event.ctx.tenant()), (ctx.principal(), ctx.tenant()));
    assert_eq!(event.request.name.as_deref(), Some("data"));
    assert_eq!(
        event.because,
        [
            "volume data is taken from node n1 by force, in epoch 1: ada says that the node is fenced: I pulled its plug"
        ]
    );
    assert!(world.nodes_of("data").contains("n2"));
    // Other proof is not a person's, and goes on no record.
    let (claim, n1, n2) = ("data".parse().unwrap(), node("n1"), node("n2"));
    let proof = Fenced::PowerOff;
    world
        .commit(|s, view, txn| s.stage_move(view, txn, &world.ctx("acme"), &claim, &n2, &n1, &proof))
        .unwrap();
    world.settle();
    assert_eq!(world.audit.events().len(), 1);
}

#[test]
fn a_word_without_a_reason_moves_nothing() {
    let world = on_n1();
    let silent = lost(&world, &Fenced::operator("ada".parse().unwrap(), " ")).unwrap_err();
    assert_eq!(silent.kind(), ErrorKind::Invalid);
    world.settle();
    assert!(world.nodes_of("data").contains("n1") && world.audit.events().is_empty());
}

/// A log that is full until it is not.
#[derive(Debug, Default)]
struct Full(AtomicBool, MemoryAudit);

#[async_trait]
impl AuditSink for Full {
    async fn append(&self, event: &AuditEvent) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            return self.1.append(event).await;
        }
        Err(Error::new(ErrorKind::Unavailable, "append", "the log is full"))
    }
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let mut world = on_n1();
    let log = Arc::new(Full::default());
    world.controller = world.controller.clone().with_audit(log.clone());
    lost(&world, &ada()).unwrap();
    for _ in 0..5 {
        assert!(block_on(world.controller.tick()).unwrap().failed > 0);
        world.clock.advance(std::time::Duration::from_secs(600));
        assert_eq!(world.nodes_of("data").into_iter().collect::<Vec<_>>(), ["n1"]);
    }
    log.0.store(true, Ordering::Relaxed);
    world.settle();
    assert_eq!(log.1.events().len(), 1);
    assert_eq!(world.nodes_of("data").into_iter().collect::<Vec<_>>(), ["n2"]);
}
