//! A client's decisions, without socket or clock: what arrives and the time go in, frames come out.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    Body, ClientFrame, Entry, ErrorCode, Incarnation, Kind, RoomId, Seq, ServerFrame, UserId, WriterId,
    client::{Close, History, HistoryFrom, Identify, Open, RequestId, Resume, Send},
    limits::{self, Limits},
    server,
};

use crate::{
    lane::{Lane, Settled, Verdict},
    record::{Fingerprint, Line, Message, Outcome, Record, Seen},
};

/// How long a request that was refused for now waits when the server gives no time.
const RETRY: Duration = Duration::from_millis(500);

/// All that one client knows.
pub(crate) struct State {
    pub(crate) record: Record,
    user: UserId,
    writer: WriterId,
    retired: u128,
    rooms: BTreeMap<RoomId, Room>,
    limits: Limits,
    is_connected: bool,
    last_request: RequestId,
    last_served: Option<RoomId>,
}

/// One room.
struct Room {
    lane: Lane,
    sends_not_before: Duration,
    wanted: bool,
    stream: Stream,
    opens_not_before: Duration,
    position: Option<(Seq, Incarnation)>,
    gaps: Vec<(Seq, Seq)>,
    page: Option<RequestId>,
}

/// Where a room's stream stands on this socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Silent,
    Asked { id: Option<RequestId>, after: Option<Seq> },
    Live,
    Closing,
}

impl Room {
    fn new(writer: WriterId) -> Self {
        Self {
            lane: Lane::new(writer),
            sends_not_before: Duration::ZERO,
            wanted: false,
            stream: Stream::Silent,
            opens_not_before: Duration::ZERO,
            position: None,
            gaps: Vec::new(),
            page: None,
        }
    }
}

impl State {
    pub(crate) fn new(user: UserId, writer: WriterId) -> Self {
        let record = Record { user, ..Record::default() };
        Self {
            record,
            user,
            writer,
            retired: 0,
            rooms: BTreeMap::new(),
            limits: Limits::default(),
            is_connected: false,
            last_request: 0,
            last_served: None,
        }
    }

    pub(crate) fn open(&mut self, room: RoomId) {
        self.room(room).wanted = true;
    }

    pub(crate) fn close(&mut self, room: RoomId) {
        self.room(room).wanted = false;
    }

    /// Takes a message; gives its place in the record.
    pub(crate) fn send(&mut self, room: RoomId, kind: Kind, target: Option<Seq>, body: Body) -> usize {
        let message = self.record.messages.len();
        let print = Fingerprint::of(self.user, &kind, target, &body);
        let lane = &mut self.room(room).lane;
        lane.push(message, kind, target, body);
        let writer = lane.writer();
        self.record.messages.push(Message {
            room,
            writer,
            n: 0,
            print,
            asked_at: None,
            settled_at: None,
            outcome: Outcome::Open,
        });
        message
    }

    /// Messages without an answer.
    pub(crate) fn unsettled(&self) -> usize {
        self.rooms.values().map(|room| room.lane.len()).sum()
    }

    /// Whether a session stands.
    pub(crate) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The last entry that arrived of a room.
    pub(crate) fn position(&self, room: RoomId) -> Option<Seq> {
        self.rooms.get(&room)?.position.map(|(seq, _)| seq)
    }

    /// Whether the room's stream runs.
    pub(crate) fn is_live(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(|room| room.stream == Stream::Live)
    }

    /// Whether a gap was named that pages have not filled yet.
    pub(crate) fn has_gap(&self, room: RoomId) -> bool {
        self.rooms.get(&room).is_some_and(|room| !room.gaps.is_empty())
    }

