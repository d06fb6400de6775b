//! What a proxy does to which frame: decides, and touches no socket.

use std::{collections::HashMap, time::Duration};

use crate::cql::Frame;

/// A kind of request, by its opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// A statement as text.
    Query = 0x07,
    /// A statement to be prepared.
    Prepare = 0x09,
    /// A prepared statement.
    Execute = 0x0a,
    /// Several statements, conditional or not.
    Batch = 0x0d,
}

/// What happens to a request that a [`Rule`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// All connections are cut instead of passing it on: the node never sees it.
    LoseRequest,
    /// It is passed on, and all connections are cut when its answer has come: the node did it, and nobody hears.
    LoseAnswer,
    /// Its answer is passed on so much later. Answers to other requests are not.
    DelayAnswer(Duration),
    /// Its answer stays in the proxy until [`Proxy::release`](crate::Proxy::release), or is lost with the connection.
    HoldAnswer,
}

/// A fault, and which requests it is for: by default the next one that is a query, an execution or a batch.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    requests: Vec<Request>,
    containing: Vec<u8>,
    times: u32,
    refuses: bool,
}

impl Rule {
    /// The fault, for the next query, execution or batch.
    pub fn new(fault: Fault) -> Self {
        let requests = vec![Request::Query, Request::Execute, Request::Batch];
        Self { fault, requests, containing: Vec::new(), times: 1, refuses: false }
    }

    /// Only for requests of these kinds.
    #[must_use]
    pub fn of(mut self, requests: &[Request]) -> Self {
        self.requests = requests.to_vec();
        self
    }

    /// Only for requests with these bytes in their body. A prepared statement's text is not in there, its values are.
    #[must_use]
    pub fn containing(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.containing = bytes.into();
        self
    }

    /// For so many requests, one after another.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// New connections are refused from the moment of a cut on, as after [`Proxy::refuse`](crate::Proxy::refuse).
    #[must_use]
    pub fn and_refuse(mut self) -> Self {
        self.refuses = true;
        self
    }

    fn is_for(&self, frame: &Frame) -> bool {
        let is_kind = self.requests.iter().any(|&request| request as u8 == frame.opcode());
        let mut windows = frame.body().windows(self.containing.len().max(1));
        is_kind && (self.containing.is_empty() || windows.any(|window| window == self.containing))
    }
}

/// What a proxy has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that were cut.
    pub cut: u64,
    /// Requests that were passed on, of any kind.
    pub requests: u64,
    /// Answers that came back from the node, of any kind, whether or not they were passed on.
    pub answers: u64,
    /// Requests that were lost.
    pub requests_lost: u64,
    /// Answers that were lost.
    pub answers_lost: u64,
    /// Answers that were delayed.
    pub answers_delayed: u64,
    /// Answers that were held, released or not.
    pub answers_held: u64,
    /// Connections that ended because what came was no frame of version 4.
    pub unreadable: u64,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// Cut all connections, and do not pass it on.
    Cut,
    Delay(Duration),
    Hold,
}

/// A connection, by its number.
pub(crate) type ConnectionId = u64;

/// The rules, and the requests they apply to.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pub(crate) rules: Vec<Rule>,
    pub(crate) is_refusing: bool,
    pub(crate) counts: Counts,
    /// Requests that were passed on and whose answers are not to pass simply, by connection and stream.
    awaited: HashMap<(ConnectionId, i16), Awaited>,
}

#[derive(Debug)]
struct Awaited {
    fault: Fault,
    refuses: bool,
}

impl Faults {
    /// Whether a new connection is let in, and its number.
    pub(crate) fn connection(&mut self) -> Option<ConnectionId> {
        if self.is_refusing {
            self.counts.refused += 1;
            return None;
        }
        self.counts.connections += 1;
        Some(self.counts.connections)
    }

    /// A connection has ended.
    pub(crate) fn ended(&mut self, connection: ConnectionId) {
        self.awaited.retain(|(other, _), _| *other != connection);
    }

