//! A few threads with read-only connections. What was committed before a query was asked is seen by it.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::codec::Fault;
use crate::StoreError;

/// Queries that may wait for a thread. At some 20,000 short queries a second that is 50 ms; more are refused, so that a
/// node under a storm of joins answers the ones that it has taken.
const QUEUE: usize = 1024;

/// The way to the threads.
#[derive(Debug)]
pub(super) struct Readers {
    queue: SyncSender<Message>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

type Query = Box<dyn FnOnce(&Connection) + Send>;

enum Message {
    Run(Query),
    Stop,
}

impl Readers {
    /// One thread a connection.
    pub(super) fn start(connections: Vec<Connection>) -> io::Result<Self> {
        let (queue, waiting) = sync_channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = connections.into_iter().map(|db| {
            let waiting = waiting.clone();
            thread::Builder::new().name("store-reader".to_owned()).spawn(move || serve(&db, &waiting))
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok(Self { queue, threads: Mutex::new(threads) })
    }

    /// Runs `query` on the first connection that is free.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let query: Query = Box::new(move |db| {
            // Nobody may be waiting any more.
            let _ = reply.send(query(db).map_err(Fault::without_effect));
        });
        self.queue.try_send(Message::Run(query)).map_err(|error| {
            StoreError::Unavailable(match error {
                TrySendError::Full(_) => "too many reads are waiting".to_owned(),
                TrySendError::Disconnected(_) => "the store is closed".to_owned(),
            })
        })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store closed meanwhile".to_owned())))
    }

    /// Finishes what waits and ends the threads.
    pub(super) fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for _ in &threads {
            // Fails only if all threads have ended already.
            let _ = self.queue.send(Message::Stop);
        }
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a reader of the store panicked");
            }
        }
    }
}

fn serve(db: &Connection, waiting: &Mutex<Receiver<Message>>) {
    loop {
        let message = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match message {
            Ok(Message::Run(query)) => query(db),
            Ok(Message::Stop) | Err(_) => return,
        }
    }
}
