//! What the data plane costs on the kernel of this machine.
//!
//! `cargo bench -p hivemind-net --bench dataplane --features linux,testkit`, as root; `nft` and `ip` must be there. Without
//! root it says loudly that it is skipped.
//!
//! - One element of a map changed by us, against a started `nft` that does the same: the median of many.
//! - A TCP flow through overlay and policies, against one through a plain veth pair: the median of several seconds.
//! - What a node with 1,000 workloads costs when nothing differs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a bench measures and tells"
)]

#[cfg(target_os = "linux")]
#[path = "dataplane/linux.rs"]
mod linux;

fn main() {
    #[cfg(target_os = "linux")]
    linux::run();
}
