//! Receivers that are busy, refuse, or are not there.

use std::sync::{Arc, Mutex};

use hivemind_core::{Error, ErrorKind, ManualClock, MemoryStore, Result, Retry, async_trait, block_on};
use hivemind_observe::notify::{Alert, Notification, NotifyRules, Reason, RetryAfter, Route};
use hivemind_observe::{Notifier, NotifyLoop, Registry};

use crate::{Telling, alert, route, secs};

/// Says next what it is told to; takes the message, once there is nothing left to say.
#[derive(Debug, Default)]
struct Moody {
    next: Mutex<Vec<Error>>,
    taken: Mutex<Vec<(u64, String)>>,
    messages: Mutex<Vec<Notification>>,
    asked: Mutex<u64>,
}

#[async_trait]
impl Notifier for Moody {
    async fn notify(&self, notification: &Notification) -> Result<()> {
        *self.asked.lock().unwrap() += 1;
        if let Some(error) = self.next.lock().unwrap().pop() {
            return Err(error);
        }
        self.taken.lock().unwrap().push((notification.number, notification.to_string()));
        self.messages.lock().unwrap().push(notification.clone());
        Ok(())
    }
}

struct Setting {
    moody: Arc<Moody>,
    clock: Arc<ManualClock>,
    telling: NotifyLoop,
    registry: Registry,
    given_up: Mutex<Vec<String>>,
}

impl Setting {
    fn new(route: Route, says: Vec<Error>) -> Self {
        let (moody, registry) = (Arc::new(Moody::default()), Registry::new());
        *moody.next.lock().unwrap() = says.into_iter().rev().collect();
        let clock = Arc::new(ManualClock::default());
        let telling = NotifyLoop::new(Arc::new(MemoryStore::new()), clock.clone(), NotifyRules::new(route))
            .with_receiver("moody".parse().unwrap(), moody.clone())
            .with_recorder(Arc::new(registry.clone()));
        Self { moody, clock, telling, registry, given_up: Mutex::default() }
    }

    fn pass(&self, seconds: u64, firing: &[Alert]) {
        for _ in 0..seconds {
            let ticked = block_on(self.telling.tick(firing)).unwrap();
            self.given_up.lock().unwrap().extend(ticked.given_up.into_iter().map(|(_, why)| why));
            self.clock.advance(secs(1));
        }
    }

    fn taken(&self) -> Vec<String> {
        self.moody.taken.lock().unwrap().iter().map(|(_, told)| told.clone()).collect()
    }
}

fn busy(seconds: u64) -> Error {
    Error::of(ErrorKind::Unavailable, "notify", RetryAfter(secs(seconds))).with_retry(Retry::Later)
}

