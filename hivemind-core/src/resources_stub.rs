//! x
/// x
#[derive(Debug)]
pub struct Resources;
