use proptest::prelude::*;

use super::*;

/// The reference: a tree of levels, whose sums are added up anew at each question.
#[derive(Debug, Clone)]
struct Tree {
    /// By number: the level above, the rules, and what is used at the level itself.
    levels: Vec<(Option<usize>, LevelRules, i128)>,
}

impl Tree {
    fn taken(&self, at: usize) -> Taken {
        let own = self.levels[at].2;
        let mut sum = Taken { usage: own, load: own };
        for (child, (above, rules, _)) in self.levels.iter().enumerate() {
            if *above == Some(at) {
                let below = self.taken(child);
                sum.usage += below.usage;
                sum.load += below.load.max(i128::from(rules.guaranteed) - i128::from(rules.lending));
            }
        }
        sum
    }

    fn chain(&self, at: usize) -> Vec<usize> {
        std::iter::successors(Some(at), |at| self.levels[*at].0).collect()
    }

    /// Whether `amount` more may be used at `at`: the rules, word by word.
    fn admits(&self, at: usize, amount: i128) -> bool {
        let mut next = self.clone();
        next.levels[at].2 += amount;
        self.chain(at).into_iter().all(|level| {
            let (above, rules, _) = &self.levels[level];
            let (before, after) = (self.taken(level), next.taken(level));
            let max = i128::from(rules.max);
            let own = max.min(i128::from(rules.guaranteed) + i128::from(rules.borrowing));
            let within = |before: i128, after: i128, limit: i128| after <= limit || after <= before;
            (above.is_none() || within(before.usage, after.usage, own))
                && within(before.load, after.load, max * i128::from(rules.overcommit) / 1000)
        })
    }
}

/// The same step by step, from running sums.
fn raise(tree: &Tree, sums: &mut [Taken], at: usize, amount: i128) -> bool {
    let (mut load, mut fits, mut after) = (amount, true, sums.to_vec());
    for level in tree.chain(at) {
        let (above, rules, _) = &tree.levels[level];
        let was = charge(sums[level].load, rules.held());
        after[level].usage += amount;
        after[level].load += load;
        let limits = rules.limits(above.is_some());
        let short = shortage(limits, sums[level], after[level]).is_some();
        fits &= !short;
        load = charge(after[level].load, rules.held()) - was;
    }
    if fits {
        sums.copy_from_slice(&after);
    }
    fits
}

fn rules() -> impl Strategy<Value = LevelRules> {
    let limit = prop_oneof![Just(UNLIMITED), 0u64..20];
    (limit.clone(), 0u64..10, limit.clone(), limit, prop_oneof![Just(1000u32), 500u32..2000]).prop_map(
        |(max, guaranteed, borrowing, lending, overcommit)| LevelRules {
            max,
            guaranteed,
            borrowing,
            lending: lending.min(guaranteed),
            overcommit,
        },
    )
}

fn tree() -> impl Strategy<Value = Tree> {
    prop::collection::vec((any::<prop::sample::Index>(), rules()), 1..8).prop_map(|levels| {
        let level = |(number, (above, rules)): (usize, (prop::sample::Index, LevelRules))| {
            ((number > 0).then(|| above.index(number)), rules, 0)
        };
        Tree { levels: levels.into_iter().enumerate().map(level).collect() }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn running_sums_decide_as_the_rules_say(
        mut tree in tree(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), -8i128..12), 0..40),
    ) {
        let mut sums: Vec<_> = (0..tree.levels.len()).map(|at| tree.taken(at)).collect();
        for (at, amount) in steps {
            let at = at.index(tree.levels.len());
            let amount = amount.max(-tree.levels[at].2);
            let expected = tree.admits(at, amount);
            prop_assert_eq!(raise(&tree, &mut sums, at, amount), expected);
            if expected {
                tree.levels[at].2 += amount;
            }
            for (level, sum) in sums.iter().enumerate() {
                prop_assert_eq!(*sum, tree.taken(level));
                prop_assert!(sum.usage <= sum.load);
            }
        }
    }
}

/// Amounts at both ends of what there can be.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..20, (0u64..20).prop_map(|less| u64::MAX - less), any::<u64>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn narrow_sums_say_what_the_wide_ones_say(
        own in amount(), pool in amount(), held in amount(), usage in amount(), load in amount(), by in [amount(), amount()],
    ) {
        let wide = |usage: u64, load: u64| Taken { usage: usage.into(), load: load.into() };
        let before = wide(usage, load);
        let after = Taken { usage: before.usage + i128::from(by[0]), load: before.load + i128::from(by[1]) };
        let fits = has_room(own, usage, by[0]) & has_room(pool, load, by[1]);
        prop_assert_eq!(fits, shortage(Limits { own, pool }, before, after).is_none());
        if after.load <= i128::from(u64::MAX) {
            let asked = charge(after.load, held) - charge(before.load, held);
            prop_assert_eq!(i128::from(rise(load, held, by[1])), asked);
            // Going back is the way up, seen from its end.
            prop_assert_eq!(i128::from(fall(load, held, by[1])), asked);
        }
    }
}

#[test]
fn an_idle_guarantee_is_held_back_as_far_as_it_is_not_lent() {
    let rules = LevelRules { guaranteed: 10, lending: 4, ..LevelRules::default() };
    assert_eq!(rules.held(), 6);
    assert_eq!((charge(0, rules.held()), charge(6, rules.held()), charge(9, rules.held())), (6, 6, 9));
}

#[test]
fn a_sum_too_large_to_be_counted_is_short_and_does_not_wrap() {
    let most = i128::from(u64::MAX);
    let (before, after) = (Taken { usage: most, load: most }, Taken { usage: most * 2, load: most * 2 });
    let short = shortage(LevelRules::default().limits(true), before, after);
    assert_eq!(short, Some(Short { limit: u64::MAX, by: u64::MAX }));
    let pool =
        LevelRules { max: u64::MAX - 1, overcommit: u32::MAX, ..LevelRules::default() }.limits(true).pool;
    assert_eq!(pool, u64::MAX);
}
