//! The kernel of this machine, through netlink alone: no program is started, and no async runtime is needed.
//!
//! The sockets of the machine's own namespace and of up to 32 that we made stay open from call to call: to close one of the
//! packet filter's waits for every change that was made through it. So one of ours that somebody else deletes lives until
//! the next call.
//!
//! Needs Linux 5.18 or newer (addresses carry the mark of who made them since then) and the capabilities `CAP_NET_ADMIN`
//! and, to make namespaces, `CAP_SYS_ADMIN`.
//!
//! What marks things as ours: the alias of links (of `lo` for a namespace), the protocol number of addresses, routes and
//! neighbours, the comment of rule tables. Forwarding entries belong to their link. Kernel parameters cannot be marked:
//! their values from before are in a file below `/run/hivemind`, which says of which boot it is.

mod apply;
mod conntrack;
mod entry;
mod fault;
mod link;
mod netlink;
mod netns;
mod nft;
mod read;
mod sysctl;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use hivemind_core::{Effect, Error, ErrorKind, Result, Worker};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::fault::Fault;
use self::netns::{Inside, Kept, Places};
use self::sysctl::Saved;
use crate::dataplane::state::Netns;
use crate::dataplane::{Connection, KernelState, Op};
use crate::ports::dataplane::{Dataplane, Stopped};

/// Who we are, for the kernel.
#[derive(Debug, Clone)]
struct Marks {
    /// Alias of links, comment of tables.
    owner: String,
    /// Protocol number of addresses, routes and neighbours.
    protocol: u8,
}

/// How a [`LinuxDataplane`] marks what it makes, and where it works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LinuxOptions {
    /// What is ours carries this name: 1 to 32 letters, digits and '-'. Two agents on one machine need two.
    pub owner: String,
    /// The protocol number of our routes, addresses and neighbours; not one of a routing daemon's
    /// (`/etc/iproute2/rt_protos`), and another one for each agent.
    pub protocol: u8,
    /// The namespace that [`Netns::Host`] means: that of this process, or one with a name.
    pub host: Netns,
    /// A directory that a reboot empties, for the values of kernel parameters from before.
    pub run_dir: PathBuf,
}

impl Default for LinuxOptions {
    fn default() -> Self {
        Self {
            owner: "hivemind".to_owned(),
            protocol: 109,
            host: Netns::Host,
            run_dir: "/run/hivemind".into(),
        }
    }
}

impl LinuxOptions {
    /// Marked `hivemind`, in the namespace of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, marked with another name.
    #[must_use]
    pub fn with_owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = owner.into();
        self
    }

    /// The same, with another protocol number.
    #[must_use]
    pub fn with_protocol(mut self, protocol: u8) -> Self {
        self.protocol = protocol;
        self
    }

    /// The same, with another machine's own namespace.
    #[must_use]
    pub fn with_host(mut self, host: Netns) -> Self {
        self.host = host;
        self
    }
}

/// The kernel of this machine.
///
/// All its work is done on a thread of its own, one call after the other: only that thread ever enters a namespace.
pub struct LinuxDataplane {
    worker: Worker,
    kernel: Arc<Mutex<Kernel>>,
    options: LinuxOptions,
}

/// What the thread works with.
#[derive(Debug)]
struct Kernel {
    places: Places,
    kept: Kept,
    marks: Marks,
    saved: Saved,
}

impl fmt::Debug for LinuxDataplane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinuxDataplane").field("options", &self.options).finish_non_exhaustive()
    }
}

impl LinuxDataplane {
    /// Opens the kernel; changes nothing there. Each namespace takes three open files while it is looked at, so this
    /// process may have as many from now on as it is allowed to (the hard limit becomes the soft one).
    ///
    /// # Errors
    /// [`Invalid`](hivemind_core::ErrorKind::Invalid) for a name that cannot mark things,
    /// [`NotFound`](hivemind_core::ErrorKind::NotFound) if the machine's own namespace has a name and is not there.
    pub fn open(options: LinuxOptions) -> Result<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(1..=32).contains(&options.owner.len()) || !options.owner.chars().all(plain) {
            let message =
                format!("{:?} is no owner: 1 to 32 letters, digits and '-' are possible", options.owner);
            return Err(Error::invalid("open data plane", message));
        }
        let failed = |fault: Fault| Error::new(fault.kind, "open data plane", fault.message);
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // With fewer it works as well, on fewer namespaces.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
        let file = match &options.host {
            Netns::Host => format!("{}.sysctls", options.owner),
            host => format!("{}.{}.sysctls", options.owner, host.to_string().replace('/', "_")),
        };
        let kernel = Kernel {
            places: Places::new(&options.host, &options.owner).map_err(failed)?,
            kept: Kept::default(),
            marks: Marks { owner: options.owner.clone(), protocol: options.protocol },
            saved: Saved::open(options.run_dir.join(file)).map_err(failed)?,
        };
        Ok(Self { worker: Worker::start("dataplane")?, kernel: Arc::new(Mutex::new(kernel)), options })
    }
}

