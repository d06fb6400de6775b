//! The keys that sign access tokens: several nodes over one store, with secrets that are right, wrong and exchanged;
//! and keys from files.
#![allow(clippy::unwrap_used, reason = "a test that panics says where")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use actors::{Chance, Clock};
use data_encoding::BASE64;
use protocol::{ErrorCode, Millis, UserId};
use rookery_gateway::auth::{
    Auth, AuthSettings, Credential, KeyFileError, Seal, StartError, passwords::PasswordSettings,
};
use store::{
    accounts::{Accounts, SigningKey, UserRecord},
    memory::MemoryStore,
};

/// A key of these tests signs this long, in milliseconds: less than a token lives.
const KEY_MS: Millis = 100_000;
/// Whoever is not known is looked up this often, in milliseconds.
const RELOAD_MS: Millis = 1_000;
/// How the PKCS #8 DER of every Ed25519 key begins; the key's 32 bytes follow.
const PKCS8: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Time stands until a test moves it.
struct FakeClock(AtomicU64);

impl Clock for FakeClock {
    fn now(&self) -> Millis {
        self.0.load(Ordering::SeqCst)
    }
}

/// Numbers that do not repeat and look like chance.
struct FakeChance(AtomicU64);

impl Chance for FakeChance {
    fn bits(&self) -> u128 {
        let hash = blake3::hash(&self.0.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        u128::from_be_bytes(hash.as_bytes()[..16].try_into().unwrap())
    }
}

/// One store, one clock, one user, and as many nodes as a test starts.
struct Cluster {
    store: Arc<MemoryStore>,
    clock: Arc<FakeClock>,
    chance: Arc<FakeChance>,
    user: UserRecord,
}

impl Cluster {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let user = UserRecord {
            user: UserId::from_u128(1),
            name: "ann".into(),
            display_name: "Ann".into(),
            full_name: None,
            email: None,
            colour: "#0061a4".into(),
            password_hash: String::new(),
            disabled: false,
            created_at: 0,
        };
        store.create_user(&user).await.unwrap();
        let clock = Arc::new(FakeClock(AtomicU64::new(1_800_000_000_000)));
        Self { store, clock, chance: Arc::new(FakeChance(AtomicU64::new(0))), user }
    }

    async fn try_start(&self, settings: AuthSettings) -> Result<Auth, StartError> {
        let passwords = PasswordSettings { memory_kib: 8, passes: 1, ..PasswordSettings::default() };
        let settings = AuthSettings { key_ms: KEY_MS, passwords, ..settings };
        Auth::start(self.store.clone(), self.clock.clone(), self.chance.clone(), settings).await
    }

    async fn node(&self, seal: Option<Seal>) -> Auth {
        self.try_start(AuthSettings { seal, ..AuthSettings::default() }).await.unwrap()
    }

    async fn node_with(&self, files: &[PathBuf]) -> Auth {
        self.try_start(with(files)).await.unwrap()
    }

    /// An access token from this node.
    async fn token(&self, node: &Auth) -> String {
        node.open(self.user.clone(), "test").await.unwrap().access_token
    }

    fn advance(&self, millis: Millis) {
        self.clock.0.fetch_add(millis, Ordering::SeqCst);
    }

    /// What the store keeps of each key, newest first.
    async fn kept(&self) -> Vec<Vec<u8>> {
        self.store.signing_keys().await.unwrap().into_iter().map(|key| key.private).collect()
    }
}

fn with(files: &[PathBuf]) -> AuthSettings {
    AuthSettings { key_files: files.to_vec(), ..AuthSettings::default() }
}

/// A seal of secrets that are known by a letter.
fn seal(current: u8, previous: Option<u8>) -> Option<Seal> {
    let previous = previous.map(|letter| [letter; 32]);
    Some(Seal::new(&[current; 32], previous.as_ref().map(|secret| &secret[..])).unwrap())
}

async fn takes(node: &Auth, token: &str) -> Result<(), ErrorCode> {
    node.identify(Credential::Token(token)).await.map(drop)
}

