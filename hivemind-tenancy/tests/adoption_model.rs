//! An adoption against a naive one that does all at once on a map.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

mod common;
#[path = "common/tenure.rs"]
mod tenure;
#[path = "common/things.rs"]
mod things;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, admin};
use hivemind_core::store::{Key, Txn};
use hivemind_core::{RequestId, StateStore, TenantRef, block_on};
use hivemind_tenancy::Adoption;
use hivemind_tenancy::adoption::{AdoptionPhase, AdoptionRule};
use proptest::prelude::*;
use tenure::born;
use things::{Things, all, free, of};

const KINDS: [&str; 3] = ["moving", "staying", "shrinking"];
const TEAMS: [&str; 3] = ["a", "b", "c"];

/// A thing, by kind, name, team and the rest of its value; owned by a tenant or by nobody.
#[derive(Debug, Clone)]
struct Thing {
    kind: usize,
    name: String,
    team: usize,
    rest: Vec<u8>,
    owner: Option<usize>,
}

fn thing() -> impl Strategy<Value = Thing> {
    let rest = prop::collection::vec(any::<u8>().prop_filter("marks ownership", |byte| *byte != b'!'), 0..6);
    let owner = prop::option::weighted(0.2, 0usize..2);
    (0usize..3, "[ab]{2,3}", 0usize..3, rest, owner).prop_map(|(kind, name, team, rest, owner)| Thing {
        kind,
        name,
        team,
        rest,
        owner,
    })
}

/// Gives a team's things, perhaps only of one kind or with one initial, to a tenant.
#[derive(Debug, Clone)]
struct Given {
    tenant: usize,
    team: Option<usize>,
    kind: Option<usize>,
    initial: Option<bool>,
}

fn given() -> impl Strategy<Value = Given> {
    let team = prop::option::weighted(0.8, 0usize..3);
    (0usize..2, team, prop::option::of(0usize..3), prop::option::weighted(0.3, any::<bool>()))
        .prop_map(|(tenant, team, kind, initial)| Given { tenant, team, kind, initial })
}

impl Given {
    fn wants(&self, thing: &Thing) -> bool {
        self.team.is_none_or(|team| team == thing.team)
            && self.kind.is_none_or(|kind| kind == thing.kind)
            && self.initial.is_none_or(|a| thing.name.starts_with(if a { 'a' } else { 'b' }))
    }

    fn rule(&self, tenants: &[TenantRef]) -> AdoptionRule {
        let mut rule = AdoptionRule::to(tenants[self.tenant].clone());
        if let Some(team) = self.team {
            rule = rule.labelled(format!("team={}", TEAMS[team]).parse().unwrap());
        }
        if let Some(kind) = self.kind {
            rule = rule.kind(KINDS[kind].parse().unwrap());
        }
        if let Some(a) = self.initial {
            rule = rule.named_like(if a { "a" } else { "b" });
        }
        rule
    }
}

fn record(thing: &Thing, tenants: &[TenantRef]) -> (Key, Vec<u8>) {
    let value = [format!("team={};", TEAMS[thing.team]).as_bytes(), &thing.rest].concat();
    let kind = KINDS[thing.kind];
    match thing.owner.map(|owner| &tenants[owner]) {
        None => (free(kind, &thing.name), value),
        Some(owner) if kind == "staying" => {
            (free(kind, &thing.name), [owner.to_string().as_bytes(), b"!", &value].concat())
        }
        Some(owner) => (of(owner, kind, &thing.name), value),
    }
}

/// All at once: what the map becomes. `touched` is left alone.
fn naive(
    before: &BTreeMap<Key, Vec<u8>>,
    things: &BTreeMap<Key, Thing>,
    rules: &[Given],
    tenants: &[TenantRef],
    touched: &BTreeSet<Key>,
) -> BTreeMap<Key, Vec<u8>> {
    let mut after = before.clone();
    for (key, thing) in things.iter().filter(|(key, thing)| thing.owner.is_none() && !touched.contains(*key))
    {
        let wanted: BTreeSet<_> =
            rules.iter().filter(|rule| rule.wants(thing)).map(|rule| rule.tenant).collect();
        let [owner] = wanted.into_iter().collect::<Vec<_>>()[..] else { continue };
        let mut adopted = Thing { owner: Some(owner), ..thing.clone() };
        if KINDS[thing.kind] == "shrinking" {
            adopted.name.pop();
        }
        let (to, value) = record(&adopted, tenants);
        if to == *key || !after.contains_key(&to) {
            after.remove(key);
            after.insert(to, value);
        }
    }
    after
}

