//! Records as bytes: kind, key, and for a put the revision and the value. All numbers are little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hivemind_core::store::{Key, Revision};

/// What a backup says of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// The key has this value.
    Put { key: Key, value: Bytes, mod_revision: Revision },
    /// The key of the base is gone.
    Delete(Key),
}

const PUT: u8 = 0;
const DELETE: u8 = 1;

impl Change {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }

    /// How many bytes it has; none if it is too large for the format.
    pub(super) fn encoded_len(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => 1 + 2 + key.as_bytes().len() + 8 + 4 + value.len(),
            Self::Delete(key) => 1 + 2 + key.as_bytes().len(),
        }
    }

    /// Appends the bytes; `None` if a length does not fit.
    pub(super) fn encode(&self, out: &mut BytesMut) -> Option<()> {
        let key = self.key().as_bytes();
        out.put_u8(if matches!(self, Self::Put { .. }) { PUT } else { DELETE });
        out.put_u16_le(u16::try_from(key.len()).ok()?);
        out.put_slice(key);
        if let Self::Put { value, mod_revision, .. } = self {
            out.put_u64_le(mod_revision.as_u64());
            out.put_u32_le(u32::try_from(value.len()).ok()?);
            out.put_slice(value);
        }
        Some(())
    }

    /// Takes one change off the front; `None` if it is not a whole and valid one.
    pub(super) fn decode(from: &mut Bytes) -> Option<Self> {
        let kind = from.try_get_u8().ok()?;
        let key_len = usize::from(from.try_get_u16_le().ok()?);
        let key = Key::from_bytes(&take(from, key_len)?).ok()?;
        match kind {
            DELETE => Some(Self::Delete(key)),
            PUT => {
                let mod_revision = Revision::new(from.try_get_u64_le().ok()?);
                let value_len = usize::try_from(from.try_get_u32_le().ok()?).ok()?;
                Some(Self::Put { key, value: take(from, value_len)?, mod_revision })
            }
            _ => None,
        }
    }
}

/// A checked `split_to`, which would panic.
fn take(from: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= from.len()).then(|| from.split_to(len))
}