/// Whether an Ed25519 key is to be seen, whatever the version of PKCS #8: by its algorithm and length.
fn is_plain(kept: &[u8]) -> bool {
    let (_, algorithm) = PKCS8.split_at(5);
    kept.windows(algorithm.len()).any(|part| part == algorithm)
}

/// How many keys others may verify with.
fn published(node: &Auth) -> usize {
    node.jwks()["keys"].as_array().unwrap().len()
}

/// A key as `openssl genpkey -algorithm ed25519` writes it.
fn pem(byte: u8) -> String {
    let der = [PKCS8, &[byte; 32]].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(&der))
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn keys_lie_in_the_store_in_the_open_without_a_secret_and_sealed_with_one() {
    // Their chance is the same, and so are their keys.
    let (open, sealed) = (Cluster::new().await, Cluster::new().await);
    let ids = [open.node(None).await.jwks(), sealed.node(seal(b'a', None)).await.jwks()];
    assert_eq!(ids[0], ids[1]);
    let (open, sealed) = (open.kept().await, sealed.kept().await);
    assert_eq!((open.len(), sealed.len()), (1, 1));
    assert!(is_plain(&open[0]) && !is_plain(&sealed[0]));
    assert!(sealed[0].starts_with(b"rookery-seal-v1:"));
    for part in open[0].windows(8) {
        assert!(!sealed[0].windows(8).any(|other| other == part), "something of the key is to be seen");
    }
}

#[tokio::test]
async fn nodes_with_one_secret_take_each_others_tokens_also_after_a_rotation_of_keys() {
    let cluster = Cluster::new().await;
    let (one, other) = (cluster.node(seal(b'a', None)).await, cluster.node(seal(b'a', None)).await);
    let before = cluster.token(&one).await;
    takes(&other, &before).await.unwrap();
    takes(&one, &cluster.token(&other).await).await.unwrap();
    assert_eq!(cluster.kept().await.len(), 1, "the second node found the key of the first");

    cluster.advance(KEY_MS);
    let after = cluster.token(&other).await;
    assert_eq!(cluster.kept().await.len(), 2);
    for node in [&one, &other] {
        takes(node, &before).await.unwrap();
        takes(node, &after).await.unwrap();
    }
    assert!(!cluster.kept().await.iter().any(|kept| is_plain(kept)));
}

/// The steps that the documentation gives, each a restart of one node while the other goes on, with keys that rotate in
/// the middle of every one of them.
#[tokio::test]
async fn the_secret_is_exchanged_without_a_refused_token() {
    let cluster = Cluster::new().await;
    let steps = [(b'a', None), (b'a', Some(b'b')), (b'b', Some(b'a'))];
    let mut nodes = [cluster.node(seal(b'a', None)).await, cluster.node(seal(b'a', None)).await];
    let mut tokens = vec![cluster.token(&nodes[0]).await];
    for (current, previous) in steps {
        for restarted in 0..nodes.len() {
            nodes[restarted] = cluster.node(seal(current, previous)).await;
            cluster.advance(KEY_MS);
            for signing in [restarted, 1 - restarted] {
                tokens.push(cluster.token(&nodes[signing]).await);
                for (node, token) in
                    nodes.iter().flat_map(|node| tokens.iter().map(move |token| (node, token)))
                {
                    match takes(node, token).await {
                        Ok(()) | Err(ErrorCode::Expired) => {}
                        Err(code) => panic!("{code:?} while {current} follows {previous:?}"),
                    }
                }
            }
        }
    }
    // Once the keys of before sign no more and their last tokens have ended, the old secret can go.
    cluster.advance(KEY_MS);
    let last = cluster.token(&nodes[0]).await;
    cluster.advance(AuthSettings::default().access_ms - 1_000);
    nodes[1] = cluster.node(seal(b'b', None)).await;
    takes(&nodes[1], &last).await.unwrap();
}

