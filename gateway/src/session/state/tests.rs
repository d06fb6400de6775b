use std::collections::BTreeMap;

use protocol::{
    Body, Entry, Kind,
    client::{Close, History, HistoryFrom, Open, Ping, Read, Refresh, Status, Typing, Watch},
    limits,
    server::{Closed, Error, Gap},
};

use super::*;

const USER: UserId = UserId::from_u128(1);
const DEVICE: DeviceId = DeviceId::from_u128(2);
const INCARNATION: Incarnation = Incarnation(1);

fn room(number: u128) -> RoomId {
    RoomId::from_u128(number)
}

fn at(seconds: u64) -> Now {
    Now { uptime: Duration::from_secs(1_000 + seconds), wall: 1_000_000 + seconds * 1_000 }
}

fn identity() -> Identity {
    Identity { user: USER, device: DEVICE, expires_at: 1_600_000 }
}

fn session() -> State {
    session_with(SocketSettings::default())
}

fn session_with(settings: SocketSettings) -> State {
    State::new(Arc::new(settings), &identity(), SessionId::from_u128(3), at(0))
}

fn says(state: &mut State, frame: ClientFrame) -> Vec<Action> {
    state.handle(at(0), Input::Frame(Ok(frame)))
}

fn told(state: &mut State, notice: Notice) -> Vec<Action> {
    state.handle(at(0), Input::Notice(notice))
}

fn open(id: RequestId, number: u128) -> ClientFrame {
    ClientFrame::Open(Open { id, room: room(number), after: Some(5), incarnation: Some(INCARNATION) })
}

fn close(id: RequestId, number: u128) -> ClientFrame {
    ClientFrame::Close(Close { id, room: room(number) })
}

fn asks(id: Option<RequestId>, number: u128, after: Option<Seq>) -> Action {
    let incarnation = Some(INCARNATION).filter(|_| after == Some(5));
    Action::Open { room: room(number), id, after, incarnation }
}

/// A session that hears room 1 from entry 5 on.
fn listening() -> State {
    let mut state = session();
    assert_eq!(says(&mut state, open(7, 1)), [asks(Some(7), 1, Some(5))]);
    let watch = Action::Watch { room: room(1), open: true };
    assert_eq!(told(&mut state, Notice::Opened { room: room(1) }), [watch]);
    state
}

fn closed(id: Option<RequestId>, number: u128, code: Option<ErrorCode>) -> Action {
    Action::Say(ServerFrame::Closed(Closed { id, room: room(number), code }))
}

fn error_codes(actions: &[Action]) -> Vec<(Option<RequestId>, ErrorCode)> {
    let code = |action: &Action| match action {
        Action::Say(ServerFrame::Error(Error { id, code, .. })) => (*id, *code),
        other => panic!("not an error: {other:?}"),
    };
    actions.iter().map(code).collect()
}

fn ends(code: CloseCode) -> Vec<Action> {
    vec![Action::End(Ending::Close(code))]
}

fn overloaded() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "busy").retry_after(2_000)
}

fn entry(seq: Seq, bytes: usize) -> Entry {
    Entry {
        seq,
        at: 0,
        from: USER,
        kind: Kind::Message,
        target: None,
        body: Some(Body::text(&"x".repeat(bytes)).unwrap()),
        masked: None,
        writer: None,
        n: None,
    }
}

fn page(seqs: std::ops::RangeInclusive<Seq>, head: Seq) -> Page {
    let entries = seqs.map(|seq| entry(seq, 100)).collect();
    Page { id: None, room: room(1), incarnation: INCARNATION, head, first: 1, entries }
}

fn parts(actions: Vec<Action>) -> Vec<Part> {
    let [Action::PushMissed { parts, .. }] = <[Action; 1]>::try_from(actions).unwrap() else {
        panic!("nothing is pushed")
    };
    parts
}

/// What the state wants done next while the outbox is calm.
fn next_work(state: &mut State) -> Option<Work> {
    state.next_work(at(0), true)
}

fn behind(state: &mut State, from: Seq, head: Seq) {
    assert_eq!(told(state, Notice::Behind { room: room(1), at: from, head }), []);
    assert_eq!(next_work(state), Some(Work::CatchUp { room: room(1), at: from, limit: 200 }));
}

