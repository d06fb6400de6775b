//! Which nodes there are, and what each says of itself, by gossip.
//!
//! In reading order:
//!
//! * [`says`]: what a node says of itself;
//! * [`members`]: who is a member: pure;
//! * [`secrets`] and [`seal`]: what strangers can't do: pure.

#[allow(dead_code, reason = "what shows it the nodes comes next")]
pub mod members;
#[allow(dead_code, reason = "what writes it comes next")]
pub mod says;
#[allow(dead_code, reason = "what sends and receives comes next")]
pub(crate) mod seal;
#[allow(dead_code, reason = "what sends and receives comes next")]
pub mod secrets;

pub use self::{
    members::{Change, Member, View, Why},
    says::{Load, Meta, PROTOCOL, Role, State},
    seal::Rejected,
    secrets::{Secret, Secrets, ShortSecret},
};
