//! A disk that loses power, fills up, or fails: what was not synced survives sector by sector, or not.

use std::io;
use std::sync::{Arc, Mutex};

use hivemind_core::testkit::SimRng;
use redb::StorageBackend;

const SECTOR: usize = 512;

/// What a disk does wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// The power goes at this call.
    pub(crate) off_at: Option<u64>,
    /// Syncs that are reported and not done.
    pub(crate) lies: bool,
    /// There is no more room than this.
    pub(crate) room: Option<u64>,
    /// Reads, writes or syncs fail from this call on, so many times.
    pub(crate) reads_fail_at: Option<u64>,
    pub(crate) writes_fail_at: Option<u64>,
    pub(crate) syncs_fail_at: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Platter {
    /// What is there for certain.
    durable: Vec<u8>,
    /// What a reader sees.
    seen: Vec<u8>,
    /// What happened since the last sync, in order.
    pending: Vec<Pending>,
    calls: u64,
    pub(crate) faults: Faults,
}

#[derive(Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Resize(usize),
}

/// A handle on a platter, as the engine wants it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(pub(crate) Arc<Mutex<Platter>>);

fn apply(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

impl Platter {
    fn call(&mut self) -> io::Result<u64> {
        self.calls += 1;
        match self.faults.off_at {
            Some(at) if self.calls >= at => Err(io::Error::other("the power is off")),
            _ => Ok(self.calls),
        }
    }

    /// The power is back: of what was not synced, each sector is there with the probability `percent`.
    pub(crate) fn power_cycle(&mut self, rng: &mut SimRng, percent: u64) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Resize(len) => {
                    if rng.below(100) < percent {
                        self.durable.resize(len, 0);
                    }
                }
                Pending::Write(at, data) => {
                    let mut done = 0;
                    while done < data.len() {
                        let end = ((at + done) / SECTOR + 1) * SECTOR - at;
                        let piece = &data[done..end.min(data.len())];
                        if rng.below(100) < percent {
                            apply(&mut self.durable, at + done, piece);
                        }
                        done += piece.len();
                    }
                }
            }
        }
        self.seen = self.durable.clone();
        self.calls = 0;
        self.faults.off_at = None;
    }

    pub(crate) fn is_on(&self) -> bool {
        self.faults.off_at.is_none_or(|at| self.calls < at)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls
    }
}

fn failing(at: Option<u64>, call: u64) -> io::Result<()> {
    match at {
        Some(at) if call >= at => Err(io::Error::other("the disk failed")),
        _ => Ok(()),
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let mut platter = self.0.lock().unwrap();
        platter.call()?;
        Ok(platter.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        let call = platter.call()?;
        failing(platter.faults.reads_fail_at, call)?;
        let at = usize::try_from(offset).unwrap();
        let Some(found) = platter.seen.get(at..at + out.len()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        let call = platter.call()?;
        failing(platter.faults.writes_fail_at, call)?;
        if platter.faults.room.is_some_and(|room| len > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).unwrap();
        platter.seen.resize(len, 0);
        platter.pending.push(Pending::Resize(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        let call = platter.call()?;
        failing(platter.faults.syncs_fail_at, call)?;
        if !platter.faults.lies {
            platter.durable = platter.seen.clone();
            platter.pending.clear();
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.lock().unwrap();
        let call = platter.call()?;
        failing(platter.faults.writes_fail_at, call)?;
        let at = usize::try_from(offset).unwrap();
        apply(&mut platter.seen, at, data);
        platter.pending.push(Pending::Write(at, data.to_vec()));
        Ok(())
    }
}