    /// A client asks something.
    pub(crate) fn request(&mut self, connection: ConnectionId, frame: &Frame) -> Verdict {
        if let Some(Rule { fault, refuses, .. }) = self.apply_rule(frame) {
            if fault == Fault::LoseRequest {
                self.counts.requests_lost += 1;
                self.is_refusing |= refuses;
                return Verdict::Cut;
            }
            self.awaited.insert((connection, frame.stream()), Awaited { fault, refuses });
        }
        self.counts.requests += 1;
        Verdict::Pass
    }

    fn apply_rule(&mut self, frame: &Frame) -> Option<Rule> {
        let index = self.rules.iter().position(|rule| rule.is_for(frame) && rule.times > 0)?;
        self.rules[index].times -= 1;
        let rule = self.rules[index].clone();
        self.rules.retain(|rule| rule.times > 0);
        Some(rule)
    }

    /// The node answers, or tells an event.
    pub(crate) fn answer(&mut self, connection: ConnectionId, frame: &Frame) -> Verdict {
        self.counts.answers += 1;
        let Some(Awaited { fault, refuses }) = self.awaited.remove(&(connection, frame.stream())) else {
            return Verdict::Pass;
        };
        match fault {
            Fault::LoseRequest => Verdict::Pass, // Was not passed on, so has no answer.
            Fault::LoseAnswer => {
                self.counts.answers_lost += 1;
                self.is_refusing |= refuses;
                Verdict::Cut
            }
            Fault::DelayAnswer(duration) => {
                self.counts.answers_delayed += 1;
                Verdict::Delay(duration)
            }
            Fault::HoldAnswer => {
                self.counts.answers_held += 1;
                Verdict::Hold
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(stream: i16, kind: Request, body: &[u8]) -> Frame {
        Frame::request(stream, kind as u8, body)
    }

    #[test]
    fn a_rule_is_for_its_kinds_and_bytes_and_only_so_often() {
        let rule = Rule::new(Fault::LoseRequest).of(&[Request::Batch]).containing(*b"room").times(2);
        let mut faults = Faults { rules: vec![rule], ..Faults::default() };
        assert_eq!(faults.request(1, &request(0, Request::Query, b"a room")), Verdict::Pass);
        assert_eq!(faults.request(1, &request(0, Request::Batch, b"a roof")), Verdict::Pass);
        assert_eq!(faults.request(1, &request(0, Request::Batch, b"ro")), Verdict::Pass);
        assert_eq!(faults.request(1, &request(0, Request::Batch, b"a room")), Verdict::Cut);
        assert_eq!(faults.request(2, &request(0, Request::Batch, b"rooms")), Verdict::Cut);
        assert_eq!(faults.request(3, &request(0, Request::Batch, b"rooms")), Verdict::Pass);
        assert_eq!(faults.counts, Counts { requests: 4, requests_lost: 2, ..Counts::default() });
    }

    #[test]
    fn an_answer_is_known_by_its_connection_and_stream() {
        let rule = Rule::new(Fault::LoseAnswer).and_refuse();
        let mut faults = Faults { rules: vec![rule], ..Faults::default() };
        assert_eq!(faults.request(1, &request(7, Request::Execute, b"")), Verdict::Pass);
        assert_eq!(faults.answer(1, &request(8, Request::Query, b"")), Verdict::Pass);
        assert_eq!(faults.answer(2, &request(7, Request::Query, b"")), Verdict::Pass);
        assert_eq!(faults.connection(), Some(1));
        assert_eq!(faults.answer(1, &request(7, Request::Query, b"")), Verdict::Cut);
        assert_eq!(faults.connection(), None, "refused from the cut on");
    }

    #[test]
    fn a_stream_of_an_ended_connection_awaits_nothing() {
        let mut faults = Faults { rules: vec![Rule::new(Fault::HoldAnswer)], ..Faults::default() };
        faults.request(1, &request(7, Request::Execute, b""));
        faults.ended(1);
        assert_eq!(faults.answer(1, &request(7, Request::Query, b"")), Verdict::Pass);
    }
}
