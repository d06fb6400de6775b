//! Which nodes there are, and what each says of itself, by gossip.
//!
//! In reading order:
//!
//! * [`secrets`] and [`seal`]: what strangers can't do: pure.

#[allow(dead_code, reason = "what sends and receives comes next")]
pub(crate) mod seal;
#[allow(dead_code, reason = "what sends and receives comes next")]
pub mod secrets;

pub use self::{
    seal::Rejected,
    secrets::{Secret, Secrets, ShortSecret},
};