fn read(state: &mut State, from: Seq, read: Result<Page, Refusal>) -> Vec<Action> {
    state.handle(at(0), Input::Done(Done::CatchUp { room: room(1), at: from, read }))
}

mod frames {
    use super::*;

    #[test]
    fn each_request_becomes_what_it_asks_for() {
        let mut state = listening();
        let send = Send {
            room: room(1),
            writer: WriterId::from_u128(9),
            n: 1,
            kind: Kind::Message,
            target: None,
            body: Body::text("hi").unwrap(),
            traceparent: None,
        };
        assert_eq!(says(&mut state, ClientFrame::Send(send.clone())), [Action::Send(Box::new(send))]);
        let away = PresenceStatus::Away;
        assert_eq!(says(&mut state, ClientFrame::Status(Status { status: away })), [Action::SetStatus(away)]);
        let unwatch = ClientFrame::Unwatch(Watch { users: vec![USER] });
        assert_eq!(says(&mut state, unwatch), [Action::Unwatch(vec![USER])]);
        let typing = |number| ClientFrame::Typing(Typing { room: room(number) });
        assert_eq!(says(&mut state, typing(1)), [Action::Typing(room(1))]);
        assert_eq!(says(&mut state, typing(2)), [], "only where it listens");
        let pong = Pong { id: Some(4), server_time: at(0).wall };
        let ping = ClientFrame::Ping(Ping { id: Some(4) });
        assert_eq!(says(&mut state, ping), [Action::Say(ServerFrame::Pong(pong))]);
    }

    #[test]
    fn nobody_is_offline_or_identified_twice() {
        let mut state = session();
        let offline = ClientFrame::Status(Status { status: PresenceStatus::Offline });
        assert_eq!(error_codes(&says(&mut state, offline)), [(None, ErrorCode::Invalid)]);
        let again = protocol::client::Identify {
            id: Some(1),
            token: None,
            ticket: None,
            client: None,
            resume: BTreeMap::new(),
        };
        let again = says(&mut state, ClientFrame::Identify(again));
        assert_eq!(error_codes(&again), [(Some(1), ErrorCode::Conflict)]);
    }

    #[test]
    fn a_frame_that_is_not_understood_is_answered_and_the_session_goes_on() {
        let mut state = session();
        let unknown = DecodeError::Unsupported { id: Some(3), kind: "x".repeat(60_000) };
        let actions = state.handle(at(0), Input::Frame(Err(unknown)));
        assert_eq!(error_codes(&actions), [(Some(3), ErrorCode::Unsupported)]);
        let [Action::Say(ServerFrame::Error(error))] = &actions[..] else { panic!() };
        assert!(error.message.len() < 300, "a long kind is not echoed");
        let broken = DecodeError::Invalid { id: None, reason: "no JSON".into() };
        let actions = state.handle(at(0), Input::Frame(Err(broken)));
        assert_eq!(error_codes(&actions), [(None, ErrorCode::Invalid)]);
        let actions = state.handle(at(0), Input::Frame(Err(DecodeError::TooLarge)));
        assert_eq!(actions, ends(CloseCode::TooLarge));
    }

    #[test]
    fn frames_beyond_the_rate_are_refused_and_a_flood_ends_the_session() {
        let mut state = session();
        let ping = || ClientFrame::Unwatch(Watch { users: Vec::new() });
        for _ in 0..100 {
            assert_eq!(says(&mut state, ping()), [Action::Unwatch(Vec::new())]);
        }
        for _ in 0..100 {
            assert_eq!(error_codes(&says(&mut state, ping())), [(None, ErrorCode::RateLimited)]);
        }
        assert_eq!(says(&mut state, ping()), ends(CloseCode::Flood));
    }

