//! `rookery admin`: asks the running server over its socket, or does it itself on a store that nobody has open.

use std::{
    io::{BufRead, IsTerminal, Write, stdin, stdout},
    path::Path,
    sync::Arc,
    time::Duration,
};

use actors::{Actors, World};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use gateway::{Frames, auth::Auth};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request as HttpRequest, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, sync::mpsc};

use super::{
    copying,
    office::{LINES, Office},
    request::{Line, Request, Secret},
};
use crate::{
    config::Config,
    settings,
    stores::Opened,
    world::{SystemChance, SystemClock},
};

/// How long rooms may take to end after a command without a server.
const STOP: Duration = Duration::from_secs(5);

/// Carries out one command and prints its items as JSON lines.
pub(crate) async fn run(config: &Config, mut request: Request, offline: bool) -> Result<()> {
    if let Some(password) = request.password() {
        *password = Secret(ask_password()?);
    }
    if let Request::CopyStore { to } = &request {
        return copying::run(config, to).await;
    }
    if offline {
        let (office, actors) = offline_office(config).await?;
        let printed = office.print(request).await;
        actors.stop(STOP).await;
        return printed;
    }
    let socket =
        config.admin_socket().context("admin.socket is \"off\": use --offline while no server runs")?;
    ask(&socket, &request).await
}

/// From the terminal without an echo, or the first line of standard input.
fn ask_password() -> Result<String> {
    if stdin().is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        let again = rpassword::prompt_password("Again: ")?;
        if password != again {
            bail!("the two passwords differ");
        }
        return Ok(password);
    }
    let mut line = String::new();
    stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

async fn offline_office(config: &Config) -> Result<(Office, Actors)> {
    let store = Opened::open(config).await?.store();
    let (clock, chance) = (Arc::new(SystemClock), Arc::new(SystemChance));
    let auth =
        Auth::start(store.clone(), clock.clone(), chance.clone(), settings::auth(&config.auth)?).await?;
    let world = World {
        clock: clock.clone(),
        chance: chance.clone(),
        store: store.clone(),
        encode: Arc::new(Frames),
        peers: None,
        settings: Arc::new(settings::actors(config)),
    };
    let actors = Actors::start(world).await.context("the actors do not start")?;
    let rooms = actors.rooms.clone();
    Ok((Office { store, auth: Arc::new(auth), clock, chance, rooms, fleet: None }, actors))
}

impl Office {
    async fn print(&self, request: Request) -> Result<()> {
        let (sender, mut receiver) = mpsc::channel(LINES);
        let print = async {
            let mut printer = Printer::default();
            while let Some(line) = receiver.recv().await {
                printer.line(line)?;
            }
            printer.end()
        };
        let ((), printed) = tokio::join!(self.serve(request, sender), print);
        printed
    }
}

async fn ask(socket: &Path, request: &Request) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .await
        .with_context(|| format!("no server answers at {}: start it, or use --offline", socket.display()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let body: Bytes = serde_json::to_vec(request)?.into();
    let request = HttpRequest::builder()
        .method(Method::POST)
        .uri("/admin")
        .header("host", "rookery")
        .body(Full::new(body))?;
    let exchange = async move {
        let mut response = sender.send_request(request).await?;
        let accepted = response.status().is_success();
        let mut printer = Printer::default();
        let mut text = Vec::new();
        while let Some(frame) = response.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            text.extend_from_slice(&data);
            while let Some(end) = text.iter().position(|byte| accepted && *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                printer.line(serde_json::from_slice(&line)?)?;
            }
        }
        if !accepted {
            bail!("{}", String::from_utf8_lossy(&text).trim_end());
        }
        printer.end()
    };
    let (exchanged, _) = tokio::join!(exchange, connection);
    exchanged
}

/// Prints items, and knows whether the answer was whole.
#[derive(Default)]
struct Printer {
    done: bool,
}

impl Printer {
    fn line(&mut self, line: Line) -> Result<()> {
        match line {
            Line::Item(item) => print(&item),
            Line::Done(done) => {
                self.done = done;
                Ok(())
            }
            Line::Error(error) => bail!("{error}"),
        }
    }

    fn end(self) -> Result<()> {
        if !self.done {
            bail!("the answer ended early: the server stopped, or the output is not whole");
        }
        Ok(())
    }
}

pub(super) fn print(item: &Value) -> Result<()> {
    writeln!(stdout().lock(), "{item}").context("standard output is closed")
}