#[async_trait]
impl Dataplane for LinuxDataplane {
    async fn read(&self, also: &BTreeSet<Netns>) -> Result<KernelState> {
        let (kernel, also) = (self.kernel.clone(), also.clone());
        let read = move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let read = kernel.read(&also);
            kernel.leave();
            read.map_err(|fault| Error::new(fault.kind, "read the kernel", fault.message))
        };
        self.worker.run(read).await
    }

    async fn apply(&self, ops: &[Op]) -> Result<()> {
        let (kernel, ops) = (self.kernel.clone(), ops.to_vec());
        let apply = move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let applied = kernel.apply(&ops);
            kernel.leave();
            applied.map_err(|(done, fault)| {
                let effect = if done == 0 { Effect::NotStarted } else { Effect::Unknown };
                let op = ops.get(done).map(ToString::to_string).unwrap_or_default();
                let stopped = Stopped { done, of: ops.len(), op, problem: fault.message };
                Error::of(fault.kind, "change the kernel", stopped).with_effect(effect)
            })
        };
        self.worker.run(apply).await
    }

    async fn connections(&self, netns: &Netns) -> Result<Vec<Connection>> {
        let (kernel, netns) = (self.kernel.clone(), netns.clone());
        let list = move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let found = kernel.in_netns(&netns, |inside| conntrack::all(&mut inside.netfilter));
            found.map_err(|fault| Error::new(fault.kind, "list connections", fault.message))
        };
        self.worker.run(list).await
    }

    async fn forget(&self, netns: &Netns, connections: &[Connection]) -> Result<usize> {
        let (kernel, netns, connections) = (self.kernel.clone(), netns.clone(), connections.to_vec());
        let forget = move || {
            let mut kernel = kernel.lock().unwrap_or_else(PoisonError::into_inner);
            let count = kernel.in_netns(&netns, |inside| {
                connections.iter().try_fold(0_usize, |count, one| {
                    let there = conntrack::forget(&mut inside.netfilter, one)?;
                    Ok(count.saturating_add(usize::from(there)))
                })
            });
            count.map_err(|fault| {
                Error::new(fault.kind, "forget connections", fault.message).with_effect(Effect::Unknown)
            })
        };
        self.worker.run(forget).await
    }
}

impl Kernel {
    /// Takes the thread back to the machine's own namespace: a namespace lives as long as a thread is in it.
    fn leave(&self) {
        // It was opened when the adapter was; if it cannot be entered, the next call says so.
        let _ = netns::move_to(&self.places.host, &Netns::Host);
    }

    /// The namespace with sockets in it; `None` if it is not there.
    fn enter(&mut self, netns: &Netns) -> std::result::Result<Option<Inside>, Fault> {
        match self.kept.take(netns) {
            Some(inside) => Ok(Some(inside)),
            None => self.places.enter(netns),
        }
    }

    /// Keeps what a call that went well has been in, for the next one.
    fn keep(&mut self, open: impl IntoIterator<Item = (Netns, Inside)>) {
        for (netns, mut inside) in open {
            // Whoever keeps a namespace open keeps it alive: that of a workload is not ours to keep.
            if netns == Netns::Host || link::is_marked(&mut inside.route, &self.marks.owner) {
                self.kept.put(netns, inside);
            }
        }
    }

    fn in_netns<T>(
        &mut self,
        netns: &Netns,
        work: impl FnOnce(&mut Inside) -> std::result::Result<T, Fault>,
    ) -> std::result::Result<T, Fault> {
        let missing = || Fault::new(ErrorKind::NotFound, format!("namespace {netns} is not there"));
        self.kept.tidy();
        let mut inside = self.enter(netns)?.ok_or_else(missing)?;
        let done = work(&mut inside);
        self.leave();
        let done = done?;
        self.keep([(netns.clone(), inside)]);
        Ok(done)
    }
}