    /// What is not settled, for people.
    pub(crate) fn waiting(&self, now: Duration) -> String {
        let connection = if self.is_connected { "connected" } else { "not connected" };
        let rooms = self.rooms.iter().filter(|(_, room)| room.lane.len() > 0 || room.stream != Stream::Live);
        let rooms: Vec<String> = rooms
            .map(|(key, Room { lane, stream, sends_not_before, gaps, .. })| {
                format!("{key}: {stream:?}, gaps {gaps:?}, sends not before {sends_not_before:?}, {lane:?}")
            })
            .collect();
        format!("{connection} at {now:?}; {}", rooms.join("; "))
    }

    /// The first frame on a new socket.
    pub(crate) fn identify(&mut self, token: String, client: &str) -> ClientFrame {
        let mut resume = BTreeMap::new();
        for (id, room) in &mut self.rooms {
            let Some((after, incarnation)) = room.position.filter(|_| room.wanted) else { continue };
            if resume.len() < limits::OPEN_ROOMS {
                resume.insert(*id, Resume { after, open: true, incarnation: Some(incarnation) });
                room.stream = Stream::Asked { id: None, after: Some(after) };
            }
        }
        let (token, client) = (Some(token), Some(client.to_owned()));
        ClientFrame::Identify(Identify { id: None, token, ticket: None, client, resume })
    }

    /// The socket is gone.
    pub(crate) fn lost(&mut self, now: Duration) {
        self.is_connected = false;
        let ids: Vec<_> = self.rooms.keys().copied().collect();
        for id in ids {
            let room = self.room(id);
            room.page = None;
            let spoke = std::mem::replace(&mut room.stream, Stream::Silent) != Stream::Silent;
            let verdict = room.lane.lost();
            if spoke {
                self.saw(id, Seen::Lost);
            }
            self.judge(id, verdict, now);
        }
    }