#[tokio::test]
async fn a_node_with_another_secret_makes_one_key_of_its_own_and_leaves_those_of_others_alone() {
    let cluster = Cluster::new().await;
    let right = cluster.node(seal(b'a', None)).await;
    let wrong = cluster.node(seal(b'x', None)).await;
    let (ours, theirs) = (cluster.token(&right).await, cluster.token(&wrong).await);
    assert_eq!(cluster.kept().await.len(), 2);
    assert_eq!(takes(&wrong, &ours).await, Err(ErrorCode::Unauthenticated));
    assert_eq!(takes(&right, &theirs).await, Err(ErrorCode::Unauthenticated));
    for node in [&right, &wrong] {
        assert_eq!(published(node), 1, "nobody publishes what it can't open");
    }
    // Whatever is asked and however often: nobody makes a key because of a foreign one.
    for _ in 0..3 {
        cluster.advance(RELOAD_MS);
        takes(&wrong, &ours).await.unwrap_err();
        takes(&right, &theirs).await.unwrap_err();
        takes(&right, &cluster.token(&right).await).await.unwrap();
        takes(&wrong, &cluster.token(&wrong).await).await.unwrap();
    }
    assert_eq!(cluster.kept().await.len(), 2);
    // Put right, the node is one of the others again.
    let put_right = cluster.node(seal(b'a', None)).await;
    takes(&put_right, &ours).await.unwrap();
    takes(&right, &cluster.token(&put_right).await).await.unwrap();
    assert_eq!(cluster.kept().await.len(), 2);
}

#[tokio::test]
async fn a_node_without_a_secret_makes_a_key_of_its_own_that_the_others_take() {
    let cluster = Cluster::new().await;
    let sealed = cluster.node(seal(b'a', None)).await;
    let open = cluster.node(None).await;
    cluster.advance(RELOAD_MS);
    takes(&sealed, &cluster.token(&open).await).await.unwrap();
    assert_eq!(cluster.kept().await.len(), 2);
}

#[tokio::test]
async fn a_key_that_is_damaged_stops_nothing() {
    let cluster = Cluster::new().await;
    let broken = SigningKey {
        key_id: "broken".into(),
        private: b"rookery-seal-v1:".to_vec(),
        created_at: cluster.clock.now() + KEY_MS,
    };
    let nonsense = SigningKey {
        key_id: "nonsense".into(),
        private: b"rookery-seal-v2:later".to_vec(),
        ..broken.clone()
    };
    cluster.store.put_signing_key(&broken).await.unwrap();
    cluster.store.put_signing_key(&nonsense).await.unwrap();
    let node = cluster.node(seal(b'a', None)).await;
    takes(&node, &cluster.token(&node).await).await.unwrap();
    assert_eq!(published(&node), 1);
}

#[tokio::test]
async fn keys_from_before_there_was_a_secret_go_on_until_the_next_rotation() {
    let cluster = Cluster::new().await;
    let before = cluster.token(&cluster.node(None).await).await;
    let node = cluster.node(seal(b'a', None)).await;
    takes(&node, &before).await.unwrap();
    cluster.token(&node).await;
    assert_eq!(cluster.kept().await.len(), 1, "a plain key goes on signing");

    cluster.advance(KEY_MS);
    let after = cluster.token(&node).await;
    takes(&node, &before).await.unwrap();
    takes(&node, &after).await.unwrap();
    let kept = cluster.kept().await;
    assert_eq!(kept.iter().map(|kept| is_plain(kept)).collect::<Vec<_>>(), [false, true]);

    // The plain key goes with the first key that is made after its last token has ended.
    cluster.advance(2 * 60 * 60_000);
    cluster.token(&node).await;
    assert!(!cluster.kept().await.iter().any(|kept| is_plain(kept)));
}

#[tokio::test]
async fn with_files_the_first_signs_all_verify_and_the_store_gets_nothing() {
    let (cluster, folder) = (Cluster::new().await, tempfile::tempdir().unwrap());
    let (one, two) = (write(folder.path(), "1.pem", &pem(1)), write(folder.path(), "2.pem", &pem(2)));
    let (first, second) =
        (cluster.node_with(&[one.clone(), two.clone()]).await, cluster.node_with(&[two, one]).await);
    let tokens = [cluster.token(&first).await, cluster.token(&second).await];
    for node in [&first, &second] {
        assert_eq!(published(node), 2);
        for token in &tokens {
            takes(node, token).await.unwrap();
        }
    }
    let kid = |token: &str| token.split_once('.').unwrap().0.to_owned();
    assert_ne!(kid(&tokens[0]), kid(&tokens[1]));
    // Long after a key of the store would have been followed by another.
    cluster.advance(100 * KEY_MS);
    assert_eq!(kid(&cluster.token(&first).await), kid(&tokens[0]));
    assert!(cluster.kept().await.is_empty());
}

