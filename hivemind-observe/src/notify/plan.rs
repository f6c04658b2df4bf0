//! What there is to say, given what fires and what was said. No I/O, no clock, no async.

use std::collections::BTreeMap;

use hivemind_core::Timestamp;

use super::{Alert, Group, Inhibition, Route, Silence};

/// Who is told of what, and what keeps quiet meanwhile.
#[derive(Debug, Clone)]
pub struct NotifyRules {
    routes: Route,
    inhibitions: Vec<Inhibition>,
}

/// Groups by a name that is made of their route and their labels.
pub(crate) type Groups = BTreeMap<String, Group>;

impl NotifyRules {
    /// By these routes: the one at the top is told of whatever goes nowhere else, if it matches.
    pub fn new(routes: Route) -> Self {
        Self { routes, inhibitions: Vec::new() }
    }

    /// With this inhibition too.
    #[must_use]
    pub fn with_inhibition(mut self, inhibition: Inhibition) -> Self {
        self.inhibitions.push(inhibition);
        self
    }

    /// Whom an alert would be told to now, if nothing keeps it quiet: to try routes before they are in force.
    ///
    /// ```
    /// use hivemind_core::Timestamp;
    /// use hivemind_observe::notify::{Alert, NotifyRules, Route};
    ///
    /// let pages = Route::to("on-call".parse()?).matching("severity in (page,wake)".parse()?);
    /// let rules = NotifyRules::new(Route::to("mail".parse()?).or_else(pages));
    /// let alert = Alert::new("full".parse()?, Timestamp::EPOCH).with("severity", "page");
    /// assert_eq!(rules.receivers_of(&alert), ["on-call"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn receivers_of(&self, alert: &Alert) -> Vec<&str> {
        let mut routes = Vec::new();
        self.routes.of(alert, &[], &mut routes);
        routes.into_iter().map(|(_, route)| route.receiver().as_str()).collect()
    }

    /// Brings `groups` up to `now`: what there is to say waits in them.
    pub(crate) fn plan(&self, groups: &mut Groups, now: Timestamp, firing: &[Alert], silences: &[Silence]) {
        let sources: Vec<_> = self.inhibitions.iter().map(|one| (one, one.sources(firing))).collect();
        let is_loud = |alert: &Alert| {
            !silences.iter().any(|silence| silence.covers(alert, now))
                && !sources.iter().any(|(inhibition, sources)| inhibition.covers(alert, sources))
        };
        let mut together = BTreeMap::<String, Vec<(&Alert, bool)>>::new();
        let mut routes = Vec::new();
        let mut in_order: Vec<&Alert> = firing.iter().collect();
        in_order.sort_unstable();
        in_order.dedup_by_key(|alert| alert.about());
        for alert in in_order {
            let loud = is_loud(alert);
            self.routes.of(alert, &[], &mut routes);
            for (way, route) in routes.drain(..) {
                let labels = route.group_of(alert);
                let name = name(&way, &labels);
                groups
                    .entry(name.clone())
                    .or_insert_with(|| Group::begin(name.clone(), (way, route), labels, now));
                let together = together.entry(name).or_default();
                // Two routes that are alike tell the same receiver of the same thing once.
                if together.last().is_none_or(|(last, _)| last.about() != alert.about()) {
                    together.push((alert, loud));
                }
            }
        }
        let anywhere = firing.iter().map(Alert::about).collect();
        groups.retain(|name, group| {
            let firing = together.remove(name).unwrap_or_default();
            match self.routes.find(&group.way) {
                Some(route) => group.advance(route, now, &firing, &anywhere),
                None => group.leave(),
            }
            !firing.is_empty() || !group.is_over()
        });
    }
}

fn name(way: &[String], labels: &BTreeMap<String, String>) -> String {
    let mut digest = blake3::Hasher::new();
    let parts = way.iter().chain(labels.iter().flat_map(|(label, value)| [label, value]));
    for part in parts {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part.as_bytes());
    }
    // The numbers of both tell them apart, where one ends and the other begins.
    digest.update(&(way.len() as u64).to_le_bytes());
    digest.finalize().to_hex().chars().take(32).collect()
}
