//! The one macro behind every validated text: what `check` refuses cannot be constructed or deserialized.

/// Makes types of texts that `check(type's name, text)` accepts: cheap to clone, ordered, serialized as strings.
macro_rules! text_type {
    ($($(#[$doc:meta])* $T:ident, $E:ty, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $T(std::sync::Arc<str>);

        impl $T {
            /// Checks `text`.
            ///
            /// # Errors
            /// Says what is wrong with it and what is allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, $E> {
                let text = text.as_ref();
                $check(stringify!($T), text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $T {
            type Err = $E;
            fn from_str(text: &str) -> Result<Self, $E> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $T {
            type Error = $E;
            fn try_from(text: String) -> Result<Self, $E> {
                Self::new(text)
            }
        }

        impl From<$T> for String {
            fn from(text: $T) -> Self {
                text.as_str().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $T {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $T {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $T {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        impl std::fmt::Debug for $T {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}({})", stringify!($T), self.0)
            }
        }
    )*};
}

pub(crate) use text_type;
