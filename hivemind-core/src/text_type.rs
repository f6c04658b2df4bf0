//! The one macro behind every validated text: what `check` refuses cannot be constructed or deserialized.

/// Makes types of texts that `check(type's name, text)` accepts: cheap to clone, ordered, serialized as strings.
macro_rules! text_type {
    ($($(#[$doc:meta])* $T:ident, $E:ty, $check:path;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

        // By hand, since records are full of them: no text is copied only to be written or checked.
        impl serde::Serialize for $T {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $T {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let check = |text: &str| $check(stringify!($T), text).map(|()| Self(text.into()));
                from.deserialize_str($crate::text_type::Checked(stringify!($T), check))
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

/// Reads a text of the type named by what checks it.
pub(crate) struct Checked<F>(pub(crate) &'static str, pub(crate) F);

impl<T, E: std::fmt::Display, F: for<'a> FnOnce(&'a str) -> Result<T, E>> serde::de::Visitor<'_>
    for Checked<F>
{
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a string, the text of a {}", self.0)
    }

    fn visit_str<D: serde::de::Error>(self, text: &str) -> Result<T, D> {
        (self.1)(text).map_err(D::custom)
    }
}
