//! Compression and encryption of one block.

use bytes::Bytes;
use hivemind_core::{Error, ErrorKind, Result, SecretBytes};

use super::Damage;
use crate::{Compression, CompressionLevel};

/// How the blocks of one backup are sealed. It holds the data key: never print it.
pub(crate) struct Seal {
    compression: Compression,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code, reason = "there is no level without compression"))]
    level: i32,
    key: Option<SecretBytes>,
    binding: Vec<u8>,
}

#[cfg(feature = "encryption")]
const NONCE: usize = 24;

fn unsupported(feature: &str) -> Error {
    let message = format!("this build lacks feature `{feature}` of hivemind-backup: enable it");
    Error::new(ErrorKind::Unsupported, "seal", message)
}

impl Seal {
    /// Blocks of a backup described by `binding`, compressed, and encrypted if there is a data key.
    pub(crate) fn new(
        compression: Compression,
        level: CompressionLevel,
        key: Option<SecretBytes>,
        binding: Vec<u8>,
    ) -> Result<Self> {
        if compression == Compression::Zstd && !cfg!(feature = "zstd") {
            return Err(unsupported("zstd"));
        }
        if key.is_some() && !cfg!(feature = "encryption") {
            return Err(unsupported("encryption"));
        }
        Ok(Self { compression, level: level.zstd_level().unwrap_or_default(), key, binding })
    }

    /// The two bytes of the header that say how.
    pub(super) fn codes(&self) -> [u8; 2] {
        let compression = match self.compression {
            Compression::None => 0,
            Compression::Zstd => 1,
        };
        [compression, u8::from(self.key.is_some())]
    }

    /// What a block is bound to besides its own bytes.
    #[cfg(feature = "encryption")]
    fn aad(&self, index: u64, head: &[u8]) -> Vec<u8> {
        [&self.binding, &self.codes()[..], &index.to_le_bytes(), head].concat()
    }

    /// Seals block `index`; `head` is authenticated with it.
    pub(super) fn seal(&self, index: u64, head: &[u8], plain: Bytes, nonce: [u8; 24]) -> Result<Bytes> {
        let packed = self.compress(plain)?;
        match &self.key {
            None => Ok(packed),
            Some(key) => self.encrypt(key, index, head, &packed, nonce),
        }
    }

    /// Opens what [`seal`](Self::seal) made; never more than `plain_len` bytes.
    pub(super) fn open(&self, index: u64, head: &[u8], stored: Bytes, plain_len: usize) -> Result<Bytes> {
        let packed = match &self.key {
            None => stored,
            Some(key) => self.decrypt(key, index, head, &stored)?,
        };
        let plain = self.decompress(index, packed, plain_len)?;
        if plain.len() != plain_len {
            return Err(Damage::BadHead(index).into());
        }
        Ok(plain)
    }

    fn compress(&self, plain: Bytes) -> Result<Bytes> {
        match self.compression {
            Compression::None => Ok(plain),
            #[cfg(feature = "zstd")]
            Compression::Zstd => match zstd::bulk::compress(&plain, self.level) {
                Ok(packed) => Ok(packed.into()),
                Err(e) => Err(Error::internal("compress", "a block could not be compressed").with_source(e)),
            },
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => Err(unsupported("zstd")),
        }
    }

    #[cfg_attr(not(feature = "zstd"), allow(unused_variables, reason = "used only to decompress"))]
    fn decompress(&self, index: u64, packed: Bytes, plain_len: usize) -> Result<Bytes> {
        match self.compression {
            Compression::None => Ok(packed),
            #[cfg(feature = "zstd")]
            Compression::Zstd => match zstd::bulk::decompress(&packed, plain_len) {
                Ok(plain) => Ok(plain.into()),
                Err(_) => Err(Damage::BadCompression(index).into()),
            },
            #[cfg(not(feature = "zstd"))]
            Compression::Zstd => Err(unsupported("zstd")),
        }
    }

    #[cfg(feature = "encryption")]
    fn encrypt(
        &self,
        key: &SecretBytes,
        index: u64,
        head: &[u8],
        msg: &[u8],
        nonce: [u8; 24],
    ) -> Result<Bytes> {
        use chacha20poly1305::aead::{Aead, Payload};
        let aad = self.aad(index, head);
        let sealed = cipher(key)?
            .encrypt(&nonce.into(), Payload { msg, aad: &aad })
            .map_err(|_| Error::internal("encrypt", "a block could not be encrypted"))?;
        Ok([&nonce[..], &sealed].concat().into())
    }

    #[cfg(feature = "encryption")]
    fn decrypt(&self, key: &SecretBytes, index: u64, head: &[u8], stored: &[u8]) -> Result<Bytes> {
        use chacha20poly1305::aead::{Aead, Payload};
        let damage = || Error::from(Damage::NotAuthentic(index));
        let (nonce, msg) = stored.split_first_chunk::<NONCE>().ok_or_else(damage)?;
        let aad = self.aad(index, head);
        let plain = cipher(key)?.decrypt(&(*nonce).into(), Payload { msg, aad: &aad });
        Ok(plain.map_err(|_| damage())?.into())
    }

    #[cfg(not(feature = "encryption"))]
    fn encrypt(&self, _: &SecretBytes, _: u64, _: &[u8], _: &[u8], _: [u8; 24]) -> Result<Bytes> {
        let _ = &self.binding;
        Err(unsupported("encryption"))
    }

    #[cfg(not(feature = "encryption"))]
    fn decrypt(&self, _: &SecretBytes, _: u64, _: &[u8], _: &[u8]) -> Result<Bytes> {
        Err(unsupported("encryption"))
    }
}

#[cfg(feature = "encryption")]
fn cipher(key: &SecretBytes) -> Result<chacha20poly1305::XChaCha20Poly1305> {
    use chacha20poly1305::KeyInit;
    chacha20poly1305::XChaCha20Poly1305::new_from_slice(key.expose())
        .map_err(|_| Error::invalid("encrypt", "the key provider gave a data key that is not 32 bytes long"))
}
