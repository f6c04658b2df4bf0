//! What a request asks for and no repetition will bring. No I/O, no clock, no async.

/// The detail of an [`Invalid`](hivemind_core::ErrorKind::Invalid) error whose arguments are well-formed, and ask for more
/// than a volume can be: protocols such as CSI have codes of their own for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Beyond {
    /// The volume was not made to be used so.
    #[error("the volume was not made for that use")]
    Use,
    /// No volume of that kind can have such a size.
    #[error("no volume can have that size")]
    Size,
}