fn put(world: &World, key: &Key, value: &[u8]) {
    let mut txn = Txn::new();
    txn.put(key.clone(), value.to_vec());
    block_on(world.store.commit(&txn)).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn in_steps_it_comes_to_the_same_as_all_at_once_and_back_to_the_same(
        things in prop::collection::vec(thing(), 1..25),
        rules in prop::collection::vec(given(), 1..4),
        size in 1usize..6,
        stop_after in 0usize..12,
        meddle in prop::collection::vec((0usize..25, any::<bool>()), 0..3),
    ) {
        let world = World::new();
        let tenants = ["acme", "globex"].map(|id| born(&world, id, 0));
        let mut by_key = BTreeMap::new();
        for thing in things {
            let (key, value) = record(&thing, &tenants);
            put(&world, &key, &value);
            by_key.insert(key, thing);
        }
        let original = all(&world.view());
        let owned: BTreeSet<_> =
            by_key.iter().filter(|(_, thing)| thing.owner.is_some()).map(|(key, _)| key.clone()).collect();
        let rule_list: Vec<_> = rules.iter().map(|rule| rule.rule(&tenants)).collect();
        let adoption = Adoption::new().with_step(size);
        let id: RequestId = "adopt".parse().unwrap();
        let planned = adoption.plan(&world.view(), &admin("r"), &Things, &rule_list).unwrap().leaving_problems();
        prop_assert_eq!(planned.owned, owned.len() as u64);
        if planned.moves.is_empty() {
            prop_assert_eq!(naive(&original, &by_key, &rules, &tenants, &BTreeSet::new()), original);
            return Ok(());
        }

        // Somebody puts things after the plan, some of them as they were.
        let mut touched = BTreeSet::new();
        for (which, same) in meddle {
            let Some(key) = by_key.keys().nth(which).filter(|key| !owned.contains(*key)).cloned() else { continue };
            let mut value = original[&key].clone();
            if !same {
                value.extend(b"...");
            }
            put(&world, &key, &value);
            touched.insert(key);
        }
        let original = all(&world.view());

        world.commit(|view, txn| adoption.stage_start(view, txn, &admin("r"), &id, &planned)).unwrap();
        let (mut told, mut done) = (Vec::new(), false);
        for _ in 0..stop_after.max(usize::from(touched.is_empty()) * 40) {
            let step = world.commit(|view, txn| adoption.stage_step(view, txn, &admin("r"), &id, &Things)).unwrap();
            prop_assert!(step.moved.len() + step.left.len() <= size);
            told.extend(step.moved.into_iter().map(|one| (one.from, one.to, one.tenant)));
            done |= step.phase == AdoptionPhase::Done;
            if done {
                break;
            }
        }
        let view = world.view();
        if done {
            prop_assert_eq!(all(&view), naive(&original, &by_key, &rules, &tenants, &touched));
        }
        if done && touched.is_empty() {
            let moves: Vec<_> = planned.moves.into_iter().map(|one| (one.from, one.to, one.tenant)).collect();
            prop_assert_eq!(&told, &moves);
        }
        // What is somebody's already was not so much as written.
        for key in &owned {
            prop_assert!(view.get(key).unwrap().mod_revision <= planned.revision, "{}", key);
        }
        let status = adoption.status(&view, &admin("r"), &id).unwrap();
        prop_assert_eq!(status.moved, told.len() as u64);

        loop {
            let step = world.commit(|view, txn| adoption.stage_undo(view, txn, &admin("r"), &id)).unwrap();
            prop_assert!(step.left.is_empty());
            if step.phase == AdoptionPhase::Undone {
                break;
            }
        }
        prop_assert_eq!(all(&world.view()), original);
    }
}

/// The store refuses what is larger than its limits: here is the largest there is of everything.
#[test]
fn steps_stay_within_the_limits_of_the_store() {
    let world = World::new();
    let tenants: Vec<_> = (0..45).map(|n| born(&world, &format!("t{n}"), 0)).collect();
    let rules: Vec<_> = tenants
        .iter()
        .map(|tenant| AdoptionRule::to(tenant.clone()).named_like(format!("{}-", tenant.id)))
        .collect();
    for number in 0..300 {
        let name = format!("t{}-{number}-{}", number % 45, "n".repeat(number));
        let size = if number % 30 == 0 { 400_000 } else { number * 60 };
        // Half of it is not text, and every letter of some text is escaped in JSON.
        let fill = [b'x', b'"', 0xff][number % 3];
        put(&world, &free("moving", &name), &[&b"team=a;"[..], &vec![fill; size]].concat());
    }
    let before = all(&world.view());
    let id: RequestId = "adopt".parse().unwrap();
    let adoption = Adoption::new();
    let planned = adoption.plan(&world.view(), &admin("r"), &Things, &rules).unwrap();
    assert_eq!((planned.moves.len(), planned.problems.len()), (300, 0));
    world.commit(|view, txn| adoption.stage_start(view, txn, &admin("r"), &id, &planned)).unwrap();
    let mut steps = 0;
    while world.commit(|view, txn| adoption.stage_step(view, txn, &admin("r"), &id, &Things)).unwrap().phase
        == AdoptionPhase::Running
    {
        steps += 1;
    }
    assert!(steps < 30, "{steps}");
    assert_eq!(adoption.status(&world.view(), &admin("r"), &id).unwrap().moved, 300);
    while world.commit(|view, txn| adoption.stage_undo(view, txn, &admin("r"), &id)).unwrap().phase
        != AdoptionPhase::Undone
    {}
    assert_eq!(all(&world.view()), before);
}
