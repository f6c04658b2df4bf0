//! When something is said, to whom, and together with what.

use std::collections::BTreeSet;

use hivemind_observe::notify::{Alert, Notification, NotifyRules, Reason, Route};
use proptest::prelude::*;

use crate::{Telling, alert, route, secs};

fn told(telling: &Telling) -> Vec<(u64, String)> {
    telling.mailed()
}

#[test]
fn it_waits_for_others_and_then_says_what_changes() {
    let telling = Telling::new(NotifyRules::new(route("mail")));
    let node = |name| alert("down", &[("node", name)]);
    let (one, two, three) = (node("n1"), node("n2"), node("n3"));
    telling.pass(5, std::slice::from_ref(&one));
    telling.pass(20, &[one.clone(), two.clone()]);
    // The third is told with the next message, and so is that the first is over.
    telling.pass(20, &[one, two.clone(), three.clone()]);
    telling.pass(100, &[two, three]);
    telling.pass(100, &[]);
    assert_eq!(
        told(&telling),
        [
            (10, "down fires, node n1; down fires, node n2".to_owned()),
            (70, "down fires, node n3; down fires, node n2; down is over, node n1".to_owned()),
            (145, "down is over, node n2; down is over, node n3".to_owned()),
        ]
    );
    let messages = telling.mail.told();
    let reasons: Vec<_> = messages.iter().map(|one| (one.reason, one.number - messages[0].number)).collect();
    assert_eq!(reasons, [(Reason::Fired, 0), (Reason::Fired, 1), (Reason::Over, 2)]);
    // The next time it is another message, of the same conversation.
    telling.pass(20, &[node("n1")]);
    let next = telling.mail.told().pop().unwrap();
    assert!(next.id == messages[0].id && next.number > messages[2].number);
}

#[test]
fn what_is_over_before_anybody_was_told_is_not_told() {
    let telling = Telling::new(NotifyRules::new(route("mail")));
    telling.pass(9, &[alert("down", &[])]);
    telling.pass(100, &[]);
    telling.pass(9, &[alert("down", &[])]);
    telling.pass(100, &[]);
    assert!(told(&telling).is_empty());
}

#[test]
fn what_goes_on_is_said_again_and_an_end_only_where_it_is_wanted() {
    let telling = Telling::new(NotifyRules::new(route("mail").without_end()));
    telling.pass(1300, &[alert("down", &[])]);
    telling.pass(700, &[]);
    let at: Vec<_> = told(&telling).into_iter().map(|(at, _)| at).collect();
    assert_eq!(at, [10, 610, 1210]);
    let reasons: Vec<_> = telling.mail.told().iter().map(|one| one.reason).collect();
    assert_eq!(reasons, [Reason::Fired, Reason::Repeated, Reason::Repeated]);
}

#[test]
fn an_alert_goes_down_the_tree() {
    let pages = Route::to("phone".parse().unwrap()).matching("severity=page".parse().unwrap());
    let night = Route::to("watch".parse().unwrap()).matching("zone=night".parse().unwrap()).and_further();
    let disks = Route::to("storage".parse().unwrap()).matching("alertname in (disk-full)".parse().unwrap());
    let rules = NotifyRules::new(route("mail").or_else(night).or_else(pages.or_else(disks)));
    for (rule, labels, receivers) in [
        ("down", &[][..], &["mail"][..]),
        ("down", &[("severity", "page")], &["phone"]),
        ("disk-full", &[("severity", "page")], &["storage"]),
        ("disk-full", &[], &["mail"]),
        ("down", &[("severity", "page"), ("zone", "night")], &["watch", "phone"]),
        ("down", &[("zone", "night")], &["watch"]),
    ] {
        assert_eq!(rules.receivers_of(&alert(rule, labels)), receivers, "{rule} {labels:?}");
    }
    let none = NotifyRules::new(route("mail").matching("severity".parse().unwrap()));
    assert!(none.receivers_of(&alert("down", &[])).is_empty());
}

/// A receiver hears no end of what only goes elsewhere from now on, and nothing is said twice in one moment.
#[test]
fn what_is_routed_elsewhere_is_not_over() {
    let pages = Route::to("phone".parse().unwrap()).matching("severity=page".parse().unwrap());
    let before = Telling::new(NotifyRules::new(route("mail")));
    let alert = alert("down", &[("severity", "page")]);
    before.pass(20, std::slice::from_ref(&alert));
    let rules =
        NotifyRules::new(route("mail").or_else(pages.waiting(secs(0)).every(secs(0)).repeating(secs(0))));
    let after = before.with_rules(rules);
    after.pass(3, std::slice::from_ref(&alert));
    assert_eq!(after.mailed().len(), 1);
    assert_eq!(after.phone.told().len(), 3, "as often as somebody looks, and no more");
}

#[test]
fn what_is_there_twice_is_told_once() {
    let like = || route("mail").matching("severity".parse().unwrap()).and_further();
    let telling = Telling::new(NotifyRules::new(route("mail").or_else(like()).or_else(like())));
    let alert = alert("down", &[("severity", "page")]);
    telling.pass(20, &[alert.clone(), alert]);
    assert_eq!(told(&telling), [(10, "down fires, severity page".to_owned())]);
}

/// `pitfall_25` of observability: nobody sees what another tenant's alerts say, but for receivers who may.
#[test]
fn pitfall_25_tenants_are_told_of_apart() {
    let firing =
        [alert("full", &[("tenant", "acme")]), alert("full", &[("tenant", "hooli")]), alert("full", &[])];
    let apart = Telling::new(NotifyRules::new(route("mail").together_by::<String>([])));
    apart.pass(20, &firing);
    let messages: Vec<_> = apart.mail.told();
    assert!(messages.len() == 3 && messages.iter().all(|one| one.firing.len() == 1));
    let operator = Telling::new(NotifyRules::new(route("mail").across_tenants()));
    operator.pass(20, &firing);
    assert_eq!(operator.mail.told().iter().map(|one| one.firing.len()).collect::<Vec<_>>(), [3]);
}

/// What a receiver knows that believes each message.
fn known(messages: &[Notification]) -> BTreeSet<Alert> {
    messages.last().map(|last| last.firing.iter().cloned().collect()).unwrap_or_default()
}

proptest! {
    /// Whatever fires and ends in between: once it has been quiet for long enough, the receiver knows what fires, and of
    /// everything that it was told it hears the end; never more than one message in an interval.
    #[test]
    fn in_the_end_a_receiver_knows_what_fires(
        steps in prop::collection::vec((prop::collection::btree_set("[abc]", 0..4), 1_u64..50), 1..12),
    ) {
        let telling = Telling::new(NotifyRules::new(route("mail")));
        let firing = |nodes: &BTreeSet<String>| -> Vec<Alert> {
            nodes.iter().map(|node| alert("down", &[("node", node)])).collect()
        };
        for (nodes, seconds) in &steps {
            telling.pass(*seconds, &firing(nodes));
        }
        let last = firing(&steps.last().unwrap().0);
        telling.pass(130, &last);
        let messages = telling.mail.told();
        prop_assert_eq!(known(&messages), last.into_iter().collect());
        for (at, message) in messages.iter().enumerate() {
            let after = messages.get(at + 1);
            for fired in &message.firing {
                let goes_on = after.is_none_or(|next| next.firing.contains(fired) || next.resolved.contains(fired));
                prop_assert!(goes_on, "{} was dropped in silence", fired);
            }
            if let Some(next) = after.filter(|_| message.reason != Reason::Over) {
                prop_assert!(next.at.since(message.at) >= secs(60));
            }
        }
    }
}
