//! Which services wait for which: no service may wait for itself.

use std::collections::{BTreeMap, BTreeSet};

use hivemind_core::ServiceName;

/// What every service waits for, and where the file says so.
pub(super) type Waits<P> = BTreeMap<ServiceName, Vec<(ServiceName, P)>>;

/// Services that wait for each other in a circle, if there are any, each with where the file says so.
pub(super) fn cycle<P: Copy>(waits: &Waits<P>) -> Option<Vec<(ServiceName, P)>> {
    let mut open: BTreeMap<&ServiceName, usize> = BTreeMap::new();
    let mut behind: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
    for (name, others) in waits {
        let others: Vec<_> = others.iter().filter(|(other, _)| waits.contains_key(other)).collect();
        open.insert(name, others.len());
        for (other, _) in others {
            behind.entry(other).or_default().push(name);
        }
    }
    let mut ready: Vec<_> = open.iter().filter(|(_, waits)| **waits == 0).map(|(name, _)| *name).collect();
    while let Some(name) = ready.pop() {
        open.remove(name);
        for waiting in behind.remove(name).unwrap_or_default() {
            if let Some(left) = open.get_mut(waiting) {
                *left -= 1;
                if *left == 0 {
                    ready.push(waiting);
                }
            }
        }
    }
    // Who is left waits for another that is left: following them ends in a circle.
    let mut name = *open.keys().next()?;
    let (mut path, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.insert(name) {
        let (next, at) = waits.get(name)?.iter().find(|(other, _)| open.contains_key(other))?;
        path.push((name.clone(), *at));
        name = next;
    }
    Some(path.into_iter().skip_while(|(member, _)| member != name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(pairs: &[(&str, &[&str])]) -> Waits<()> {
        let name = |text: &str| ServiceName::new(text).unwrap();
        let of = |others: &[&str]| others.iter().map(|other| (name(other), ())).collect();
        pairs.iter().map(|(service, others)| (name(service), of(others))).collect()
    }

    fn members(pairs: &[(&str, &[&str])]) -> Option<Vec<String>> {
        cycle(&waits(pairs)).map(|found| found.iter().map(|(name, ())| name.to_string()).collect())
    }

    #[test]
    fn finds_the_circle_and_nobody_else() {
        assert_eq!(members(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &["gone"])]), None);
        assert_eq!(members(&[("a", &["a"])]).unwrap(), ["a"]);
        let found = members(&[("a", &["b"]), ("b", &["c", "d"]), ("c", &["b"]), ("d", &[]), ("e", &["a"])]);
        assert_eq!(found.unwrap(), ["b", "c"]);
    }

    #[test]
    fn a_long_chain_takes_no_time_and_no_stack() {
        let name = |number: usize| ServiceName::new(format!("s{number}")).unwrap();
        let mut chain: Waits<usize> = (0..20_000).map(|n| (name(n), vec![(name(n + 1), n)])).collect();
        assert_eq!(cycle(&chain), None);
        chain.insert(name(20_000), vec![(name(0), 20_000)]);
        assert_eq!(cycle(&chain).unwrap().len(), 20_001);
    }
}
