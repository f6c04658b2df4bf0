//! Suites that prove an adapter right: ours and anybody's alike. Declared outside semantic versioning.

pub mod span_exporter;