    #[test]
    fn a_send_beyond_the_rate_is_refused_as_a_send_and_may_come_again() {
        let mut state = session();
        let send = Send {
            room: room(1),
            writer: WriterId::from_u128(9),
            n: 4,
            kind: Kind::Message,
            target: None,
            body: Body::text("hi").unwrap(),
            traceparent: None,
        };
        for _ in 0..100 {
            says(&mut state, ClientFrame::Send(send.clone()));
        }
        let actions = says(&mut state, ClientFrame::Send(send));
        let [Action::Say(ServerFrame::Refused(refused))] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!((refused.n, refused.code, refused.definite), (4, ErrorCode::RateLimited, false));
        assert!(refused.retry_after_ms.is_some());
    }

    #[test]
    fn pings_of_both_kinds_have_a_rate() {
        let mut state = session();
        for _ in 0..20 {
            assert_eq!(state.handle(at(0), Input::Control), []);
        }
        for _ in 0..100 {
            assert_eq!(state.handle(at(0), Input::Control), []);
        }
        assert_eq!(state.handle(at(0), Input::Control), ends(CloseCode::Flood));
    }
}

mod rooms {
    use super::*;

    #[test]
    fn a_room_is_opened_once_and_closed_when_asked() {
        let mut state = listening();
        assert_eq!(error_codes(&says(&mut state, open(8, 1))), [(Some(8), ErrorCode::Conflict)]);
        let watch = Action::Watch { room: room(1), open: false };
        assert_eq!(says(&mut state, close(9, 1)), [Action::Leave(room(1)), watch, closed(Some(9), 1, None)]);
        assert_eq!(
            says(&mut state, close(10, 1)),
            [closed(Some(10), 1, None)],
            "closing what is closed is done"
        );
        assert_eq!(says(&mut state, open(11, 1)), [asks(Some(11), 1, Some(5))]);
    }

    #[test]
    fn closing_waits_for_an_opening_that_is_on_its_way() {
        let mut state = session();
        says(&mut state, open(7, 1));
        assert_eq!(says(&mut state, close(8, 1)), []);
        let opened = told(&mut state, Notice::Opened { room: room(1) });
        let watch = Action::Watch { room: room(1), open: false };
        assert_eq!(opened, [Action::Leave(room(1)), watch, closed(Some(8), 1, None)]);
    }

    #[test]
    fn at_most_fifty_rooms_are_open() {
        let mut state = session();
        for number in 0..limits::OPEN_ROOMS as u128 {
            says(&mut state, open(1, number));
        }
        assert_eq!(error_codes(&says(&mut state, open(2, 99))), [(Some(2), ErrorCode::TooMany)]);
    }

    #[test]
    fn a_resume_opens_what_was_open_up_to_the_limit() {
        let mut state = session();
        let resume = |number: u128| Resume { after: 5, open: number != 0, incarnation: Some(INCARNATION) };
        let resume =
            (0..=limits::OPEN_ROOMS as u128 + 1).map(|number| (room(number), resume(number))).collect();
        let actions = state.handle(at(0), Input::Welcomed(resume));
        assert_eq!(actions.len(), limits::OPEN_ROOMS + 1);
        assert_eq!(actions[0], asks(None, 1, Some(5)));
        assert_eq!(actions.last(), Some(&closed(None, 51, Some(ErrorCode::TooMany))));
    }

    #[test]
    fn a_room_that_shuts_is_closed_and_a_refused_opening_is_an_error() {
        let mut state = listening();
        let shut = |id, code| Notice::Shut { room: room(1), id, code };
        let actions = told(&mut state, shut(None, ErrorCode::NotAMember));
        let watch = || Action::Watch { room: room(1), open: false };
        assert_eq!(actions, [watch(), closed(None, 1, Some(ErrorCode::NotAMember))]);
        says(&mut state, open(8, 1));
        let mut actions = told(&mut state, shut(Some(8), ErrorCode::Banned));
        assert_eq!(actions.remove(0), watch());
        assert_eq!(error_codes(&actions), [(Some(8), ErrorCode::Banned)]);
        assert_eq!(told(&mut state, shut(None, ErrorCode::Banned)), [], "it is not open any more");
    }

