//! `rshd`: commands over TCP (SPEC C5), for hosts without ssh.
//!
//! A connection sends the key as its first line and then one command a line; it is answered with
//! text. The key is random, made anew by each `rshd`, and crosses the wire in the clear, which is
//! why the listener is bound to this machine unless told otherwise: `ssh HOST c_init -c COMMAND`
//! is the better way from another one. It ends when the site restarts.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use clap::Args;
use hr_ctrl::interpreter::Session;
use refrain_abi::session::FromSite;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::{CommandError, Flow, Outcome};
use crate::interpreter::{Context, MAX_LINE, Shared};
use crate::lines::Lines;

/// How many connections there may be at a time; more wait.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection may take to send the key.
const KEY_TIMEOUT: Duration = Duration::from_secs(10);
/// How many pieces of output wait for a slow reader before it loses some.
const BACKLOG: usize = 1024;

/// `rshd`: takes commands from a TCP port.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "rshd [-p PORT] [-b ADDRESS]")]
pub struct Rshd {
    /// the port; 0, the default, takes any that is free and prints it
    #[arg(short, value_name = "PORT", default_value = "0")]
    pub port: u16,
    /// the address to listen on, 127.0.0.1 by default: other hosts can then not reach it
    #[arg(short, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub bind: IpAddr,
}

/// The listener of an interpreter, if it has one; dropping the slot ends it with its connections.
#[derive(Default)]
pub(crate) struct Slot(RefCell<Option<(SocketAddr, JoinHandle<()>)>>);

impl Slot {
    /// Ends the listener and its connections.
    pub(crate) fn close(&self) {
        if let Some((_, handle)) = self.0.borrow_mut().take() {
            handle.abort();
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.0.borrow().as_ref().map(|(address, _)| *address)
    }
}

impl Rshd {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let slot = &cx.shared().rshd;
        if let Some(address) = slot.address() {
            return Err(CommandError::Failed(format!(
                "already listening on {address}"
            )));
        }
        let asked = SocketAddr::new(self.bind, self.port);
        let failed = |why| CommandError::Failed(format!("cannot listen on {asked}: {why}"));
        let listener = TcpListener::bind(asked).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let key = new_key()?;
        cx.out(format!("rshd: listening on {address}, key {key}\n"));
        let server = Server {
            key,
            cwd: cx.session().cwd().to_owned(),
            interpreter: Rc::downgrade(cx.shared()),
        };
        slot.close();
        let handle = tokio::task::spawn_local(serve(listener, Rc::new(server)));
        *slot.0.borrow_mut() = Some((address, handle));
        Ok(Flow::Next)
    }
}

