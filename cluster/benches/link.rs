//! What a message costs over a link, against the same bytes in the same batches over a TCP connection by hand, with and
//! without TLS. All ends are in this process: CPU is that of sender and receiver together.
//!
//! `cargo bench -p rookery-cluster --bench link`

#![expect(clippy::print_stdout, reason = "it is what a benchmark is for")]

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actors::{Chance, PeerId, peers::Worth};
use bytes::{Buf, BufMut, Bytes};
use rookery_cluster::{
    NodeName,
    link::{LinkHandler, LinkPhase, LinkSettings, Links, Tls},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use telemetry::TraceContext;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

const MESSAGES: u64 = 2_000_000;
const LENGTH: usize = 256;
const BATCH: usize = 32 * 1024;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut medians = Vec::new();
    let mut all: [Vec<Cost>; 3] = Default::default();
    // In turns, so that what else the machine does falls on all alike.
    for _ in 0..ROUNDS {
        all[0].push(by_hand(None).await?);
        all[1].push(by_hand(Some(folder.path())).await?);
        all[2].push(over_links(folder.path()).await?);
    }
    for (name, costs) in ["TCP by hand", "TLS by hand", "link (TLS)"].into_iter().zip(&mut all) {
        costs.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
        let median = costs[costs.len() / 2];
        println!(
            "{name:12} {:.3} µs CPU, {:.3} µs wall a message of {LENGTH} bytes",
            median.cpu, median.wall
        );
        medians.push(median);
    }
    for (name, base) in [("TCP", medians[0]), ("TLS", medians[1])] {
        let (cpu, wall) = (medians[2].cpu / base.cpu, medians[2].wall / base.wall);
        println!("link against {name} by hand: {cpu:.2} times the CPU, {wall:.2} times the time");
    }
    Ok(())
}

/// Of one message, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |n| after_name.split_whitespace().nth(n).and_then(|ticks| ticks.parse::<f64>().ok());
    (ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0
}

async fn measure(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Cost> {
    let (cpu, wall) = (cpu_seconds(), Instant::now());
    work.await?;
    let a_message = 1e6 / MESSAGES as f64;
    Ok(Cost { cpu: (cpu_seconds() - cpu) * a_message, wall: wall.elapsed().as_secs_f64() * a_message })
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn take(&self, message: &Bytes) {
        self.0.fetch_add(1 + u64::from(message.is_empty()), Ordering::Relaxed);
    }

    async fn all(&self) {
        while self.0.load(Ordering::Relaxed) < MESSAGES {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

impl LinkHandler for Counter {
    fn up(&self, _: PeerId) {}
    fn down(&self, _: PeerId) {}
    fn received(&self, _: PeerId, message: Bytes, _: TraceContext) {
        self.take(&message);
    }
}

/// Numbers that no two nodes of this process draw alike.
#[derive(Default)]
struct Dice(std::hash::RandomState);

impl Chance for Dice {
    fn bits(&self) -> u128 {
        static DRAWN: AtomicU64 = AtomicU64::new(0);
        std::hash::BuildHasher::hash_one(&self.0, DRAWN.fetch_add(1, Ordering::Relaxed)).into()
    }
}

async fn over_links(folder: &Path) -> anyhow::Result<Cost> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let counter = Arc::new(Counter::default());
    let mut nodes = Vec::new();
    for id in ["a", "b"] {
        let name = NodeName::new(id, 1)?;
        let settings = LinkSettings::new(
            name.clone(),
            listen,
            "bench",
            Tls::development(folder, id)?,
            Arc::new(Dice::default()),
        );
        let links = Links::start(settings, Arc::clone(&counter) as Arc<dyn LinkHandler>).await?;
        nodes.push((name, links));
    }
    let live: Vec<_> = nodes.iter().map(|(name, links)| (name.clone(), links.local_addr())).collect();
    nodes.iter().for_each(|(_, links)| links.set_live(live.clone()));
    let (from, to) = (nodes[0].1.clone(), nodes[1].0.peer());
    while nodes
        .iter()
        .any(|(_, links)| links.stats().peers.first().is_none_or(|peer| peer.phase != LinkPhase::Ready))
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let sender = tokio::spawn(async move {
        let message = Bytes::from(vec![7; LENGTH]);
        for _ in 0..MESSAGES {
            while from.send(to, Worth::Needed, message.clone(), TraceContext::NONE).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let cost = measure(async {
        sender.await?;
        counter.all().await;
        Ok(())
    })
    .await?;
    for (_, links) in nodes {
        links.stop(Duration::from_secs(1)).await;
    }
    Ok(cost)
}

/// The same bytes in the same batches, without all the rest.
async fn by_hand(folder: Option<&Path>) -> anyhow::Result<Cost> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (client, server) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (client, (server, _)) = (client?, server?);
    client.set_nodelay(true)?;
    let Some(folder) = folder else { return pump(client, server).await };
    Tls::development(folder, "a")?;
    let pem = |name: &str| folder.join(name);
    let chain = vec![CertificateDer::from_pem_file(pem("a/certificate.pem"))?];
    let key = PrivateKeyDer::from_pem_file(pem("a/key.pem"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem("ca/ca.pem"))?)?;
    let server_config = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let client_config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config));
    let name = ServerName::try_from("a")?;
    let (client, server) = tokio::join!(connector.connect(name, client), acceptor.accept(server));
    pump(client?, server?).await
}

async fn pump<C, S>(mut client: C, server: S) -> anyhow::Result<Cost>
where
    C: AsyncWrite + Unpin + Send + 'static,
    S: AsyncRead + Unpin + Send + 'static,
{
    let counter = Arc::new(Counter::default());
    let counts = Arc::clone(&counter);
    let receiver = tokio::spawn(async move {
        let mut server = BufReader::with_capacity(128 * 1024, server);
        while let Ok(length) = server.read_u64().await {
            let mut batch = vec![0; length as usize];
            server.read_exact(&mut batch).await?;
            let mut batch = Bytes::from(batch);
            while !batch.is_empty() {
                let _class = batch.get_u8();
                let length = batch.get_u32_le() as usize;
                counts.take(&batch.split_to(length));
            }
        }
        anyhow::Ok(())
    });
    let sender = tokio::spawn(async move {
        let message = Bytes::from(vec![7; LENGTH]);
        let mut sent = 0;
        while sent < MESSAGES {
            let mut batch = Vec::with_capacity(BATCH + LENGTH);
            batch.put_u64(0);
            while batch.len() < BATCH && sent < MESSAGES {
                let message = message.clone();
                batch.put_u8(0);
                batch.put_u32_le(message.len() as u32);
                batch.put_slice(&message);
                sent += 1;
            }
            let length = batch.len() as u64 - 8;
            batch[..8].copy_from_slice(&length.to_be_bytes());
            client.write_all(&batch).await?;
            client.flush().await?;
        }
        anyhow::Ok(client)
    });
    let cost = measure(async {
        let client = sender.await??;
        counter.all().await;
        drop(client);
        Ok(())
    })
    .await?;
    receiver.await??;
    Ok(cost)
}