    #[test]
    fn a_resume_of_a_busy_room_is_tried_again_and_an_opening_is_refused() {
        let mut state = session();
        let resume = Resume { after: 5, open: true, incarnation: Some(INCARNATION) };
        state.handle(at(0), Input::Welcomed(BTreeMap::from([(room(1), resume)])));
        let refused = |state: &mut State| {
            state.handle(at(0), Input::OpenRefused { room: room(1), refusal: overloaded() })
        };
        assert_eq!(refused(&mut state), []);
        assert_eq!(state.next_tick(at(0), None), at(2).uptime);
        assert_eq!(state.handle(at(1), Input::Tick), [Action::SendAgainLate]);
        assert_eq!(state.handle(at(2), Input::Tick), [Action::SendAgainLate, asks(None, 1, Some(5))]);

        let mut state = session();
        says(&mut state, open(7, 1));
        assert_eq!(error_codes(&refused(&mut state)), [(Some(7), ErrorCode::Overloaded)]);
        assert_eq!(says(&mut state, open(8, 1)).len(), 1, "it may be asked for again");
    }

    #[test]
    fn a_resumed_room_that_cannot_be_had_now_is_asked_again() {
        let mut state = session();
        let resume = Resume { after: 5, open: true, incarnation: Some(INCARNATION) };
        state.handle(at(0), Input::Welcomed(BTreeMap::from([(room(1), resume)])));
        let shut = Notice::Shut { room: room(1), id: None, code: ErrorCode::Unavailable };
        assert_eq!(told(&mut state, shut), []);
        assert_eq!(state.handle(at(2), Input::Tick), [Action::SendAgainLate, asks(None, 1, Some(5))]);
    }

    #[test]
    fn when_the_audience_ends_the_room_is_asked_again_from_where_the_client_is() {
        let mut state = listening();
        let ended = |at| Notice::AudienceEnded { room: room(1), at };
        assert_eq!(told(&mut state, ended(8)), [asks(None, 1, Some(8))]);
        assert_eq!(told(&mut state, ended(8)), [asks(None, 1, Some(8))], "as long as it is not open");
        told(&mut state, Notice::Opened { room: room(1) });
        behind(&mut state, 8, 300);
        parts(read(&mut state, 8, Ok(page(9..=208, 300))));
        state.handle(at(0), Input::CaughtUp { room: room(1), at: 208, all: true });
        assert_eq!(told(&mut state, ended(8)), [asks(None, 1, Some(208))], "what was read is not read again");
    }

    #[test]
    fn an_opening_keeps_its_number_when_the_audience_ends() {
        let mut state = session();
        says(&mut state, open(7, 1));
        let actions = told(&mut state, Notice::AudienceEnded { room: room(1), at: 0 });
        assert_eq!(actions, [asks(Some(7), 1, Some(5))]);
    }
}

mod catch_up {
    use super::*;

    #[test]
    fn a_session_that_is_behind_reads_until_the_head_and_goes_back_to_the_stream() {
        let mut state = listening();
        behind(&mut state, 5, 250);
        let first = parts(read(&mut state, 5, Ok(page(6..=205, 260))));
        assert_eq!(first.last().unwrap().upto, 205);
        assert_eq!(state.handle(at(0), Input::CaughtUp { room: room(1), at: 205, all: true }), []);
        assert_eq!(next_work(&mut state), Some(Work::CatchUp { room: room(1), at: 205, limit: 200 }));
        parts(read(&mut state, 205, Ok(page(206..=260, 260))));
        let actions = state.handle(at(0), Input::CaughtUp { room: room(1), at: 260, all: true });
        assert_eq!(actions, [Action::Rejoin { room: room(1), at: 260 }, Action::SendAgain(room(1))]);
        assert_eq!(next_work(&mut state), None);
    }

    #[test]
    fn a_page_that_does_not_fit_is_read_again_from_where_it_ended_and_smaller() {
        let mut state = listening();
        behind(&mut state, 5, 250);
        read(&mut state, 5, Ok(page(6..=205, 250)));
        state.handle(at(0), Input::CaughtUp { room: room(1), at: 60, all: false });
        assert_eq!(state.next_work(at(0), false), None, "not before the outbox is calm");
        assert_eq!(next_work(&mut state), Some(Work::CatchUp { room: room(1), at: 60, limit: 100 }));
    }

