//! How far tenants are kept apart: levels, what they demand of a cluster, and whether the cluster does it.
//! No I/O, no clock, no async.

mod change;
mod facts;
mod findings;
mod intents;
mod level;
mod sharing;
mod verify;
mod violation;

pub use self::change::{ChangePlan, Move, Obstacle, Unsatisfiable, plan_change};
pub use self::facts::{BackupFacts, ClusterFacts, NetworkFacts, NodeFacts, VolumeFacts};
pub use self::findings::Finding;
pub(crate) use self::intents::mark;
pub use self::intents::{
    BackupIntent, DEDICATED_KEY, Intents, IpFamily, NetworkIntent, NodeIntent, ObserveIntent, OwnPlace,
    StorageIntent, compile,
};
pub use self::level::{IsolationLevel, IsolationSettings};
pub use self::sharing::{LevelSharing, NodeSharing};
pub use self::verify::verify;
pub use self::violation::Violation;
