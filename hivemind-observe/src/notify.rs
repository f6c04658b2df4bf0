//! Who is told of what fires, when, and how often.
//!
//! What is told follows from what fires now and from what was told before, never from events: so a crash between the two loses
//! nothing, and a receiver that was away hears how things are. [`NotifyRules`] say who is told ([`Route`]), what keeps quiet
//! meanwhile ([`Inhibition`], [`Silence`]); a [`NotifyLoop`](crate::NotifyLoop) keeps in the store what was told, and sends.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use hivemind_core::{ManualClock, MemoryStore, block_on};
//! use hivemind_observe::notify::{Alert, NotifyRules, Route};
//! use hivemind_observe::{MemoryNotifier, NotifyLoop};
//!
//! let on_call = Route::to("on-call".parse()?).matching("severity=page".parse()?).waiting(Duration::from_secs(30));
//! let rules = NotifyRules::new(Route::to("mail".parse()?).or_else(on_call));
//!
//! let (clock, phone) = (Arc::new(ManualClock::default()), Arc::new(MemoryNotifier::new()));
//! let store = Arc::new(MemoryStore::new());
//! let telling = NotifyLoop::new(store, clock.clone(), rules).with_receiver("on-call".parse()?, phone.clone());
//!
//! let alert = Alert::new("node-down".parse()?, clock_now(&clock)).with("severity", "page").with("node", "n1");
//! block_on(telling.tick(&[alert.clone()]))?; // call it every few seconds with all that fires
//! clock.advance(Duration::from_secs(30));
//! block_on(telling.tick(&[alert]))?;
//! assert_eq!(phone.told()[0].to_string(), "node-down fires, node n1, severity page");
//! # fn clock_now(clock: &ManualClock) -> hivemind_core::Timestamp { hivemind_core::Clock::now(clock) }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alert;
mod group;
mod plan;
mod quiet;
mod route;

pub use self::alert::{Alert, Notification, Reason, RetryAfter};
pub(crate) use self::group::Group;
pub(crate) use self::plan::Groups;
pub use self::plan::NotifyRules;
pub use self::quiet::{Inhibition, Silence};
pub use self::route::Route;