    #[test]
    fn large_entries_are_cut_into_frames_and_the_own_ones_are_named() {
        let mut state = listening();
        behind(&mut state, 5, 20);
        let mut page = page(6..=6, 20);
        page.entries = (6..=20).map(|seq| entry(seq, 15_000)).collect();
        page.entries[1].writer = Some(WriterId::from_u128(9));
        page.entries[1].n = Some(3);
        let parts = parts(read(&mut state, 5, Ok(page)));
        let uptos: Vec<Seq> = parts.iter().map(|part| part.upto).collect();
        assert_eq!(uptos, [7, 9, 11, 13, 15, 17, 19, 20]);
        assert_eq!(parts[0].own, [(WriterId::from_u128(9), 3)]);
    }

    #[test]
    fn what_the_log_does_not_give_is_a_named_gap() {
        let mut state = listening();
        behind(&mut state, 5, 250);
        let parts_read = parts(read(&mut state, 5, Ok(page(100..=110, 250))));
        let gap = |after, upto| ServerFrame::Gap(Gap { room: room(1), after, upto });
        assert_eq!((&parts_read[0].frame, parts_read[0].upto), (&gap(5, 99), 99));
        assert_eq!(parts_read[1].upto, 110);

        let mut state = listening();
        behind(&mut state, 5, 250);
        let nothing = Page { entries: Vec::new(), ..page(1..=1, 250) };
        let parts_read = parts(read(&mut state, 5, Ok(nothing)));
        assert_eq!((&parts_read[0].frame, parts_read.len()), (&gap(5, 250), 1));
    }

    #[test]
    fn a_store_that_is_away_or_late_is_asked_again() {
        let mut state = listening();
        behind(&mut state, 5, 8);
        assert_eq!(read(&mut state, 5, Err(overloaded())), []);
        assert_eq!(next_work(&mut state), None);
        assert_eq!(state.next_tick(at(0), None), at(2).uptime);
        assert!(state.next_work(at(2), true).is_some());
        let late = || Ok(Page { entries: Vec::new(), ..page(1..=1, 5) });
        assert_eq!(read(&mut state, 5, late()), []);
        assert_eq!(next_work(&mut state), None);
        for _ in 0..24 {
            assert_eq!(read(&mut state, 5, late()), []);
        }
        assert_eq!(parts(read(&mut state, 5, late()))[0].upto, 8, "in the end it is a gap");
    }

    #[test]
    fn who_may_not_read_any_more_hears_no_more() {
        let mut state = listening();
        behind(&mut state, 5, 8);
        let banned = Refusal::new(ErrorCode::Banned, "banned");
        let actions = read(&mut state, 5, Err(banned));
        let watch = Action::Watch { room: room(1), open: false };
        assert_eq!(actions, [Action::Leave(room(1)), watch, closed(None, 1, Some(ErrorCode::Banned))]);
    }

    #[test]
    fn pages_of_an_earlier_catch_up_are_dropped() {
        let mut state = listening();
        behind(&mut state, 5, 250);
        behind(&mut state, 40, 300);
        assert_eq!(read(&mut state, 5, Ok(page(6..=205, 250))), []);
        says(&mut state, close(9, 1));
        assert_eq!(read(&mut state, 40, Ok(page(41..=205, 250))), []);
    }

    #[test]
    fn catching_up_and_requests_take_turns() {
        let mut state = listening();
        behind(&mut state, 5, 1_000);
        for id in 0..2 {
            let history = History { id, room: room(1), from: None, limit: None };
            says(&mut state, ClientFrame::History(history));
        }
        let kinds: Vec<bool> = std::iter::from_fn(|| next_work(&mut state))
            .take(4)
            .map(|work| matches!(work, Work::CatchUp { .. }))
            .collect();
        assert_eq!(kinds, [false, true, false, true]);
    }
}

mod work {
    use super::*;

    fn history(id: RequestId, from: Option<HistoryFrom>) -> History {
        History { id, room: room(1), from, limit: Some(200) }
    }

    fn pushed(state: &mut State, history: History, page: Page) -> Vec<Seq> {
        let actions = state.handle(at(0), Input::Done(Done::Page(history, Ok(page))));
        let [Action::PushPage(page, Work::Page(_))] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(page.id, Some(history.id));
        page.entries.iter().map(|entry| entry.seq).collect()
    }

