//! Receivers that are busy, refuse, or are not there.

use std::sync::{Arc, Mutex};

use hivemind_core::{Error, ErrorKind, ManualClock, MemoryStore, Result, Retry, async_trait, block_on};
use hivemind_observe::notify::{Alert, Notification, NotifyLoop, NotifyRules, RetryAfter, Route};
use hivemind_observe::{Notifier, Registry};

use crate::{Telling, alert, route, secs};

/// Says next what it is told to; takes the message, once there is nothing left to say.
#[derive(Debug, Default)]
struct Moody {
    next: Mutex<Vec<Error>>,
    taken: Mutex<Vec<(u64, String)>>,
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
    all.pass(80, &[]);
    assert_eq!(all.taken(), ["down is over"]);
}

#[test]
fn a_receiver_that_fails_for_hours_is_given_up_in_the_end() {
    let all = Setting::new(route("moody").repeating(secs(1_000_000)), (0..12).map(|_| busy(0)).collect());
    all.pass(8 * 3600, &[alert("down", &[])]);
    let asked = *all.moody.asked.lock().unwrap();
    assert_eq!((asked, all.given_up.lock().unwrap().len(), all.taken().len()), (12, 1, 0));
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
