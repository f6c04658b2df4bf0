//! The shells: what is decided purely elsewhere is kept in the store here, and goes out through ports.

mod alerts;
mod export;
mod notify;
mod records;

pub use alerts::AlertManager;
pub use export::{ExportLoop, ExportOptions};
pub use notify::{NotifyLoop, Ticked};
