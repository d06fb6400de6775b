//! Datagrams as a stranger on the network could meddle with them.

use proptest::prelude::*;

use super::{super::secrets::Secret, super::secrets::Secrets, *};

const NOW: Millis = 1_800_000_000_000;

fn keys(cluster: &str, ids: &[u8]) -> Keys {
    let secret = |&id: &u8| Secret::new(id, &[id; 32]).unwrap();
    Keys::new(cluster, &Secrets { current: secret(&ids[0]), also: ids.get(1).map(secret) })
}

fn here() -> SocketAddr {
    "10.0.0.1:7280".parse().unwrap()
}

fn sealed(message: &[u8]) -> Vec<Vec<u8>> {
    Sealer::new(77).seal(&keys("c", &[1]), here(), NOW, message).unwrap()
}

fn open_all(opener: &mut Opener, datagrams: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut whole = None;
    for datagram in datagrams {
        assert!(whole.is_none());
        whole = opener.open(&keys("c", &[1]), NOW, datagram).unwrap();
    }
    whole
}

fn refusal(keys: &Keys, me: SocketAddr, now: Millis, datagram: &[u8]) -> Option<Rejected> {
    Opener::new(me).open(keys, now, datagram).err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_is_opened_whole(message in prop::collection::vec(any::<u8>(), 1..70_000), turn in any::<usize>()) {
        let mut datagrams = sealed(&message);
        prop_assert!(datagrams.iter().all(|datagram| datagram.len() <= DATAGRAM));
        let turn = turn % datagrams.len();
        datagrams.rotate_left(turn);
        prop_assert_eq!(open_all(&mut Opener::new(here()), &datagrams), Some(message));
    }

    #[test]
    fn a_flipped_bit_is_refused(message in prop::collection::vec(any::<u8>(), 1..400), place in any::<usize>()) {
        let mut datagram = sealed(&message).remove(0);
        let place = place % (datagram.len() * 8);
        datagram[place / 8] ^= 1 << (place % 8);
        prop_assert!(refusal(&keys("c", &[1]), here(), NOW, &datagram).is_some());
    }

    #[test]
    fn a_truncated_or_longer_datagram_is_refused(message in prop::collection::vec(any::<u8>(), 1..400), cut in any::<usize>()) {
        let mut datagram = sealed(&message).remove(0);
        let cut = cut % datagram.len();
        prop_assert!(refusal(&keys("c", &[1]), here(), NOW, &datagram[..cut]).is_some());
        datagram.push(0);
        prop_assert_eq!(refusal(&keys("c", &[1]), here(), NOW, &datagram), Some(Rejected::Forged));
    }

    #[test]
    fn junk_is_refused(junk in prop::collection::vec(any::<u8>(), 0..2_000)) {
        prop_assert!(refusal(&keys("c", &[1]), here(), NOW, &junk).is_some());
    }

    #[test]
    fn repetition_is_refused(message in prop::collection::vec(any::<u8>(), 1..5_000)) {
        let datagrams = sealed(&message);
        let mut opener = Opener::new(here());
        open_all(&mut opener, &datagrams);
        for datagram in &datagrams {
            prop_assert_eq!(opener.open(&keys("c", &[1]), NOW, datagram), Err(Rejected::Replayed));
        }
    }
}

#[test]
fn every_refusal_names_its_reason() {
    let datagram = sealed(b"hello").remove(0);
    let good = keys("c", &[1]);
    let other: SocketAddr = "10.0.0.2:7280".parse().unwrap();
    assert_eq!(refusal(&good, here(), NOW, &datagram), None);
    assert_eq!(refusal(&good, other, NOW, &datagram), Some(Rejected::Forged));
    assert_eq!(refusal(&keys("d", &[1]), here(), NOW, &datagram), Some(Rejected::Forged));
    assert_eq!(refusal(&keys("c", &[2]), here(), NOW, &datagram), Some(Rejected::UnknownKey));
    assert_eq!(refusal(&good, here(), NOW + WINDOW_MS, &datagram), None);
    assert_eq!(refusal(&good, here(), NOW + WINDOW_MS + 1, &datagram), Some(Rejected::Stale));
    assert_eq!(refusal(&good, here(), NOW - WINDOW_MS - 1, &datagram), Some(Rejected::Stale));
    assert_eq!(refusal(&good, here(), NOW, &datagram[..HEADER + TAG]), Some(Rejected::Malformed));
    let another = [&[9], &datagram[1..]].concat();
    assert_eq!(refusal(&good, here(), NOW, &another), Some(Rejected::Version));
}

#[test]
fn two_secrets_open_and_the_current_one_seals() {
    let datagram = Sealer::new(1).seal(&keys("c", &[2, 1]), here(), NOW, b"x").unwrap().remove(0);
    assert_eq!(datagram[1], 2);
    assert_eq!(refusal(&keys("c", &[1, 2]), here(), NOW, &datagram), None);
    assert_eq!(refusal(&keys("c", &[1]), here(), NOW, &datagram), Some(Rejected::UnknownKey));
}

#[test]
fn an_address_written_as_ipv6_is_the_same_address() {
    let mapped: SocketAddr = "[::ffff:10.0.0.1]:7280".parse().unwrap();
    assert_eq!(refusal(&keys("c", &[1]), mapped, NOW, &sealed(b"x")[0]), None);
}

#[test]
fn a_message_of_more_than_64_fragments_is_not_sealed() {
    let seal =
        |length| Sealer::new(1).seal(&keys("c", &[1]), here(), NOW, &vec![0; length]).map(|all| all.len());
    assert_eq!(seal(FRAGMENTS * PART), Ok(FRAGMENTS));
    assert_eq!(seal(FRAGMENTS * PART + 1), Err(TooLong(FRAGMENTS * PART + 1)));
}