/// 128 random bits in hexadecimal digits.
fn new_key() -> Result<String, CommandError> {
    let mut bytes = [0_u8; 16];
    let flags = rustix::rand::GetRandomFlags::empty();
    let filled = rustix::rand::getrandom(&mut bytes, flags).map_err(CommandError::failed)?;
    if filled != bytes.len() {
        return Err(CommandError::failed(
            "the kernel gave too few random bytes for a key",
        ));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What every connection knows.
struct Server {
    key: String,
    cwd: PathBuf,
    // Weak: a connection must not keep an interpreter that the site has replaced.
    interpreter: Weak<Shared>,
}

async fn serve(listener: TcpListener, server: Rc<Server>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn_local(attend(stream, server.clone())); }
                // Out of fds, or a connection that is gone already: neither gets better by haste.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from the key to its end.
async fn attend(stream: TcpStream, server: Rc<Server>) {
    let (reader, mut writer) = stream.into_split();
    let (output, mut waiting) = mpsc::channel::<String>(BACKLOG);
    let mut write = pin!(async move {
        while let Some(text) = waiting.recv().await {
            if writer.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    tokio::select! {
        () = talk(reader, output, &server) => write.await,
        () = &mut write => {}
    }
}

async fn talk(reader: OwnedReadHalf, output: mpsc::Sender<String>, server: &Server) {
    let mut lines = Lines::new(reader, MAX_LINE);
    let first = tokio::time::timeout(KEY_TIMEOUT, lines.next()).await;
    let Ok(Ok(Some(key))) = first else { return };
    if !same(key.trim_ascii_end(), server.key.as_bytes()) {
        let _ = output.try_send("rshd: wrong key\n".to_owned());
        return;
    }
    let lost = Rc::new(Cell::new(0_u64));
    let session = session(server.cwd.clone(), output.clone(), lost.clone());
    loop {
        let line = match lines.next().await {
            Ok(Some(line)) => line,
            Ok(None) => return,
            Err(why) => {
                let _ = output.try_send(format!("rshd: {why}\n"));
                return;
            }
        };
        let Some(interpreter) = server.interpreter.upgrade() else {
            return;
        };
        let line = String::from_utf8_lossy(&line).into_owned();
        if interpreter.command_line(&session, &line).await.1 == Flow::End {
            return;
        }
        let lost = lost.take();
        if lost > 0 {
            let _ = output
                .send(format!("rshd: {lost} pieces of output lost, read faster\n"))
                .await;
        }
    }
}

/// A session whose output and errors both go to the connection.
fn session(cwd: PathBuf, output: mpsc::Sender<String>, lost: Rc<Cell<u64>>) -> Session {
    let refusal = output.clone();
    let sink = move |message| {
        let text = match message {
            FromSite::Out(text) => text,
            FromSite::Err(line) | FromSite::Console(line) => line + "\n",
            _ => return,
        };
        if output.try_send(text).is_err() {
            lost.set(lost.get() + 1);
        }
    };
    let attach = move || {
        let _ = refusal.try_send("rshd: no console over rshd; use c_init --connect\n".to_owned());
    };
    Session::new(cwd, Rc::new(sink), Rc::new(attach))
}

/// Compares without telling by the time how much was right.
fn same(given: &[u8], key: &[u8]) -> bool {
    let different = given.iter().zip(key).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == key.len() && different == 0
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio::io::AsyncReadExt;
    use tokio::task::LocalSet;

    use super::*;
    use crate::talk::Talk;

    /// Starts `rshd`; answers its address and its key.
    async fn start(talk: &Talk) -> (SocketAddr, String) {
        let told = talk.out("rshd").await;
        let told = told
            .trim_end()
            .strip_prefix("rshd: listening on ")
            .unwrap()
            .to_owned();
        let (address, key) = told.split_once(", key ").unwrap();
        assert_eq!(key.len(), 32);
        (address.parse().unwrap(), key.to_owned())
    }

    /// Sends text, ends the sending side, and reads all that comes back.
    async fn exchange(address: SocketAddr, text: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn c5_commands_come_over_tcp_after_the_key() {
        let work = async {
            let talk = Talk::new();
            let (address, key) = start(&talk).await;
            assert!(address.ip().is_loopback());
            let text = format!("{key}\r\nsetenv A b\necho one 'two'\nbogus\nexit\necho never\n");
            let told = "one two\nc_init: bogus: unknown command; help lists them\n";
            assert_eq!(exchange(address, &text).await.unwrap(), told);
            assert!(talk.out("env").await.contains("A=b\n"));
            assert!(talk.err("rshd", 1).await.contains("already listening on"));
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test]
    async fn c5_a_connection_without_the_key_commands_nothing() {
        let work = async {
            let talk = Talk::new();
            let (address, key) = start(&talk).await;
            for wrong in ["", "x", &key[1..], &format!("{key}0"), &"0".repeat(32)] {
                // A connection that is closed with our line unread may be reset.
                let told = exchange(address, &format!("{wrong}\nsetenv A b\n")).await;
                assert!(
                    told.unwrap_or_default()
                        .replace("rshd: wrong key\n", "")
                        .is_empty()
                );
            }
            assert!(!talk.out("env").await.contains("A=b"));
        };
        LocalSet::new().run_until(work).await;
    }

    #[tokio::test]
    async fn h25_the_listener_ends_with_its_interpreter() {
        let work = async {
            let talk = Talk::new();
            let (address, key) = start(&talk).await;
            let mut open = TcpStream::connect(address).await.unwrap();
            open.write_all(format!("{key}\necho in\n").as_bytes())
                .await
                .unwrap();
            let mut told = [0; 3];
            open.read_exact(&mut told).await.unwrap();
            drop(talk);
            let mut rest = Vec::new();
            let _ = open.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
            assert!(TcpStream::connect(address).await.is_err());
        };
        LocalSet::new().run_until(work).await;
    }
}