    #[test]
    fn too_many_requests_at_once_are_refused() {
        let mut state = session();
        for id in 0..16 {
            assert_eq!(says(&mut state, ClientFrame::History(history(id, None))), []);
        }
        let actions = says(&mut state, ClientFrame::History(history(16, None)));
        assert_eq!(error_codes(&actions), [(Some(16), ErrorCode::RateLimited)]);
    }

    #[test]
    fn read_marks_of_a_room_that_wait_become_one() {
        let mut state = session();
        for seq in [3, 9, 5] {
            says(&mut state, ClientFrame::Read(Read { room: room(1), seq }));
        }
        assert_eq!(next_work(&mut state), Some(Work::Mark(Read { room: room(1), seq: 9 })));
        assert_eq!(next_work(&mut state), None);
    }

    #[test]
    fn only_pages_wait_for_a_calm_outbox() {
        let mut state = session();
        says(&mut state, ClientFrame::History(history(1, None)));
        says(&mut state, ClientFrame::Read(Read { room: room(1), seq: 3 }));
        assert!(matches!(state.next_work(at(0), false), Some(Work::Mark(_))));
        assert_eq!(state.next_work(at(0), false), None);
        assert_eq!(next_work(&mut state), Some(Work::Page(history(1, None))));
        state.handle(at(0), Input::NotPushed(Work::Page(history(1, None))));
        assert_eq!(next_work(&mut state), Some(Work::Page(history(1, None))), "once more");
    }