    /// Something arrived.
    pub(crate) fn received(&mut self, frame: ServerFrame, now: Duration) {
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(&welcome),
            ServerFrame::Opened(opened) => self.opened(&opened),
            ServerFrame::Closed(closed) => self.closed(&closed),
            ServerFrame::Entries(entries) => self.entries(&entries, now),
            ServerFrame::Gap(gap) => self.gap(gap),
            ServerFrame::Reset(reset) => self.reset(reset),
            ServerFrame::Page(page) => self.paged(&page, now),
            ServerFrame::Ack(ack) => {
                self.record.acks.push(ack);
                self.answered(ack.room, ack.writer, now, |lane| lane.acked(ack));
            }
            ServerFrame::Refused(refused) => {
                self.answered(refused.room, refused.writer, now, |lane| lane.refused(&refused));
            }
            ServerFrame::Error(error) => self.failed(&error, now),
            ServerFrame::Heads(_)
            | ServerFrame::ReadMark(_)
            | ServerFrame::Typing(_)
            | ServerFrame::Presence(_)
            | ServerFrame::Status(_)
            | ServerFrame::Refreshed(_)
            | ServerFrame::Pong(_)
            | ServerFrame::Goodbye(_) => {}
        }
    }

    /// What goes out next. Call until there is none.
    pub(crate) fn next_frame(&mut self, now: Duration) -> Option<ClientFrame> {
        if !self.is_connected {
            return None;
        }
        self.next_request(now).or_else(|| self.next_send(now))
    }

    /// When [`Self::next_frame`] may have something though nothing arrived.
    pub(crate) fn due(&self, now: Duration) -> Option<Duration> {
        let rooms = self.rooms.values();
        rooms.flat_map(|room| [room.sends_not_before, room.opens_not_before]).filter(|due| *due > now).min()
    }

    fn next_request(&mut self, now: Duration) -> Option<ClientFrame> {
        let id = self.last_request + 1;
        let frame = self.rooms.iter_mut().find_map(|(key, room)| room.request(*key, id, now))?;
        self.last_request = id;
        Some(frame)
    }

    fn next_send(&mut self, now: Duration) -> Option<ClientFrame> {
        let lanes = self.rooms.values().map(|room| &room.lane);
        let (sends, bytes) = lanes
            .fold((0, 0), |(sends, bytes), lane| (sends + lane.in_flight(), bytes + lane.bytes_in_flight()));
        let fits = |room: &Room| {
            let next = room.lane.peek()?;
            let fits = sends < self.limits.window_sends && bytes + next.bytes() <= self.limits.window_bytes;
            (fits && room.sends_not_before <= now).then_some(())
        };
        // Rooms take turns.
        let after = self.last_served.unwrap_or(RoomId::from_u128(0));
        let mut turns = self.rooms.iter().filter(|(key, _)| **key > after).chain(self.rooms.iter());
        let key = *turns.find(|(_, room)| fits(room).is_some())?.0;
        self.last_served = Some(key);
        let lane = &mut self.room(key).lane;
        let writer = lane.writer();
        let pending = lane.take()?;
        let (message, is_repeat) = (pending.message, pending.is_repeat());
        let send = Send {
            room: key,
            writer,
            n: pending.n,
            kind: pending.kind.clone(),
            target: pending.target,
            body: pending.body.clone(),
            traceparent: None,
        };
        self.record.resends += u64::from(is_repeat);
        let message = &mut self.record.messages[message];
        (message.writer, message.n) = (writer, send.n);
        message.asked_at.get_or_insert(now);
        Some(ClientFrame::Send(send))
    }

    fn welcomed(&mut self, welcome: &server::Welcome) {
        self.is_connected = true;
        self.limits = welcome.limits;
        self.record.connections += 1;
    }

    fn opened(&mut self, opened: &server::Opened) {
        let room = self.room(opened.room);
        let asked = match room.stream {
            Stream::Asked { after, .. } => after,
            Stream::Silent | Stream::Live | Stream::Closing => room.position.map(|(seq, _)| seq),
        };
        room.stream = Stream::Live;
        room.position = Some((opened.after, opened.incarnation));
        let server::Opened { after, head, incarnation, .. } = *opened;
        self.saw(opened.room, Seen::Opened { asked, after, head, incarnation });
    }

    fn closed(&mut self, closed: &server::Closed) {
        let room = self.room(closed.room);
        room.stream = Stream::Silent;
        room.wanted &= closed.code.is_none();
        self.saw(closed.room, Seen::Closed(closed.code));
    }

    fn entries(&mut self, entries: &server::Entries, now: Duration) {
        if let Some(last) = entries.entries.last() {
            self.room(entries.room).position = Some((last.seq, entries.incarnation));
        }
        for entry in &entries.entries {
            self.saw(entries.room, Seen::Entry(Line::of(entry)));
            self.saw_own(entries.room, entry, now);
        }
    }

    /// The server shows a writer to its own user only, in entries that come out of the log. What it has answered so, it
    /// does not acknowledge again.
    fn saw_own(&mut self, room: RoomId, entry: &Entry, now: Duration) {
        if let (Some(writer), Some(n)) = (entry.writer, entry.n) {
            self.answered(room, writer, now, |lane| lane.seen(n, entry.seq));
        }
    }

    fn gap(&mut self, gap: server::Gap) {
        let room = self.room(gap.room);
        if let Some((seq, _)) = &mut room.position {
            *seq = gap.upto;
        }
        room.gaps.push((gap.after, gap.upto));
        self.saw(gap.room, Seen::Gap { after: gap.after, upto: gap.upto });
    }

    fn reset(&mut self, reset: server::Reset) {
        let room = self.room(reset.room);
        room.position = Some((reset.head, reset.incarnation));
        room.gaps.clear();
        self.saw(reset.room, Seen::Reset { head: reset.head, incarnation: reset.incarnation });
    }

    fn paged(&mut self, page: &server::Page, now: Duration) {
        let Some(room) = self.rooms.get_mut(&page.room).filter(|room| room.page == page.id) else { return };
        room.page = None;
        let Some((after, upto)) = room.gaps.first_mut() else { return };
        let inside: Vec<&Entry> = page.entries.iter().filter(|entry| entry.seq <= *upto).collect();
        // An empty page can't fill anything: asking for it again would never end.
        *after = inside.last().map_or(*upto, |last| last.seq);
        if after >= upto {
            room.gaps.remove(0);
        }
        for entry in inside {
            self.saw(page.room, Seen::Paged { line: Line::of(entry), head: page.head });
            self.saw_own(page.room, entry, now);
        }
    }

    fn failed(&mut self, error: &server::Error, now: Duration) {
        self.record.told.push((format!("{:?}", error.code), error.message.clone()));
        let wait = error.retry_after_ms.map_or(RETRY, Duration::from_millis);
        for (key, room) in &mut self.rooms {
            let about_page = error.id.is_some() && room.page == error.id;
            let about_open = match room.stream {
                Stream::Asked { id: Some(id), .. } => error.id == Some(id),
                Stream::Asked { id: None, .. } => error.id.is_none() && error.room == Some(*key),
                Stream::Silent | Stream::Live | Stream::Closing => false,
            };
            if about_page {
                room.page = None;
                room.opens_not_before = now + wait;
            }
            if about_open {
                room.stream = Stream::Silent;
                room.opens_not_before = now + wait;
                room.wanted = error.code.is_transient() || error.code == ErrorCode::Internal;
            }
        }
    }

    fn answered(
        &mut self,
        room: RoomId,
        writer: WriterId,
        now: Duration,
        handle: impl FnOnce(&mut Lane) -> Verdict,
    ) {
        let Some(lane) = self.rooms.get_mut(&room).map(|room| &mut room.lane) else { return };
        if lane.writer() == writer {
            let verdict = handle(lane);
            self.judge(room, verdict, now);
        }
    }

    fn judge(&mut self, key: RoomId, mut verdict: Verdict, now: Duration) {
        if verdict.retire {
            self.retired += 1;
            let writer = WriterId::from_u128(self.writer.as_u128().wrapping_add(self.retired));
            verdict.settled.extend(self.room(key).lane.retire(writer));
        }
        if let Some(wait_ms) = verdict.wait_ms {
            self.record.postponed += 1;
            self.room(key).sends_not_before = now + Duration::from_millis(wait_ms);
        }
        for settled in verdict.settled {
            let (message, outcome) = match settled {
                Settled::Acked { message, ack } => (message, Outcome::Acked(ack.seq)),
                Settled::Stored { message, seq } => (message, Outcome::Stored(seq)),
                Settled::Refused { message, code } => (message, Outcome::Refused(code)),
                Settled::Unknown { message } => (message, Outcome::Unknown),
            };
            let message = &mut self.record.messages[message];
            message.outcome = outcome;
            message.settled_at = Some(now);
        }
    }

    fn saw(&mut self, room: RoomId, seen: Seen) {
        self.record.rooms.entry(room).or_default().push(seen);
    }

    fn room(&mut self, room: RoomId) -> &mut Room {
        self.rooms.entry(room).or_insert_with(|| Room::new(self.writer))
    }
}

impl Room {
    /// A request that is due: open, close, or a page of a gap.
    fn request(&mut self, room: RoomId, id: RequestId, now: Duration) -> Option<ClientFrame> {
        if !self.wanted && self.stream == Stream::Live {
            self.stream = Stream::Closing;
            return Some(ClientFrame::Close(Close { id, room }));
        }
        if !self.wanted || self.opens_not_before > now {
            return None;
        }
        if self.stream == Stream::Silent {
            let (after, incarnation) = self.position.unzip();
            self.stream = Stream::Asked { id: Some(id), after };
            return Some(ClientFrame::Open(Open { id, room, after, incarnation }));
        }
        let (after, _) = *self.gaps.first().filter(|_| self.stream == Stream::Live && self.page.is_none())?;
        self.page = Some(id);
        let from = Some(HistoryFrom::After(after));
        Some(ClientFrame::History(History { id, room, from, limit: Some(limits::PAGE_ENTRIES as u32) }))
    }
}
