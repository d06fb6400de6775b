use super::*;
use crate::link::envelope::{Frame, LONGEST_PAYLOAD, VERSION, decode, next_entry};

const SMALL: Limits = Limits { credit: 8 * 1024, queue: 4 * 1024, entries: 16 };

fn outbox(limits: Limits) -> Outbox {
    Outbox::new(limits, VERSION, 1)
}

fn offer(outbox: &mut Outbox, worth: Worth, payload: &[u8]) -> Result<(), Unsent> {
    outbox.offer(worth, TraceContext::NONE, Bytes::copy_from_slice(payload))
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn batch(outbox: &mut Outbox, now: Duration) -> Vec<u8> {
    match outbox.next(now) {
        Next::Batch(frame) => frame,
        other => panic!("a batch is due, not {other:?}"),
    }
}

fn messages(frame: Vec<u8>) -> Vec<Bytes> {
    let Ok(Frame::Batch { mut entries, .. }) = decode(frame, VERSION) else { panic!("a batch") };
    let next = || next_entry(&mut entries).unwrap().map(|(_, payload)| payload);
    std::iter::from_fn(next).collect()
}

#[test]
fn an_idle_link_sends_at_once_and_a_busy_one_after_a_pause() {
    let mut outbox = outbox(Limits::default());
    offer(&mut outbox, Worth::Needed, b"first").unwrap();
    assert_eq!(messages(batch(&mut outbox, millis(10))), ["first"]);
    offer(&mut outbox, Worth::Needed, b"second").unwrap();
    offer(&mut outbox, Worth::Droppable, b"third").unwrap();
    assert_eq!(outbox.next(millis(10)), Next::At(millis(11)));
    assert_eq!(messages(batch(&mut outbox, millis(11))), ["second", "third"]);
    assert_eq!(outbox.next(millis(11)), Next::Nothing);
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut outbox = outbox(Limits::default());
    let payload = [0; 1000];
    offer(&mut outbox, Worth::Needed, b"first").unwrap();
    batch(&mut outbox, millis(0));
    for _ in 0..40 {
        offer(&mut outbox, Worth::Needed, &payload).unwrap();
    }
    let frame = batch(&mut outbox, millis(0));
    assert!((BATCH - 1100..=BATCH + 100).contains(&frame.len()), "{}", frame.len());
    assert_eq!(outbox.next(millis(0)), Next::At(millis(1)));
}

#[test]
fn without_credit_nothing_goes_until_the_peer_has_handled_some() {
    let mut outbox = outbox(SMALL);
    let payload = [0; 1000];
    let mut taken = 0;
    let mut sent = 0;
    while offer(&mut outbox, Worth::Needed, &payload).is_ok() {
        taken += 1;
        if let Next::Batch(frame) = outbox.next(millis(taken)) {
            sent += frame.len() as u64;
        }
    }
    // 8 in the credit, 4 in the queue.
    assert_eq!(taken, 12);
    assert!(sent <= SMALL.credit && outbox.outstanding() == sent);
    assert_eq!(outbox.next(millis(100)), Next::Nothing);
    outbox.acked(sent + 1);
    assert_eq!(outbox.next(millis(100)), Next::Nothing, "more than was sent is not believed");
    outbox.acked(sent);
    assert_eq!(messages(batch(&mut outbox, millis(100))).len(), 4);
    outbox.acked(1);
    assert!(!outbox.is_done(), "a lower number takes nothing back");
}

#[test]
fn a_full_queue_drops_what_may_be_dropped_and_refuses_the_rest() {
    let mut outbox = outbox(Limits { credit: 0, ..SMALL });
    let payload = [0; 1000];
    for worth in [Worth::Droppable, Worth::Needed, Worth::Droppable, Worth::Needed] {
        offer(&mut outbox, worth, &payload).unwrap();
    }
    assert_eq!(offer(&mut outbox, Worth::Droppable, &payload), Err(Unsent));
    assert_eq!(outbox.shed, 0);
    offer(&mut outbox, Worth::Needed, &payload).unwrap();
    assert_eq!(outbox.shed, 2);
    offer(&mut outbox, Worth::Needed, &payload).unwrap();
    assert_eq!(offer(&mut outbox, Worth::Needed, &payload), Err(Unsent));
}

#[test]
fn many_small_messages_are_bounded_too() {
    let mut outbox = outbox(Limits { credit: 0, ..SMALL });
    let taken = (0..100).filter(|_| offer(&mut outbox, Worth::Needed, b"").is_ok()).count();
    assert_eq!(taken, SMALL.entries);
}

#[test]
fn the_longest_message_goes_alone_and_a_longer_one_not_at_all() {
    let mut outbox = outbox(Limits::default());
    let payload = vec![0; LONGEST_PAYLOAD];
    offer(&mut outbox, Worth::Needed, &payload).unwrap();
    offer(&mut outbox, Worth::Needed, b"next").unwrap();
    let frame = batch(&mut outbox, millis(0));
    assert!(frame.len() <= envelope::LONGEST_FRAME);
    assert_eq!(messages(frame).len(), 1);
    assert_eq!(offer(&mut outbox, Worth::Needed, &vec![0; LONGEST_PAYLOAD + 1]), Err(Unsent));
}

#[test]
fn whatever_the_peer_does_order_and_bounds_hold() {
    for seed in 0..2000 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut chance = fastish(seed);
    let mut outbox = outbox(SMALL);
    let (mut now, mut number, mut handled) = (Duration::ZERO, 0_u32, 0);
    let mut taken = Vec::new();
    let mut came: Vec<u32> = Vec::new();
    for _ in 0..300 {
        match chance() % 4 {
            0 | 1 => {
                let mut payload = vec![0; (chance() % 1500) as usize + 4];
                payload[..4].copy_from_slice(&number.to_le_bytes());
                let worth = if chance().is_multiple_of(3) { Worth::Droppable } else { Worth::Needed };
                if offer(&mut outbox, worth, &payload).is_ok() {
                    taken.push((number, worth));
                }
                number += 1;
            }
            2 => now += Duration::from_micros(chance() % 2000),
            _ => outbox.acked(handled - handled.min(chance() % 3000)),
        }
        while let Next::Batch(frame) = outbox.next(now) {
            handled += frame.len() as u64;
            let read = |payload: Bytes| u32::from_le_bytes(payload[..4].try_into().unwrap());
            came.extend(messages(frame).into_iter().map(read));
        }
        assert!(outbox.outstanding() <= SMALL.credit && outbox.queued() <= SMALL.queue, "seed {seed}");
    }
    outbox.acked(handled);
    outbox.hurry();
    while let Next::Batch(frame) = outbox.next(now) {
        handled += frame.len() as u64;
        came.extend(
            messages(frame).iter().map(|payload| u32::from_le_bytes(payload[..4].try_into().unwrap())),
        );
        outbox.acked(handled);
        outbox.hurry();
    }
    assert!(outbox.is_done(), "seed {seed}");
    assert!(came.is_sorted_by(|a, b| a < b), "seed {seed}: order");
    let needed = taken.iter().filter(|(_, worth)| *worth == Worth::Needed);
    for (number, _) in needed {
        assert!(came.binary_search(number).is_ok(), "seed {seed}: {number} was taken and lost");
    }
    assert_eq!(came.len() + usize::try_from(outbox.shed).unwrap(), taken.len(), "seed {seed}");
}

/// Numbers that look like chance.
fn fastish(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 11
    }
}
