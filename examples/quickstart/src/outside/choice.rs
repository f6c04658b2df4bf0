//! What `--store` says. No I/O, no clock, no async.

use std::path::PathBuf;
use std::str::FromStr;

/// Where the state lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChoice {
    /// In memory, for as long as the program runs.
    Memory,
    /// In files of this directory.
    Directory(PathBuf),
    /// In etcd, at this URL.
    Etcd(String),
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        match text.split_once("://") {
            Some(("etcd", _)) => Ok(Self::Etcd(text.to_owned())),
            Some((scheme, _)) => Err(format!(
                "there is no store `{scheme}`: give `memory`, a directory, or etcd://HOST:PORT,HOST:PORT/PREFIX"
            )),
            None if text.is_empty() => {
                Err("give `memory`, a directory, or etcd://HOST:PORT,HOST:PORT/PREFIX".to_owned())
            }
            None => Ok(Self::Directory(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_kinds_and_refuses_others() {
        assert_eq!("memory".parse(), Ok(StoreChoice::Memory));
        assert_eq!("./memory".parse(), Ok(StoreChoice::Directory("./memory".into())));
        assert_eq!("/var/x".parse(), Ok(StoreChoice::Directory("/var/x".into())));
        assert_eq!("etcd://a:1,b:2/p".parse(), Ok(StoreChoice::Etcd("etcd://a:1,b:2/p".into())));
        assert!("zookeeper://a".parse::<StoreChoice>().unwrap_err().contains("no store `zookeeper`"));
        assert!("".parse::<StoreChoice>().is_err());
    }
}
