//! The tables say what the evaluator says, however they came to be.

use hivemind_net::policy::{Engine, World};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{Dice, change, flow};

fn same(world: &World, engine: &Engine, dice: &mut Dice, questions: usize) -> Result<usize, TestCaseError> {
    let mut valid = 0;
    for _ in 0..questions {
        let flow = flow(dice);
        let expected = world.reach(&flow);
        valid += usize::from(expected.is_ok());
        let told = engine.reach(&flow);
        prop_assert_eq!(
            told.clone(),
            expected.clone().map(|decision| decision.verdict()),
            "{:?}\n{}",
            flow,
            world.explain(&flow).map_or_else(|e| e.to_string(), |e| e.to_string())
        );
        prop_assert_eq!(engine.decide(&flow), expected.clone());
        if let Ok(explained) = engine.explain(&flow) {
            prop_assert_eq!(Ok(explained.verdict), told);
            let decision = expected.unwrap();
            prop_assert_eq!(explained.egress.map(|one| one.side), decision.egress);
            prop_assert_eq!(explained.ingress.map(|one| one.side), decision.ingress);
        }
    }
    Ok(valid)
}

proptest! {
    #[test]
    fn compiled_at_once_is_the_evaluator(seeds in vec(any::<u64>(), 1..60), ask in any::<u64>()) {
        let world: World = seeds.into_iter().map(|seed| change(&mut Dice(seed))).collect();
        let engine = Engine::new(world.clone());
        same(&world, &engine, &mut Dice(ask), 150)?;
    }

    #[test]
    fn compiled_change_by_change_is_the_evaluator(seeds in vec(any::<u64>(), 1..60), ask in any::<u64>()) {
        let (mut world, mut engine, mut dice) = (World::new(), Engine::default(), Dice(ask));
        for seed in seeds {
            let change = change(&mut Dice(seed));
            world.apply(change.clone());
            engine.apply(change);
            same(&world, &engine, &mut dice, 12)?;
        }
        same(&world, &engine, &mut dice, 150)?;
    }
}

/// Most random questions are about flows that can be, so the properties above say something.
#[test]
fn random_questions_mostly_make_sense() {
    let mut dice = Dice(7);
    let world: World = (0..60).map(|_| change(&mut dice)).collect();
    let valid = same(&world, &Engine::new(world.clone()), &mut dice, 400).unwrap();
    assert!(valid > 100, "{valid}");
    let passing = (0..400).filter_map(|_| world.reach(&flow(&mut dice)).ok());
    let passing: Vec<_> = passing.map(|decision| decision.verdict().passes()).collect();
    let yes = passing.iter().filter(|passes| **passes).count();
    assert!(yes > 15 && yes < passing.len() - 15, "{yes} of {}", passing.len());
}
