//! Any CSI driver as a provider.

mod connection;
mod failure;
mod node;
mod options;
mod provider;
mod runtime;
mod scrub;
#[cfg(test)]
mod tests;

pub use self::connection::PluginInfo;
pub use self::node::CsiNode;
pub use self::options::CsiOptions;
pub use self::provider::CsiProvider;