#[tokio::test]
async fn files_are_read_again_for_an_unknown_key_at_most_once_a_second() {
    let (cluster, folder) = (Cluster::new().await, tempfile::tempdir().unwrap());
    let path = write(folder.path(), "1.pem", &pem(1));
    let node = cluster.node_with(std::slice::from_ref(&path)).await;
    let old = cluster.token(&node).await;
    let three = cluster.node_with(&[write(folder.path(), "3.pem", &pem(3))]).await;
    let four = cluster.node_with(&[write(folder.path(), "4.pem", &pem(4))]).await;
    let (three, four) = (cluster.token(&three).await, cluster.token(&four).await);

    takes(&node, &three).await.unwrap_err();
    write(folder.path(), "1.pem", &pem(3));
    assert_eq!(takes(&node, &three).await, Err(ErrorCode::Unauthenticated), "the files were just read");
    cluster.advance(RELOAD_MS);
    takes(&node, &three).await.unwrap();
    assert_eq!(takes(&node, &old).await, Err(ErrorCode::Unauthenticated), "its key is in no file any more");

    // What can't be read changes nothing.
    write(folder.path(), "1.pem", "half a");
    cluster.advance(RELOAD_MS);
    takes(&node, &four).await.unwrap_err();
    takes(&node, &three).await.unwrap();
    takes(&node, &cluster.token(&node).await).await.unwrap();
}

#[tokio::test]
async fn keys_in_files_are_exchanged_without_a_refused_token() {
    let cluster = Cluster::new().await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let fill = |node: usize, first: u8, second: u8| {
        let folder = folders[node].path();
        [write(folder, "first.pem", &pem(first)), write(folder, "second.pem", &pem(second))]
    };
    let mut nodes = [cluster.node_with(&fill(0, 1, 1)).await, cluster.node_with(&fill(1, 1, 1)).await];
    let mut tokens = Vec::new();
    for (first, second) in [(1, 2), (2, 1), (2, 2)] {
        if first == second {
            // The old key goes when its last token has ended.
            cluster.advance(AuthSettings::default().access_ms);
            tokens = vec![cluster.token(&nodes[0]).await];
        }
        for restarted in 0..nodes.len() {
            let files = fill(restarted, first, second);
            nodes[restarted] = cluster.node_with(&files).await;
            for node in &nodes {
                tokens.push(cluster.token(node).await);
            }
            for node in &nodes {
                for token in &tokens {
                    takes(node, token).await.unwrap();
                }
            }
            cluster.advance(RELOAD_MS);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_no_key_is_named_at_the_start_without_its_content() {
    let (cluster, folder) = (Cluster::new().await, tempfile::tempdir().unwrap());
    let good = write(folder.path(), "good.pem", &pem(1));
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let broken = "-----BEGIN PRIVATE KEY-- canary\n";
    for (name, text) in [("empty", ""), ("text", "canary"), ("other", &other[..]), ("broken", broken)] {
        let path = write(folder.path(), name, text);
        let error = cluster.try_start(with(&[good.clone(), path.clone()])).await.map(drop).unwrap_err();
        assert!(matches!(error, StartError::KeyFile(_)));
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    let missing = cluster.try_start(with(&[folder.path().join("missing")])).await.map(drop).unwrap_err();
    assert!(matches!(missing, StartError::KeyFile(KeyFileError::Read { .. })));
    assert!(cluster.kept().await.is_empty());
}

#[tokio::test]
async fn a_file_of_another_program_is_read_too() {
    let (cluster, folder) = (Cluster::new().await, tempfile::tempdir().unwrap());
    let made = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
    let node = cluster.node_with(&[write(folder.path(), "key.pem", &made)]).await;
    takes(&node, &cluster.token(&node).await).await.unwrap();
}
