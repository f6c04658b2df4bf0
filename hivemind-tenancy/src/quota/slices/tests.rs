use proptest::prelude::*;

use super::*;

const GRACE: u64 = 5;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn escrow(limit: u64) -> Escrow {
    Escrow::new(limit, Duration::from_secs(GRACE))
}

#[test]
fn a_slice_counts_until_lease_and_grace_are_over() {
    let (all, slice) = escrow(10).grant("east", 7, at(100), at(0)).unwrap();
    assert!(slice.is_live(at(99)) && !slice.is_live(at(100)));
    assert_eq!(
        all.grant("west", 4, at(200), at(104)).unwrap_err().to_string(),
        "4 more was asked for, 3 is left: wait for slices to return"
    );
    let (later, _) = all.grant("west", 10, at(200), at(105)).unwrap();
    assert_eq!(later.granted(), 10);
}

#[test]
fn a_returned_slice_is_left_at_once_and_only_once() {
    let (all, slice) = escrow(10).grant("east", 7, at(100), at(0)).unwrap();
    let less = all.shrink("east", slice.grant, 2).unwrap();
    assert_eq!(less.shrink("east", slice.grant, 2).unwrap(), less);
    assert!(less.shrink("east", slice.grant, 3).is_err());
    let none = less.shrink("east", slice.grant, 0).unwrap();
    assert_eq!((none.granted(), none.slices().len()), (0, 0));
}

#[test]
fn a_late_message_of_an_earlier_grant_changes_nothing() {
    let (all, old) = escrow(10).grant("east", 5, at(100), at(0)).unwrap();
    let (all, _) = all.grant("east", 8, at(100), at(1)).unwrap();
    assert!(matches!(all.shrink("east", old.grant, 1), Err(EscrowError::NoSlice { .. })));
}

#[test]
fn a_grant_of_less_does_not_take_away_what_the_holder_may_be_using() {
    let (all, _) = escrow(10).grant("east", 5, at(100), at(0)).unwrap();
    let (_, slice) = all.grant("east", 3, at(50), at(1)).unwrap();
    assert_eq!((slice.amount, slice.until), (5, at(100)));
}

#[test]
fn a_limit_does_not_fall_below_what_is_granted() {
    let (all, _) = escrow(10).grant("east", 5, at(100), at(0)).unwrap();
    assert!(all.with_limit(4).is_err());
    assert_eq!(all.with_limit(5).unwrap().limit(), 5);
    assert!(all.grant("west", 1, at(9), at(9)).is_err());
}

/// What can happen to one holder.
#[derive(Debug, Clone)]
enum Step {
    Ask { holder: usize, amount: u64, lease: u64, heard: bool },
    Shrink { holder: usize, to: u64, heard: bool },
    Repeat { message: usize },
    Crash { holder: usize },
    Wait { secs: u64 },
    Limit { limit: u64 },
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, 0..12u64, 1..20u64, any::<bool>()).prop_map(|(holder, amount, lease, heard)| Step::Ask {
            holder,
            amount,
            lease,
            heard
        }),
        (0..3usize, 0..12u64, any::<bool>()).prop_map(|(holder, to, heard)| Step::Shrink {
            holder,
            to,
            heard
        }),
        (0..40usize).prop_map(|message| Step::Repeat { message }),
        (0..3usize).prop_map(|holder| Step::Crash { holder }),
        (1..12u64).prop_map(|secs| Step::Wait { secs }),
        (0..20u64).prop_map(|limit| Step::Limit { limit }),
    ]
}

const NAMES: [&str; 3] = ["east", "west", "north"];

/// The escrow, what each holder believes, all messages that were ever sent, and the time.
struct World {
    escrow: Escrow,
    beliefs: [Option<Slice>; 3],
    sent: Vec<(usize, u64, u64)>,
    now: u64,
}

impl World {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Ask { holder, amount, lease, heard } => {
                let until = at(self.now + lease);
                if let Ok((next, slice)) = self.escrow.grant(NAMES[holder], amount, until, at(self.now)) {
                    self.escrow = next;
                    // The answer may be lost.
                    if heard {
                        self.beliefs[holder] = Some(slice);
                    }
                }
            }
            Step::Shrink { holder, to, heard } => {
                let Some(slice) = self.beliefs[holder].as_mut().filter(|slice| to <= slice.amount) else {
                    return;
                };
                slice.amount = to;
                self.sent.push((holder, slice.grant, to));
                if heard {
                    self.deliver(self.sent.len() - 1);
                }
            }
            Step::Repeat { message } => self.deliver(message),
            Step::Crash { holder } => self.beliefs[holder] = None,
            Step::Wait { secs } => {
                self.now += secs;
                self.escrow = self.escrow.without_expired(at(self.now));
            }
            Step::Limit { limit } => {
                if let Ok(next) = self.escrow.with_limit(limit) {
                    self.escrow = next;
                }
            }
        }
    }

    fn deliver(&mut self, message: usize) {
        if let Some(&(holder, grant, to)) = self.sent.get(message)
            && let Ok(next) = self.escrow.shrink(NAMES[holder], grant, to)
        {
            self.escrow = next;
        }
    }

    /// What holders charge at most, whose clocks are late by almost the grace.
    fn charged(&self) -> u64 {
        let late = at(self.now.saturating_sub(GRACE - 1));
        self.beliefs.iter().flatten().filter(|slice| slice.is_live(late)).map(|slice| slice.amount).sum()
    }
}

proptest! {
    /// Answers and messages get lost, are repeated and come late, holders crash, clocks differ: all charges together
    /// stay within the limit.
    #[test]
    fn all_holders_together_stay_within_the_limit(steps in proptest::collection::vec(steps(), 1..80)) {
        let mut world = World { escrow: escrow(10), beliefs: [None; 3], sent: Vec::new(), now: 0 };
        for step in &steps {
            world.take(step);
            let slices: u64 = world.escrow.slices().values().map(|slice| slice.amount).sum();
            prop_assert!(slices <= world.escrow.limit(), "granted {slices} after {step:?}");
            prop_assert!(world.charged() <= slices, "charged {} of {slices} after {step:?}", world.charged());
        }
    }

    /// Whatever happened, once every lease and grace is over all of the limit is left.
    #[test]
    fn everything_returns_in_the_end(steps in proptest::collection::vec(steps(), 1..40)) {
        let mut world = World { escrow: escrow(10), beliefs: [None; 3], sent: Vec::new(), now: 0 };
        steps.iter().for_each(|step| world.take(step));
        prop_assert_eq!(world.escrow.without_expired(at(world.now + 20 + GRACE)).granted(), 0);
    }
}
