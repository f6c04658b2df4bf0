//! Every operation that takes a context, tried with another tenant's ids and names: nothing of the other is read,
//! changed, counted, or confirmed to exist.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may panic"
)]

mod common;
#[path = "common/things.rs"]
mod things;

#[path = "boundary/access.rs"]
mod access;
#[cfg(feature = "cedar")]
#[path = "boundary/cedar.rs"]
mod cedar;
#[path = "boundary/scene.rs"]
mod scene;
#[path = "boundary/tenants.rs"]
mod tenants;
#[path = "boundary/work.rs"]
mod work;

use scene::{Case, Own, Scene};

fn cases() -> Vec<Case> {
    #[cfg(feature = "cedar")]
    let by_policies = cedar::CASES;
    #[cfg(not(feature = "cedar"))]
    let by_policies: &[Case] = &[];
    [tenants::CASES, access::CASES, work::CASES, by_policies].concat()
}

#[test]
fn pitfall_08_what_is_anothers_looks_like_what_is_not_there() {
    for case in cases() {
        let [foreign, nothing] = [Scene::foreign, Scene::nothing].map(|make| Scene::told(&make(), &case));
        assert_eq!(foreign, nothing, "{}", case.name);
    }
}

#[test]
fn pitfall_08_no_operation_changes_or_tells_of_anothers_things() {
    for case in cases() {
        for make in [Scene::foreign, Scene::nothing, Scene::own] {
            let scene = make();
            let before = scene.theirs();
            // Enough of theirs that a change would be seen.
            assert!(before.len() > 8, "{before:?}");
            scene.told(&case);
            assert!(scene.theirs() == before, "{} changed it", case.name);
        }
        let scene = Scene::own();
        let told = scene.raw(&case);
        for word in ["globex", "theirs", "hooli"] {
            assert!(!format!("{told:?}").contains(word), "{}: {told:?}", case.name);
        }
        match case.own {
            Own::Works => assert!(told.is_ok(), "{}: {told:?}", case.name),
            Own::Refused => assert!(told.is_err(), "{}: {told:?}", case.name),
        }
    }
}
