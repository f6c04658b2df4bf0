//! Kernel parameters: what they were is written down before they are changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use crate::dataplane::state::{LinkName, Netns, SysctlName};

/// What tells one boot from another.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The values from before, in a file that is worth nothing after a reboot, as the parameters are others then.
#[derive(Debug)]
pub(super) struct Saved {
    path: PathBuf,
    boot: String,
    before: BTreeMap<(Netns, SysctlName), String>,
}

impl Saved {
    /// Reads the file, if there is one.
    pub(super) fn open(path: PathBuf) -> Result<Self, Fault> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Fault::io(format!("read {}", path.display()), &error)),
        };
        let line = |line: &str| {
            let mut parts = line.splitn(3, '\t');
            let at = parts.next()?.parse().ok()?;
            let name = parts.next()?.parse().ok()?;
            Some(((at, name), parts.next()?.to_owned()))
        };
        let boot = read_boot()?;
        let (of, values) = text.split_once('\n').unwrap_or((&text, ""));
        let values = if of == boot { values } else { "" };
        Ok(Self { path, boot, before: values.lines().filter_map(line).collect() })
    }

    /// The parameters of ours in a namespace.
    pub(super) fn of(&self, netns: &Netns) -> Vec<SysctlName> {
        self.before.keys().filter(|(at, _)| at == netns).map(|(_, name)| name.clone()).collect()
    }

    /// Sets a parameter in the namespace that this thread is in, which is `netns`.
    pub(super) fn set(&mut self, netns: &Netns, name: &SysctlName, value: &str) -> Result<(), Fault> {
        let key = (netns.clone(), name.clone());
        if let Entry::Vacant(entry) = self.before.entry(key) {
            entry.insert(read(name)?);
            self.write()?;
        }
        write(name, value)
    }

    /// Gives a parameter its value from before.
    pub(super) fn reset(&mut self, netns: &Netns, name: &SysctlName) -> Result<(), Fault> {
        if let Some(before) = self.before.get(&(netns.clone(), name.clone())) {
            write(name, before)?;
        }
        self.before.remove(&(netns.clone(), name.clone()));
        self.write()
    }

    /// The namespace is gone, or the link in it.
    pub(super) fn forget(&mut self, netns: &Netns, link: Option<&LinkName>) -> Result<(), Fault> {
        let count = self.before.len();
        self.before.retain(|(at, name), _| at != netns || (link.is_some() && name.link().as_ref() != link));
        if self.before.len() == count { Ok(()) } else { self.write() }
    }

    /// Forgets what is gone: nobody can give it its value back.
    pub(super) fn keep(&mut self, is_there: impl Fn(&Netns, &SysctlName) -> bool) -> Result<(), Fault> {
        let count = self.before.len();
        self.before.retain(|(at, name), _| is_there(at, name));
        if self.before.len() == count { Ok(()) } else { self.write() }
    }

    fn write(&self) -> Result<(), Fault> {
        let doing = || format!("write {}", self.path.display());
        if self.before.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Fault::io(doing(), &error)),
                _ => Ok(()),
            };
        }
        let mut text = format!("{}\n", self.boot);
        for ((at, name), value) in &self.before {
            text.push_str(&format!("{at}\t{name}\t{value}\n"));
        }
        let parent = self.path.parent().unwrap_or_else(|| Path::new("/"));
        let new = self.path.with_extension("new");
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|e| Fault::io(doing(), &e))
    }
}

fn read_boot() -> Result<String, Fault> {
    let text = fs::read_to_string(BOOT).map_err(|e| Fault::io(format!("read {BOOT}"), &e))?;
    Ok(text.trim_end().to_owned())
}

fn path(name: &SysctlName) -> PathBuf {
    Path::new("/proc/sys").join(name.as_str())
}

/// The value in the namespace that this thread is in.
pub(super) fn read(name: &SysctlName) -> Result<String, Fault> {
    let text = fs::read_to_string(path(name)).map_err(|e| Fault::io(format!("read {name}"), &e))?;
    Ok(text.trim_end().to_owned())
}

fn write(name: &SysctlName, value: &str) -> Result<(), Fault> {
    fs::write(path(name), value).map_err(|e| Fault::io(format!("set {name} to {value:?}"), &e))
}
