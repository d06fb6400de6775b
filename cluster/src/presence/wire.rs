//! What nodes tell each other, as bytes: batches and heads through gossip, requests and pages through links.
//!
//! All are postcard, begin with [`FORMAT`] and are bounded by their carriers; what does not decode, or decodes to more
//! than the bounds, is an error and never a panic. Gossip carries text: base64 of the same bytes.

use data_encoding::BASE64URL_NOPAD;
use protocol::{Millis, UserId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::record::{Record, SetSum, Stand, User};

/// The format of all below. A reader refuses others: a node that learns a new one reads both for a release.
const FORMAT: u8 = 1;

/// Bytes of a record at most: 16 of the user, 1 of the status, 7 of the age.
const RECORD: usize = 24;
/// Bytes of everything else at most: format, numbers of up to ten bytes, and lengths.
const OVERHEAD: usize = 64;

/// Longest value in gossip, in bytes: it must pass in one datagram beside others, and 128 of them are kept per node.
pub(super) const LONGEST_VALUE: usize = 16 * 1024;
/// Records of a batch at most: whatever their ages, they fit into a value.
pub(super) const BATCH_RECORDS: usize = 500;
/// Longest page of a snapshot, in bytes: a fraction of an envelope between nodes, so that nothing waits long behind it.
pub const LONGEST_PAGE: usize = 256 * 1024;
/// Records of a page at most: whatever their ages, they fit.
pub(super) const PAGE_RECORDS: usize = 10_000;

const _: () = assert!((BATCH_RECORDS * RECORD + OVERHEAD).div_ceil(3) * 4 <= LONGEST_VALUE);
const _: () = assert!(PAGE_RECORDS * RECORD + OVERHEAD <= LONGEST_PAGE);

/// Bytes that are not what they should be. The sender has another version, or a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Too long, cut, followed by something, or with values that cannot be.
    #[error("not a message of presence")]
    Junk,
    /// A format this version does not read.
    #[error("presence in format {0} is not read here")]
    Format(u8),
    /// A request to another life of this node.
    #[error("meant for another life of this node")]
    OtherLife,
}

/// A value under `p/000` to `p/127`: changes in order of sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    /// 1 for the first of a life, one more for each.
    pub(super) seq: u64,
    pub(super) records: Vec<Record>,
}

/// The value under `p/head`: how far the node has come, and its set there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) sum: SetSum,
}

/// One node asks another for its users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// Comes back in the answer; drawn by chance.
    pub(super) id: u64,
    /// The life that is asked.
    pub(super) generation: u64,
    /// The set at this sequence is known and only what changed since is wanted; `None`: all.
    pub(super) since: Option<u64>,
}

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) about: PageHead,
    pub(super) records: Vec<Record>,
}

/// What every page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PageHead {
    /// That of the request.
    pub(super) request: u64,
    /// Counts from 0.
    pub(super) index: u32,
    /// Nothing follows.
    pub(super) is_last: bool,
    /// The records are all there are; otherwise what changed since the sequence in the request.
    pub(super) is_full: bool,
    /// The node at the end of the answer.
    pub(super) head: Head,
}

impl Batch {
    pub(super) fn encode(seq: u64, records: &[Record]) -> String {
        BASE64URL_NOPAD.encode(&encode(&(seq, Records::pack(records))))
    }

    pub(super) fn decode(text: &str) -> Result<Self, Malformed> {
        let (seq, records): (u64, Records) = decode(&from_text(text)?)?;
        let records = records.unpack(BATCH_RECORDS)?;
        if seq == 0 { Err(Malformed::Junk) } else { Ok(Self { seq, records }) }
    }
}

impl Head {
    pub(super) fn encode(&self) -> String {
        BASE64URL_NOPAD.encode(&encode(self))
    }

    pub(super) fn decode(text: &str) -> Result<Self, Malformed> {
        decode(&from_text(text)?)
    }
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        decode(bytes)
    }
}

impl Page {
    pub(super) fn encode(about: PageHead, records: &[Record]) -> Vec<u8> {
        encode(&(about, Records::pack(records)))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > LONGEST_PAGE {
            return Err(Malformed::Junk);
        }
        let (about, records): (PageHead, Records) = decode(bytes)?;
        Ok(Self { about, records: records.unpack(PAGE_RECORDS)? })
    }
}

/// Records with their times as ages: one or two bytes for what is new.
#[derive(Serialize, Deserialize)]
struct Records {
    newest: Millis,
    packed: Vec<Packed>,
}

#[derive(Serialize, Deserialize)]
struct Packed {
    user: [u8; 16],
    status: u8,
    age: Millis,
}

impl Records {
    fn pack(records: &[Record]) -> Self {
        let newest = records.iter().map(|record| record.stand.at()).max().unwrap_or_default();
        let pack = |record: &Record| {
            let (status, at) = record.stand.parts();
            Packed { user: record.user.id().to_bytes(), status, age: newest - at }
        };
        Self { newest, packed: records.iter().map(pack).collect() }
    }

    fn unpack(self, at_most: usize) -> Result<Vec<Record>, Malformed> {
        if self.packed.len() > at_most {
            return Err(Malformed::Junk);
        }
        let unpack = |packed: &Packed| {
            let at = self.newest.checked_sub(packed.age)?;
            let user = User::new(UserId::from_bytes(packed.user));
            Some(Record { user, stand: Stand::from_parts(packed.status, at)? })
        };
        self.packed.iter().map(unpack).collect::<Option<_>>().ok_or(Malformed::Junk)
    }
}

