//! The content of a volume, copied to another provider: in pieces, resumed where it ended, and compared in the end.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use hivemind_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

/// The content of a volume to read: a snapshot, or a volume that nobody writes to.
///
/// # Contract
///
/// The same piece has the same bytes whenever it is read.
#[async_trait]
pub trait ContentReader: fmt::Debug + Send + Sync {
    /// How many bytes there are.
    async fn size(&self) -> Result<u64>;

    /// Just `length` bytes from `offset` on, all of which are there.
    async fn read_at(&self, offset: u64, length: u64) -> Result<Bytes>;
}

/// A volume to write to, which nobody else uses.
///
/// # Contract
///
/// Writing the same piece again is harmless. Once [`sync`](Self::sync) has returned, what was written survives.
#[async_trait]
pub trait ContentWriter: ContentReader {
    /// Writes `content` at `offset`.
    async fn write_at(&self, offset: u64, content: Bytes) -> Result<()>;

    /// Makes everything written so far durable.
    async fn sync(&self) -> Result<()>;
}

/// How far a copy has come. Keep it where it survives, and go on from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CopyProgress {
    /// How many bytes a piece has.
    pub piece: u64,
    /// How many bytes there are to copy.
    pub total: u64,
    /// The checksum (BLAKE3) of each piece that is durable at the target, in order.
    pub pieces: Vec<[u8; 32]>,
    /// How many of the pieces have been read back and compared.
    pub compared: usize,
}

/// How many bytes a piece has, if nothing else is said.
const PIECE: u64 = 4 << 20;

impl CopyProgress {
    /// Nothing of `total` bytes is copied yet.
    pub fn new(total: u64) -> Self {
        Self { piece: PIECE, total, pieces: Vec::new(), compared: 0 }
    }

    /// In pieces of so many bytes: at least one.
    #[must_use]
    pub fn in_pieces_of(mut self, bytes: u64) -> Self {
        self.piece = bytes.max(1);
        self
    }

    fn count(&self) -> usize {
        usize::try_from(self.total.div_ceil(self.piece)).unwrap_or(usize::MAX)
    }

    /// Whether all is copied and compared.
    pub fn is_done(&self) -> bool {
        self.pieces.len() >= self.count() && self.compared >= self.count()
    }

    /// Where piece `number` begins, and how long it is.
    fn bounds(&self, number: usize) -> (u64, u64) {
        let offset = self.piece.saturating_mul(u64::try_from(number).unwrap_or(u64::MAX));
        (offset, self.piece.min(self.total.saturating_sub(offset)))
    }
}

/// Takes a copy one piece further: copies it, or, once all are copied, reads it back and compares it. Repeat it until
/// [it is done](CopyProgress::is_done), and write `progress` down as often as you like: what was done after the last
/// time is done again.
///
/// # Errors
/// [`ErrorKind::Invalid`] if the source has another length than before, or the target has no room; [`ErrorKind::Corrupt`]
/// if a piece reads otherwise than it was written: begin anew; those of both sides.
pub async fn copy_piece(
    from: &dyn ContentReader,
    to: &dyn ContentWriter,
    progress: &mut CopyProgress,
) -> Result<()> {
    const OPERATION: &str = "copy";
    let (has, room) = (from.size().await?, to.size().await?);
    if has != progress.total || room < progress.total {
        let message =
            format!("{} bytes are to be copied, the source has {has} and the target {room}", progress.total);
        return Err(Error::invalid(OPERATION, message));
    }
    if progress.pieces.len() < progress.count() {
        let (offset, length) = progress.bounds(progress.pieces.len());
        let content = read(from, offset, length).await?;
        let checksum = *blake3::hash(&content).as_bytes();
        to.write_at(offset, content).await?;
        to.sync().await?;
        progress.pieces.push(checksum);
        return Ok(());
    }
    let Some(expected) = progress.pieces.get(progress.compared) else { return Ok(()) };
    let (offset, length) = progress.bounds(progress.compared);
    if blake3::hash(&read(to, offset, length).await?).as_bytes() != expected {
        let message = format!("{length} bytes at {offset} read otherwise than they were written: begin anew");
        return Err(Error::new(ErrorKind::Corrupt, OPERATION, message));
    }
    progress.compared += 1;
    Ok(())
}

async fn read<R: ContentReader + ?Sized>(from: &R, offset: u64, length: u64) -> Result<Bytes> {
    let content = from.read_at(offset, length).await?;
    if u64::try_from(content.len()).ok() == Some(length) {
        return Ok(content);
    }
    let message = format!("{length} bytes were asked for at {offset}, and {} came", content.len());
    Err(Error::new(ErrorKind::Corrupt, "copy", message))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hivemind_core::block_on;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug)]
    struct Disk(Mutex<Vec<u8>>);

    fn range(offset: u64, length: u64) -> std::ops::Range<usize> {
        let at = usize::try_from(offset).unwrap();
        at..at + usize::try_from(length).unwrap()
    }

    #[async_trait]
    impl ContentReader for Disk {
        async fn size(&self) -> Result<u64> {
            Ok(u64::try_from(self.0.lock().unwrap().len()).unwrap())
        }
        async fn read_at(&self, offset: u64, length: u64) -> Result<Bytes> {
            Ok(Bytes::copy_from_slice(&self.0.lock().unwrap()[range(offset, length)]))
        }
    }

    #[async_trait]
    impl ContentWriter for Disk {
        async fn write_at(&self, offset: u64, content: Bytes) -> Result<()> {
            let length = u64::try_from(content.len()).unwrap();
            self.0.lock().unwrap()[range(offset, length)].copy_from_slice(&content);
            Ok(())
        }
        async fn sync(&self) -> Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// It is interrupted at any piece, and goes on from what was written down last.
        #[test]
        fn a_copy_is_equal_however_often_it_is_interrupted(
            content in prop::collection::vec(any::<u8>(), 0..200),
            piece in 1u64..40,
            saved in prop::collection::vec(any::<bool>(), 0..50),
        ) {
            let total = u64::try_from(content.len()).unwrap();
            let (from, to) = (Disk(Mutex::new(content.clone())), Disk(Mutex::new(vec![0; content.len() + 7])));
            let mut kept = CopyProgress::new(total).in_pieces_of(piece);
            for keep in saved.into_iter().chain(std::iter::repeat(true)) {
                let mut progress: CopyProgress = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
                if progress.is_done() {
                    break;
                }
                block_on(copy_piece(&from, &to, &mut progress)).unwrap();
                if keep {
                    kept = progress;
                }
            }
            prop_assert_eq!(&to.0.lock().unwrap()[..content.len()], &content[..]);
        }
    }

    #[test]
    fn a_target_that_forgets_is_found_out() {
        let (from, to) = (Disk(Mutex::new(vec![7; 100])), Disk(Mutex::new(vec![0; 100])));
        let mut progress = CopyProgress::new(100).in_pieces_of(64);
        block_on(copy_piece(&from, &to, &mut progress)).unwrap();
        block_on(copy_piece(&from, &to, &mut progress)).unwrap();
        to.0.lock().unwrap()[70] = 0;
        block_on(copy_piece(&from, &to, &mut progress)).unwrap();
        let error = block_on(copy_piece(&from, &to, &mut progress)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let small = Disk(Mutex::new(vec![0; 99]));
        assert_eq!(
            block_on(copy_piece(&from, &small, &mut progress)).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}