/// `pitfall_06` of observability: a receiver that says 429 with a time, and the alert is over meanwhile.
#[test]
fn pitfall_06_a_busy_receiver_hears_everything_in_order_when_it_wants_to() {
    let all = Setting::new(route("moody").every(secs(30)), vec![busy(90)]);
    all.pass(20, &[alert("down", &[])]);
    all.pass(80, &[]);
    assert!(
        all.taken().is_empty() && *all.moody.asked.lock().unwrap() == 1,
        "it was left alone for 90 seconds"
    );
    all.pass(20, &[]);
    assert_eq!(all.taken(), ["down fires", "down is over"]);
    let text = all.registry.expose();
    for line in [r#"{receiver="moody",result="failed"} 1"#, r#"{receiver="moody",result="sent"} 2"#] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn a_message_that_was_refused_is_given_up_and_what_follows_goes_on() {
    let refusal = Error::invalid("notify", "no such channel");
    let all = Setting::new(route("moody"), vec![refusal]);
    all.pass(20, &[alert("down", &[])]);
    assert_eq!(
        (all.taken().len(), all.given_up.lock().unwrap().as_slice()),
        (0, &["no such channel".to_owned()][..])
    );
    // It was told nothing, so it hears no end; what still fires it hears a quarter of an hour later.
    all.pass(80, &[alert("down", &[])]);
    assert!(all.taken().is_empty());
    all.pass(900, &[alert("down", &[])]);
    assert_eq!(all.taken(), ["down fires"]);
    let other = Setting::new(route("moody"), vec![Error::invalid("notify", "no such channel")]);
    other.pass(20, &[alert("down", &[])]);
    other.pass(2000, &[]);
    assert!(other.taken().is_empty());
}

#[test]
fn a_receiver_that_fails_for_hours_is_given_up_in_the_end() {
    let all = Setting::new(route("moody").repeating(secs(1_000_000)), (0..12).map(|_| busy(0)).collect());
    all.pass(8 * 3600, &[alert("down", &[])]);
    let asked = *all.moody.asked.lock().unwrap();
    assert_eq!((asked, all.given_up.lock().unwrap().len()), (13, 1));
    // It hears how things are once it is back.
    assert_eq!(all.taken(), ["down fires"]);
}

/// What was told and is over is told to be over, however long the receiver was away.
#[test]
fn an_end_is_told_also_after_it_was_given_up() {
    let all = Setting::new(route("moody").repeating(secs(1_000_000)), Vec::new());
    all.pass(20, &[alert("down", &[])]);
    *all.moody.next.lock().unwrap() = (0..12).map(|_| busy(0)).collect();
    all.pass(3 * 3600, &[]);
    assert_eq!(all.given_up.lock().unwrap().len(), 1);
    assert_eq!(all.taken(), ["down fires", "down is over"]);
}

/// So it is if a later message about it was given up.
#[test]
fn an_end_is_told_though_a_message_between_was_given_up() {
    let all = Setting::new(route("moody").together_by(["alertname"]).repeating(secs(1_000_000)), Vec::new());
    let node = |name| alert("down", &[("node", name)]);
    all.pass(20, &[node("n1")]);
    all.moody.next.lock().unwrap().push(Error::invalid("notify", "too long"));
    all.pass(100, &[node("n1"), node("n2")]);
    assert_eq!(all.given_up.lock().unwrap().len(), 1);
    all.pass(1000, &[node("n2")]);
    assert_eq!(all.taken(), ["down fires, node n1", "down fires, node n2; down is over, node n1"]);
}

/// Changes that go into one message do not hide that something fires.
#[test]
fn what_waits_together_still_says_that_something_fires() {
    let all = Setting::new(route("moody").together_by(["alertname"]).every(secs(1)), vec![busy(10_000)]);
    let node = |name: &str| alert("down", &[("node", name)]);
    for number in 0..8 {
        all.pass(12, &[node("n1"), node(&format!("m{number}"))]);
    }
    all.pass(12, &[node("n1"), node("new")]);
    all.pass(12, &[node("new")]);
    all.pass(10_000, &[node("new")]);
    let messages = all.moody.messages.lock().unwrap();
    let last =
        messages.iter().rfind(|one| one.resolved.iter().any(|over| over.labels["node"] == "n1")).unwrap();
    assert_eq!((last.reason, last.firing.len()), (Reason::Fired, 1));
}

/// A receiver that fails is no reason for another to wait, however many messages there are for it.
#[test]
fn a_receiver_that_fails_starves_no_other() {
    let moody = Arc::new(Moody::default());
    *moody.next.lock().unwrap() = (0..1000).map(|_| busy(0)).collect();
    let phone = Arc::new(hivemind_observe::MemoryNotifier::new());
    let pages = route("phone").matching("alertname in (page)".parse().unwrap()).waiting(secs(10));
    let rules = NotifyRules::new(route("moody").together_by(["node"]).or_else(pages));
    let clock = Arc::new(ManualClock::default());
    let telling = NotifyLoop::new(Arc::new(MemoryStore::new()), clock.clone(), rules)
        .with_receiver("moody".parse().unwrap(), moody.clone())
        .with_receiver("phone".parse().unwrap(), phone.clone());
    let mut firing: Vec<Alert> =
        (0..200).map(|node| alert("down", &[("node", &format!("n{node}"))])).collect();
    firing.push(alert("page", &[]));
    for _ in 0..11 {
        let before = *moody.asked.lock().unwrap();
        block_on(telling.tick(&firing)).unwrap();
        assert!(*moody.asked.lock().unwrap() - before <= 16);
        clock.advance(secs(1));
    }
    assert_eq!(phone.told().len(), 1);
}

#[test]
fn a_receiver_that_wants_to_be_left_alone_for_ever_is_asked_the_next_day() {
    let forever = Error::of(ErrorKind::Unavailable, "notify", RetryAfter(std::time::Duration::MAX));
    let all = Setting::new(route("moody"), vec![forever.with_retry(Retry::Later)]);
    all.pass(20, &[alert("down", &[])]);
    all.clock.advance(secs(24 * 3600));
    all.pass(1, &[alert("down", &[])]);
    assert_eq!(all.taken(), ["down fires"]);
}

#[test]
fn a_receiver_that_nobody_knows_is_said_so() {
    let all = Setting::new(route("nobody"), Vec::new());
    all.pass(20, &[alert("down", &[])]);
    assert_eq!(all.given_up.lock().unwrap().as_slice(), ["no receiver nobody is known"]);
}

#[test]
fn changes_while_a_receiver_is_away_are_told_in_a_few_messages() {
    let all = Setting::new(route("moody").every(secs(10)), vec![busy(10_000)]);
    for number in 0..50 {
        let node = format!("n{number}");
        all.pass(20, &[alert("down", &[("node", &node)])]);
    }
    all.pass(10_000, &[]);
    let taken = all.taken();
    assert!(taken.len() <= 8, "{} messages", taken.len());
    assert!(taken.first().unwrap().starts_with("down fires, node n0"));
    // Nothing is lost: the last message tells all that is over.
    for number in 0..50 {
        let over = format!("down is over, node n{number}");
        assert!(taken.iter().any(|one| one.split("; ").any(|part| part == over)), "{over}");
    }
}

#[test]
fn a_route_that_is_gone_says_nothing_more_and_its_like_begins() {
    let telling = Telling::new(NotifyRules::new(route("mail")));
    telling.pass(20, &[alert("down", &[])]);
    let other = Telling { clock: telling.clock.clone(), ..Telling::new(NotifyRules::new(route("phone"))) };
    other.pass(20, &[alert("down", &[])]);
    assert_eq!((telling.mail.told().len(), other.phone.told().len()), (1, 1));
}

/// However many alerts there are, and whatever a tenant puts into their labels: what is kept fits into a store, everything is
/// counted, and what fits is told.
#[test]
fn thousands_of_alerts_with_long_labels_are_told_as_far_as_they_fit() {
    let telling = Telling::new(NotifyRules::new(route("mail")));
    let long = "\u{1}".repeat(4000);
    let firing: Vec<Alert> = (0..3000)
        .map(|number| {
            alert(
                "full",
                &[("path", &format!("{number:04}")), ("evil", if number < 30 { &long } else { "" })],
            )
        })
        .collect();
    telling.pass(75, &firing);
    telling.pass(75, &[]);
    let told = telling.mail.told();
    let first = &told[0];
    assert_eq!(first.firing.len() + first.more_firing, 3000);
    assert!(!first.firing.is_empty() && serde_json::to_string(first).unwrap().len() < 100_000);
    let last = told.last().unwrap();
    assert!(last.firing.is_empty() && last.more_firing == 0);
    assert!(last.resolved.len() + last.more_resolved > 500, "{} {}", last.resolved.len(), last.more_resolved);
    assert!(last.to_string().ends_with(&format!("what is over is {} more", last.more_resolved)));
}

#[test]
fn a_receiver_that_is_away_while_thousands_fire_holds_up_nobody() {
    let all = Setting::new(route("moody").every(secs(1)), vec![busy(100_000)]);
    for round in 0..40 {
        let firing: Vec<Alert> = (0..1000)
            .map(|number| alert("full", &[("path", &format!("{}", number + round * 500))]))
            .collect();
        all.pass(2, &firing);
    }
    all.clock.advance(secs(100_000));
    all.pass(20, &[]);
    let last = all.taken().pop().unwrap();
    assert!(last.contains("is over"), "{last}");
}
