//! Redis over a unix socket, one request a round trip; an update is one SETRANGE. Without an append-only file
//! nothing of it outlives a crash, so it has one where a crash is measured: handed to the kernel, not synced.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use refrain_tests::resp::{Answer, Client, encode};

use super::super::subject::{Subject, check, stamped, value};
use crate::interrupt;
use crate::programs::installed;

/// Before a server that does not answer is given up.
const WATCHDOG: Duration = Duration::from_secs(120);
/// Between two attempts to reach one.
const AGAIN: Duration = Duration::from_micros(50);
/// Requests that are sent at once while it is filled.
const AT_ONCE: usize = 1000;

/// A server with one client; killed when it is dropped.
pub struct Redis<const N: usize> {
    server: Child,
    client: Client<UnixStream>,
}

impl<const N: usize> Drop for Redis<N> {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Where it is, if it is installed.
pub fn program() -> Option<PathBuf> {
    installed("redis-server")
}

impl<const N: usize> Redis<N> {
    /// Starts one in `dir` and waits until it answers and has read its append-only file, if it `appends`.
    ///
    /// # Errors
    /// When it is not installed or does not answer.
    pub fn start(dir: &Path, appends: bool) -> Result<Self> {
        let dir = dir.join("redis");
        fs::create_dir_all(&dir)?;
        let socket = dir.join("socket");
        let append = if appends { "yes" } else { "no" };
        let mut command = Command::new(program().context("redis-server is not installed")?);
        command.args(["--port", "0", "--save", "", "--appendonly", append]);
        command.args(["--appendfsync", "no", "--auto-aof-rewrite-percentage", "0"]);
        command.arg("--dir").arg(&dir);
        command.arg("--unixsocket").arg(&socket);
        let mut server = command.stdout(Stdio::null()).spawn()?;
        match connect(&socket) {
            Ok(client) => Ok(Self { server, client }),
            Err(error) => {
                // Both fail only when it has ended.
                let _ = server.kill();
                let _ = server.wait();
                Err(error)
            }
        }
    }

    /// Sends requests, and waits for as many answers.
    fn send(&mut self, requests: &[u8], number: usize) -> Result<()> {
        self.client.send(requests)?;
        for _ in 0..number {
            if let Answer::Error(error) = self.client.answer()? {
                bail!("redis-server: {error}");
            }
        }
        Ok(())
    }
}

/// A connection to a server that has begun to answer. While it reads its file it answers with an error.
fn connect(socket: &Path) -> Result<Client<UnixStream>> {
    let begun = Instant::now();
    while begun.elapsed() < WATCHDOG {
        interrupt::check()?;
        if let Ok(mut client) = Client::connect_unix(socket)
            && let Ok(Answer::Word(_)) = client.ask(&["PING"])
        {
            return Ok(client);
        }
        sleep(AGAIN);
    }
    bail!("nobody answers at {}", socket.display())
}

fn set<const N: usize>(key: u64) -> Vec<u8> {
    encode(&[b"SET".as_slice(), name(key).as_bytes(), &value::<N>(key)])
}

/// A key as text.
fn name(key: u64) -> String {
    key.to_string()
}

impl<const N: usize> Subject for Redis<N> {
    fn load(&mut self, keys: &[u64]) -> Result<()> {
        for keys in keys.chunks(AT_ONCE) {
            let requests: Vec<u8> = keys.iter().flat_map(|&key| set::<N>(key)).collect();
            self.send(&requests, keys.len())?;
        }
        Ok(())
    }

    fn unload(&mut self, keys: &[u64]) -> Result<()> {
        let mut words = vec!["DEL".to_owned()];
        words.extend(keys.iter().copied().map(name));
        self.send(&encode(&words), 1)
    }

    fn put(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            self.send(&set::<N>(key), 1)?;
        }
        Ok(())
    }

    fn get(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            match self.client.ask(&["GET", &name(key)])? {
                Answer::Bytes(value) => check(key, Some(&value))?,
                answer => bail!("redis-server: {answer:?} to a GET"),
            }
        }
        Ok(())
    }

    fn update(&mut self, keys: &[u64]) -> Result<()> {
        for &key in keys {
            let (at, bytes) = stamped(key);
            let (key, at) = (name(key), at.to_string());
            let words = [
                b"SETRANGE".as_slice(),
                key.as_bytes(),
                at.as_bytes(),
                &bytes,
            ];
            let answer = self.client.ask(&words)?;
            ensure!(
                answer == Answer::Number(N as i64),
                "redis-server: {answer:?} to a SETRANGE"
            );
        }
        Ok(())
    }
}
