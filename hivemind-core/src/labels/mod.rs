//! Labels and selectors, with Kubernetes' grammar and semantics
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>). No I/O, no clock, no async.
//!
//! ```
//! use hivemind_core::labels::{Labels, Selector};
//!
//! let node = Labels::new().with("zone", "a")?.with("disk", "ssd")?.with("cores", "16")?;
//! let wanted: Selector = "zone in (a, b), disk!=hdd, cores>8, !tainted".parse()?;
//!
//! assert!(wanted.matches(&node));
//! assert_eq!(wanted.to_string(), "zone in (a,b),disk!=hdd,cores>8,!tainted");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compiled;
mod label;
mod parse;
mod selector;

pub use compiled::CompiledSelector;
pub use label::{InvalidLabel, LabelKey, LabelValue, Labels};
pub use parse::InvalidSelector;
pub use selector::{
    AnySelector, InvalidRequirement, LabelSelector, LabelSelectorRequirement, Operator, Requirement, Selector,
};

#[cfg(test)]
mod tests;