fn from_text(text: &str) -> Result<Vec<u8>, Malformed> {
    if text.len() > LONGEST_VALUE {
        return Err(Malformed::Junk);
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| Malformed::Junk)
}

fn encode<T: Serialize>(content: &T) -> Vec<u8> {
    postcard::to_allocvec(&(FORMAT, content)).expect("numbers and lists of known length always encode")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match bytes.split_first() {
        Some((&FORMAT, content)) => match postcard::take_from_bytes(content) {
            Ok((content, [])) => Ok(content),
            Ok(_) | Err(_) => Err(Malformed::Junk),
        },
        Some((format, _)) => Err(Malformed::Format(*format)),
        None => Err(Malformed::Junk),
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;
    use protocol::client::PresenceStatus;

    use super::*;

    fn record(user: u128, status: PresenceStatus, at: Millis) -> Record {
        Record { user: User::new(UserId::from_u128(user)), stand: Stand::new(status, at) }
    }

    fn head() -> Head {
        Head { seq: 300, sum: SetSum { users: 2, hash: 0x0102_0304 } }
    }

    fn page() -> (PageHead, [Record; 1]) {
        let about = PageHead { request: 7, index: 1, is_last: true, is_full: false, head: head() };
        (about, [record(1, PresenceStatus::Dnd, 1_700_000_000_000)])
    }

    #[test]
    fn the_formats_are_these_bytes() {
        let records = [record(1, PresenceStatus::Online, 1_200), record(2, PresenceStatus::Offline, 1_000)];
        let batch = BASE64URL_NOPAD.decode(Batch::encode(300, &records).as_bytes()).unwrap();
        let head = BASE64URL_NOPAD.decode(head().encode().as_bytes()).unwrap();
        let request = Request { id: 7, generation: 300, since: Some(5) }.encode();
        let (about, records) = page();
        let page = Page::encode(about, &records);
        let found = [batch, head, request, page].map(|bytes| HEXLOWER.encode(&bytes));
        assert_eq!(found, FIXTURES);
    }

    const FIXTURES: [&str; 4] = [
        "01ac02b009020000000000000000000000000000000103000000000000000000000000000000000200c801",
        "01ac020284868808",
        "0107ac020105",
        "0107010100ac02028486880880d095ffbc3101000000000000000000000000000000010400",
    ];

    #[test]
    fn what_is_written_is_read() {
        let (about, records) = page();
        assert_eq!(Page::decode(&Page::encode(about, &records)), Ok(Page { about, records: records.into() }));
        let text = Batch::encode(9, &records);
        assert_eq!(Batch::decode(&text), Ok(Batch { seq: 9, records: records.into() }));
        assert_eq!(Head::decode(&head().encode()), Ok(head()));
    }

    #[test]
    fn the_longest_stay_within_their_bounds() {
        let old_and_new =
            |index| record(u128::MAX - index, PresenceStatus::Dnd, [0, u64::MAX][index as usize % 2]);
        let many: Vec<_> = (0..PAGE_RECORDS as u128).map(old_and_new).collect();
        let most = Batch::encode(u64::MAX, &many[..BATCH_RECORDS]);
        assert!(most.len() <= LONGEST_VALUE && Batch::decode(&most).is_ok(), "{}", most.len());
        let widest = Head { seq: u64::MAX, sum: SetSum { users: u64::MAX, hash: u64::MAX } };
        let about = PageHead { request: u64::MAX, index: u32::MAX, head: widest, ..page().0 };
        let most = Page::encode(about, &many);
        assert!(most.len() <= LONGEST_PAGE && Page::decode(&most).is_ok(), "{}", most.len());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let [text, later] = [head().encode(), BASE64URL_NOPAD.encode(&[2, 0, 0, 0])];
        assert_eq!(Head::decode(&later), Err(Malformed::Format(2)));
        assert_eq!(Head::decode(&text[..text.len() - 2]), Err(Malformed::Junk));
        assert_eq!(Head::decode(&format!("{text}AA")), Err(Malformed::Junk));
        assert_eq!(Batch::decode(&Batch::encode(0, &[])), Err(Malformed::Junk), "there is no batch 0");
        let too_many = vec![record(1, PresenceStatus::Away, 5); BATCH_RECORDS + 1];
        assert_eq!(Batch::decode(&Batch::encode(1, &too_many)), Err(Malformed::Junk));
        let packed = vec![Packed { user: [0; 16], status: 1, age: 6 }];
        let before_time = encode(&(1u64, Records { newest: 5, packed }));
        assert_eq!(Batch::decode(&BASE64URL_NOPAD.encode(&before_time)), Err(Malformed::Junk));
    }

    proptest! {
        #[test]
        fn junk_is_refused_without_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), valid: bool) {
            if let (true, Some(first)) = (valid, bytes.first_mut()) {
                *first = FORMAT;
            }
            let text = BASE64URL_NOPAD.encode(&bytes);
            let _ = (Batch::decode(&text), Head::decode(&text), Request::decode(&bytes), Page::decode(&bytes));
            let _ = Batch::decode(&String::from_utf8_lossy(&bytes));
        }
    }
}