    #[test]
    fn a_page_is_cut_to_what_fits_at_the_end_that_matters_less() {
        let mut state = session();
        let large = || {
            let mut page = page(1..=1, 40);
            page.entries = (1..=40).map(|seq| entry(seq, 10_000)).collect();
            page
        };
        let seqs = |state: &mut State, from| pushed(state, history(1, from), large());
        assert_eq!(seqs(&mut state, Some(HistoryFrom::After(0))), (1..=9).collect::<Vec<_>>());
        assert_eq!(seqs(&mut state, None), (32..=40).collect::<Vec<_>>());
        assert_eq!(seqs(&mut state, Some(HistoryFrom::Around(20))), (16..=24).collect::<Vec<_>>());
        assert_eq!(seqs(&mut state, Some(HistoryFrom::Around(99))), (32..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_token_of_the_same_sign_in_prolongs_the_session() {
        let mut state = session();
        let refreshed =
            |state: &mut State, identity| state.handle(at(0), Input::Done(Done::Refresh(5, identity)));
        let other = Identity { device: DeviceId::from_u128(99), ..identity() };
        assert_eq!(error_codes(&refreshed(&mut state, Ok(other))), [(Some(5), ErrorCode::Forbidden)]);
        let refused = refreshed(&mut state, Err(ErrorCode::Unauthenticated));
        assert_eq!(error_codes(&refused), [(Some(5), ErrorCode::Unauthenticated)]);
        let later = Identity { expires_at: 9_000_000, ..identity() };
        let actions = refreshed(&mut state, Ok(later));
        assert!(
            matches!(&actions[..], [Action::Say(ServerFrame::Refreshed(told))] if told.expires_at == 9_000_000)
        );
        assert_eq!(refreshed(&mut state, Err(ErrorCode::Disabled)), ends(CloseCode::Disabled));
    }

    #[test]
    fn a_refresh_is_judged_as_work() {
        let mut state = session();
        let refresh = Refresh { id: 5, token: "t".into() };
        says(&mut state, ClientFrame::Refresh(refresh.clone()));
        assert_eq!(next_work(&mut state), Some(Work::Refresh(refresh)));
    }

    #[test]
    fn a_user_whose_actor_ended_is_connected_again() {
        let mut state = listening();
        told(&mut state, Notice::UserEnded);
        told(&mut state, Notice::UserEnded);
        assert_eq!(next_work(&mut state), Some(Work::Connect));
        assert_eq!(next_work(&mut state), None);
        let failed = Done::Connect(Err(overloaded()));
        assert_eq!(state.handle(at(0), Input::Done(failed)), []);
        assert_eq!(state.next_tick(at(0), None), at(1).uptime);
        state.handle(at(1), Input::Tick);
        assert_eq!(next_work(&mut state), Some(Work::Connect));
        let allowance = Arc::new(actors::users::Allowance::new(1, 1));
        let actions = state.handle(at(1), Input::Done(Done::Connect(Ok(allowance))));
        assert_eq!(actions, [Action::Watch { room: room(1), open: true }]);
    }
}

mod time {
    use super::*;

    fn beat(seconds: u64) -> SocketSettings {
        SocketSettings { heartbeat: Duration::from_secs(seconds), ..SocketSettings::default() }
    }

    #[test]
    fn a_silent_client_is_pinged_and_then_lost() {
        let mut state = session_with(beat(20));
        let first = state.next_tick(at(0), None);
        assert!((at(18).uptime..=at(22).uptime).contains(&first), "{first:?}");
        let actions = state.handle(at(22), Input::Tick);
        assert_eq!(actions, [Action::SendAgainLate, Action::Ping, Action::SettleAccounts]);
        assert_eq!(state.handle(at(39), Input::Tick), [Action::SendAgainLate]);
        assert_eq!(state.handle(at(40), Input::Tick), ends(CloseCode::HeartbeatLost));
    }

    #[test]
    fn a_pong_a_frame_or_what_it_takes_keeps_a_client() {
        let mut state = session_with(beat(20));
        state.handle(at(30), Input::Control);
        assert_ne!(state.handle(at(69), Input::Tick), ends(CloseCode::HeartbeatLost));
        state.flowed(at(69), Flow { written: 1, is_blocked: false });
        assert_ne!(state.handle(at(108), Input::Tick), ends(CloseCode::HeartbeatLost));
        assert_eq!(state.handle(at(109), Input::Tick), ends(CloseCode::HeartbeatLost));
    }

    #[test]
    fn a_client_that_takes_nothing_is_cut() {
        let mut state = session_with(beat(100));
        state.flowed(at(1), Flow { written: 0, is_blocked: true });
        state.flowed(at(9), Flow { written: 0, is_blocked: true });
        assert_eq!(state.next_tick(at(9), None), at(31).uptime);
        state.flowed(at(10), Flow { written: 7, is_blocked: true });
        assert_eq!(state.handle(at(39), Input::Tick), [Action::SendAgainLate]);
        assert_eq!(state.handle(at(40), Input::Tick), [Action::End(Ending::Cut)]);
        state.flowed(at(40), Flow { written: 9, is_blocked: false });
        assert_eq!(state.handle(at(41), Input::Tick), [Action::SendAgainLate]);
    }

    #[test]
    fn an_expired_token_ends_the_session_after_its_grace() {
        let mut state = session_with(beat(10_000));
        assert_eq!(state.next_tick(at(0), None), at(630).uptime);
        assert_eq!(state.handle(at(629), Input::Tick), [Action::SendAgainLate]);
        assert_eq!(state.handle(at(630), Input::Tick), ends(CloseCode::TokenExpired));
    }

    #[test]
    fn an_unanswered_send_is_looked_at_in_time() {
        let state = session();
        assert_eq!(state.next_tick(at(2), Some(at(1).uptime)), at(6).uptime);
    }

    #[test]
    fn a_stop_says_when_to_come_back() {
        let mut state = session();
        let actions = state.handle(at(0), Input::Stop(Duration::from_millis(1_500)));
        let [Action::Say(ServerFrame::Goodbye(goodbye)), Action::End(Ending::Close(CloseCode::GoingAway))] =
            &actions[..]
        else {
            panic!("{actions:?}")
        };
        assert_eq!((goodbye.code, goodbye.after_ms, goodbye.reconnect), (4000, 1_500, true));
    }

    #[test]
    fn notices_about_sends_and_ends_are_passed_on() {
        let mut state = session();
        assert_eq!(told(&mut state, Notice::RoomEnded { room: room(1) }), [Action::SendAgain(room(1))]);
        assert_eq!(told(&mut state, Notice::End(CloseCode::SignedOut)), ends(CloseCode::SignedOut));
    }
}
