//! Values by place, of 256 that lie together: a map in JSON, a sorted list in memory. No I/O, no clock, no async.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::json;

/// Like a map from places, and read, copied and written several times faster: its records are so with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByPlace<T>(Vec<(u8, T)>);

impl<T> Default for ByPlace<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByPlace<T> {
    /// Of a list in order.
    pub(crate) fn of(sorted: Vec<(u8, T)>) -> Self {
        Self(sorted)
    }

    /// As a list in order.
    pub(crate) fn as_slice(&self) -> &[(u8, T)] {
        &self.0
    }

    fn find(&self, place: u8) -> Result<usize, usize> {
        self.0.binary_search_by_key(&place, |(place, _)| *place)
    }

    pub(crate) fn get(&self, place: u8) -> Option<&T> {
        self.0.get(self.find(place).ok()?).map(|(_, value)| value)
    }

    pub(crate) fn contains(&self, place: u8) -> bool {
        self.find(place).is_ok()
    }

    /// Puts a value where there may be one.
    pub(crate) fn insert(&mut self, place: u8, value: T) {
        match self.find(place) {
            Ok(at) => {
                if let Some((_, old)) = self.0.get_mut(at) {
                    *old = value;
                }
            }
            Err(at) => self.0.insert(at, (place, value)),
        }
    }

    pub(crate) fn remove(&mut self, place: u8) -> Option<T> {
        Some(self.0.remove(self.find(place).ok()?).1)
    }

    /// All, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, &T)> + Clone {
        self.0.iter().map(|(place, value)| (*place, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As [`Serialize`] does, by hand.
    pub(super) fn write(&self, to: &mut Vec<u8>, value_of: impl Fn(&mut Vec<u8>, &T)) {
        let mut before = b'{';
        if self.is_empty() {
            to.push(before);
        }
        for (place, value) in self.iter() {
            to.push(before);
            to.push(b'"');
            json::byte(to, place);
            json::raw(to, "\":");
            value_of(to, value);
            before = b',';
        }
        to.push(b'}');
    }
}

impl<T: Serialize> Serialize for ByPlace<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ByPlace<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reader(PhantomData)).map(Self)
    }
}

struct Reader<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
    type Value = Vec<(u8, T)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from places, 0 to 255")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut all: Vec<(u8, T)> = Vec::with_capacity(64);
        while let Some(one) = map.next_entry()? {
            all.push(one);
        }
        // As we write them they are in order; what was upgraded is in the order of texts.
        if !all.is_sorted_by(|(a, _), (b, _)| a < b) {
            all.sort_by_key(|(place, _)| *place);
            let twice = all.windows(2).find_map(|pair| match pair {
                [(a, _), (b, _)] if a == b => Some(*a),
                _ => None,
            });
            if let Some(place) = twice {
                return Err(A::Error::custom(format!("place {place} is there twice")));
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_come_in_any_order_and_each_once() {
        let read = serde_json::from_str::<ByPlace<u8>>;
        assert_eq!(read(r#"{"255":2,"2":1}"#).unwrap().as_slice(), [(2, 1), (255, 2)]);
        assert!(read("{}").unwrap().is_empty());
        for wrong in
            [r#"{"2":1,"2":1}"#, r#"{"3":1,"2":1,"3":2}"#, r#"{"256":1}"#, r#"{"x":1}"#, r#"[["2",1]]"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), 0u8..20, any::<u8>()), 0..60)) {
            let (mut ours, mut map) = (ByPlace::default(), BTreeMap::new());
            for (insert, place, value) in steps {
                if insert {
                    ours.insert(place, value);
                    map.insert(place, value);
                } else {
                    prop_assert_eq!(ours.remove(place), map.remove(&place));
                }
                prop_assert_eq!((ours.get(place), ours.contains(place)), (map.get(&place), map.contains_key(&place)));
                prop_assert_eq!(ours.len(), map.len());
            }
            let text = serde_json::to_string(&map).unwrap();
            let mut written = Vec::new();
            ours.write(&mut written, |to, value| json::byte(to, *value));
            prop_assert_eq!(std::str::from_utf8(&written).unwrap(), &text);
            prop_assert_eq!(serde_json::to_string(&ours).unwrap(), text.clone());
            prop_assert_eq!(serde_json::from_str::<ByPlace<u8>>(&text).unwrap(), ours);
        }
    }
}
