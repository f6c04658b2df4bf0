//! How much was read of an image and written to it since it was staged, as the kernel counts it for the loop device.
//!
//! The kernel counts for the device, whose files come and go: what it had counted when the image came is written down.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::backing::DATA;
use super::sys::loops;

/// In the directory of a volume: what was counted before.
const BEFORE: &str = "counted";
/// The kernel counts in these, whatever the device has.
const SECTOR: u64 = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counted {
    reads: u64,
    read_sectors: u64,
    writes: u64,
    written_sectors: u64,
}

#[derive(Serialize, Deserialize)]
struct Before {
    boot: String,
    device: PathBuf,
    counted: Counted,
}

/// What a line of `/sys/block/*/stat` says.
fn parse(text: &str) -> Option<Counted> {
    let fields: Vec<u64> = text.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let at = |nth: usize| fields.get(nth).copied();
    Some(Counted { reads: at(0)?, read_sectors: at(2)?, writes: at(4)?, written_sectors: at(6)? })
}

fn counted(device: &Path) -> Option<Counted> {
    let path = Path::new("/sys/block").join(device.file_name()?).join("stat");
    parse(&fs::read_to_string(path).ok()?)
}

/// Nothing is told of what was staged earlier.
pub(super) fn end(place: &Path) {
    let _ = fs::remove_file(place.join(BEFORE));
}

/// Counts from now on for the volume at `place`. Where that cannot be written down, nothing is told.
pub(super) fn begin(place: &Path, boot: &str) {
    let devices = loops::of(&place.join(DATA)).unwrap_or_default();
    let Some(device) = devices.into_iter().find(|device| !loops::is_read_only(device)) else { return };
    let Some(counted) = counted(&device) else { return };
    let before = Before { boot: boot.to_owned(), device, counted };
    let _ = serde_json::to_vec(&before).map(|text| fs::write(place.join(BEFORE), text));
}

/// What was counted for the volume at `place` since it was staged; nothing where that is not known.
pub(super) fn since(place: &Path, boot: &str) -> BTreeMap<String, u64> {
    let before = fs::read(place.join(BEFORE)).ok();
    let before: Option<Before> = before.and_then(|text| serde_json::from_slice(&text).ok());
    let Some(before) = before.filter(|before| before.boot == boot) else { return BTreeMap::new() };
    if !loops::is_behind(&place.join(DATA), &before.device) {
        return BTreeMap::new();
    }
    counted(&before.device).map(|now| grown(before.counted, now)).unwrap_or_default()
}

fn grown(before: Counted, now: Counted) -> BTreeMap<String, u64> {
    let bytes = |now: u64, before: u64| now.saturating_sub(before).saturating_mul(SECTOR);
    let all = [
        ("reads", now.reads.saturating_sub(before.reads)),
        ("read-bytes", bytes(now.read_sectors, before.read_sectors)),
        ("writes", now.writes.saturating_sub(before.writes)),
        ("written-bytes", bytes(now.written_sectors, before.written_sectors)),
    ];
    all.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_understood_and_what_was_before_does_not_count() {
        let line = "     10        1       80        3       20        2      160        4        0        5        7\n";
        let before = parse(line).unwrap();
        assert_eq!(before, Counted { reads: 10, read_sectors: 80, writes: 20, written_sectors: 160 });
        let now = Counted { reads: 11, read_sectors: 88, writes: 22, written_sectors: 176 };
        let told = grown(before, now);
        let told: Vec<_> = told.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(told, [("read-bytes", 4096), ("reads", 1), ("writes", 2), ("written-bytes", 8192)]);
        assert_eq!((parse(""), parse("1 2 3 x 5 6 7 8")), (None, None));
    }
}
