//! The Container Storage Interface, 1.13: any provider as a driver, any driver as a provider.

mod client;
mod convert;
mod names;
mod server;
mod wire;

pub use self::client::{CsiNode, CsiOptions, CsiProvider, PluginInfo};
pub use self::server::{CsiServer, CsiServerOptions};
