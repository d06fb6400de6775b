//! A TCP proxy that can go silent, or hang up.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// What it does with what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Forward,
    /// Reads nothing, says nothing, closes nothing.
    Silent,
    /// Ends all connections; new ones are forwarded once the mood is better.
    HangUp,
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    mood: Arc<watch::Sender<Mood>>,
    task: AbortHandle,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(watch::Sender::new(Mood::Forward));
        let moods = Arc::clone(&mood);
        let task = tokio::spawn(async move {
            let mut pipes = JoinSet::new();
            while let Ok((from, _)) = listener.accept().await {
                let Ok(to) = TcpStream::connect(target).await else { continue };
                let ((from_read, from_write), (to_read, to_write)) = (from.into_split(), to.into_split());
                pipes.spawn(forward(from_read, to_write, moods.subscribe()));
                pipes.spawn(forward(to_read, from_write, moods.subscribe()));
            }
        });
        Self { address, mood, task: task.abort_handle() }
    }

    pub(super) fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mood: watch::Receiver<Mood>) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let now = *mood.borrow_and_update();
        match now {
            Mood::HangUp => return,
            Mood::Silent => {
                if mood.changed().await.is_err() {
                    return;
                }
            }
            Mood::Forward => tokio::select! {
                biased;
                changed = mood.changed() => if changed.is_err() { return },
                read = from.read(&mut bytes) => match read {
                    Ok(length @ 1..) => if to.write_all(&bytes[..length]).await.is_err() { return },
                    Ok(0) | Err(_) => return,
                },
            },
        }
    }
}
