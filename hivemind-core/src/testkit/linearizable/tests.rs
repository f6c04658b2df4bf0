//! The checker against histories made by hand, against brute force, and at size.

mod brute;
mod by_hand;
mod by_hand_unknown;
mod generate;
mod generated;
mod model;
mod words;
