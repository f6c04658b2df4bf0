//! The tables say what the evaluator says, however they came to be.

use hivemind_net::policy::{Engine, World};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::random::{Dice, change, flow, one_of_many};

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
            prop_assert_eq!(&explained, &world.explain(&flow).unwrap());
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

fn crowded(dice: &mut Dice) -> World {
    let changes: Vec<_> = (0..30).map(|_| change(dice)).collect();
    changes.into_iter().chain((0..400).map(|number| one_of_many(dice, number))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn of_many_rules_those_that_mean_the_other_end_are_explained(seed in any::<u64>(), ask in any::<u64>()) {
        let (mut dice, mut ask) = (Dice(seed), Dice(ask));
        let mut world = crowded(&mut dice);
        let mut engine = Engine::new(world.clone());
        same(&world, &engine, &mut ask, 100)?;
        for turn in 0..40 {
            let number = usize::try_from(dice.roll(400)).unwrap();
            let change = if turn % 4 == 3 { change(&mut dice) } else { one_of_many(&mut dice, number) };
            world.apply(change.clone());
            engine.apply(change);
            same(&world, &engine, &mut ask, 4)?;
        }
        same(&world, &engine, &mut ask, 100)?;
    }
}

#[test]
fn in_a_crowd_some_rules_are_counted_and_some_are_listed() {
    let mut dice = Dice(3);
    let engine = Engine::new(crowded(&mut dice));
    let sides = (0..400).filter_map(|_| engine.explain(&flow(&mut dice)).ok());
    let sides: Vec<_> = sides.flat_map(|one| [one.egress, one.ingress]).flatten().collect();
    assert!(sides.iter().any(|side| side.others > 0 && side.asked.len() > 1));
    assert!(sides.iter().any(|side| side.others == 0 && side.asked.len() > 1));
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
