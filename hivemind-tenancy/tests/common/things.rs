//! A host's own records, with and without a tenant.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test uses some of it, and may panic"
)]

use std::collections::BTreeMap;

use hivemind_core::labels::Labels;
use hivemind_core::store::{Key, Prefix, Record, Snapshot};
use hivemind_core::{Error, Result, TenantRef};
use hivemind_tenancy::adoption::{Adoptable, AdoptableResource, AdoptedRecord};

/// Things of three kinds: `moving` ones go to a key with the tenant in it, `staying` ones only get another value, and
/// `shrinking` ones lose the last letter of their name, so that two may want the same place.
///
/// `things/free/<kind>/<name>` holds `<labels>;<anything>`, `things/of/<tenant>/<kind>/<name>` the same;
/// a `staying` thing that is owned holds `<tenant>!<labels>;<anything>`. A value that begins with `?` is damaged.
#[derive(Debug, Clone, Copy)]
pub struct Things;

pub fn below() -> Prefix {
    Prefix::new(["things"]).unwrap()
}

pub fn free(kind: &str, name: &str) -> Key {
    Key::new(["things", "free", kind, name]).unwrap()
}

pub fn of(tenant: &TenantRef, kind: &str, name: &str) -> Key {
    Key::new(["things", "of", &tenant.to_string(), kind, name]).unwrap()
}

/// What there is, byte for byte.
pub fn all(view: &Snapshot) -> BTreeMap<Key, Vec<u8>> {
    view.scan(&below()).map(|record| (record.key.clone(), record.value.to_vec())).collect()
}

fn labels(value: &[u8]) -> Labels {
    let text = value.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.fold(Labels::new(), |labels, (key, value)| labels.with(key, value).unwrap())
}

fn parts(record: &Record) -> Vec<String> {
    record.key.segments().map(|segment| String::from_utf8_lossy(segment).into_owned()).collect()
}

impl Adoptable for Things {
    fn prefix(&self) -> Prefix {
        below()
    }

    fn describe(&self, record: &Record) -> Result<Option<AdoptableResource>> {
        if record.value.starts_with(b"?") {
            return Err(Error::internal("describe", "it is damaged"));
        }
        let parts = parts(record);
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        let mut value: &[u8] = &record.value;
        let (kind, name, mut tenant) = match parts[..] {
            [_, "free", kind, name] => (kind, name, None),
            [_, "of", tenant, kind, name] => (kind, name, Some(tenant.parse().unwrap())),
            _ => return Ok(None),
        };
        if let Some(at) = record.value.iter().position(|byte| *byte == b'!').filter(|_| kind == "staying") {
            tenant = Some(String::from_utf8_lossy(&record.value[..at]).parse().unwrap());
            value = &record.value[at + 1..];
        }
        let resource = AdoptableResource::new(kind.parse().unwrap(), name).with_labels(labels(value));
        Ok(Some(match tenant {
            Some(tenant) => resource.of(tenant),
            None => resource,
        }))
    }

    fn adopt(&self, record: &Record, tenant: &TenantRef) -> Result<AdoptedRecord> {
        let parts = parts(record);
        let (kind, name) = (&parts[2], &parts[3]);
        Ok(match kind.as_str() {
            "staying" => {
                let value = [tenant.to_string().as_bytes(), b"!", &record.value].concat();
                AdoptedRecord::new(record.key.clone(), value)
            }
            "shrinking" => AdoptedRecord::new(of(tenant, kind, &name[..name.len() - 1]), &record.value[..]),
            "stubborn" => AdoptedRecord::new(record.key.clone(), &record.value[..]),
            "greedy" => AdoptedRecord::new(Key::new(["tenancy", "things", name]).unwrap(), &b""[..]),
            _ => AdoptedRecord::new(of(tenant, kind, name), &record.value[..]),
        })
    }
}
