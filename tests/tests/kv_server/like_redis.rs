//! The same requests to the sample and to redis-server: what they say is to be the same.

use refrain_tests::Site;
use refrain_tests::programs::{free_port, installed};

use crate::{connect, start};

/// Requests, each a line of words; a line that begins with `raw` is sent as it is, on a connection of its own.
const REQUESTS: &[&str] = &[
    "PING",
    "PING hello",
    "ECHO x",
    "ECHO",
    "SELECT 0",
    "SELECT 99",
    "SELECT x",
    "NOSUCH",
    "noSuch a b",
    "GET",
    "GET a b",
    "SET k v",
    "GET k",
    "get k",
    "SET k w NX",
    "GET k",
    "SET k x XX",
    "GET k",
    "SET none x XX",
    "GET none",
    "SET k v EX 100",
    "TTL k",
    "SET k v PX 100000",
    "TTL k",
    "PERSIST k",
    "PERSIST k",
    "TTL k",
    "PTTL k",
    "TTL none",
    "PTTL none",
    "EXPIRE k 50",
    "TTL k",
    "PEXPIRE k 70000",
    "TTL k",
    "EXPIRE k x",
    "EXPIRE none 5",
    "EXPIRE k -1",
    "GET k",
    "SET k v EX 0",
    "SET k v EX x",
    "SET k v EX",
    "SET k v EX 5 PX 5",
    "SET k v NX XX",
    "SET k v BAD",
    "SET n 10",
    "INCR n",
    "DECR n",
    "INCRBY n 5",
    "DECRBY n 7",
    "INCRBY n x",
    "INCRBY n 9223372036854775807",
    "SET n 9223372036854775807",
    "INCR n",
    "SET n -9223372036854775808",
    "DECR n",
    "DECRBY n -9223372036854775808",
    "SET n abc",
    "INCR n",
    "INCR fresh",
    "GET fresh",
    "APPEND n def",
    "GET n",
    "STRLEN n",
    "STRLEN none",
    "APPEND made x",
    "GET made",
    "MSET a 1 b 2 a 3",
    "MSET a",
    "MSET a 1 b",
    "MGET a b none",
    "MGET",
    "EXISTS a b a none",
    "DEL a a none",
    "DEL",
    "EXISTS a",
    "DBSIZE",
    "DBSIZE x",
    "CONFIG GET save",
    "CONFIG GET appendonly",
    "SET t v PX 1",
    "FLUSHALL",
    "DBSIZE",
    "EXPIRE k 9223372036854775807",
    "INCR",
    "INCRBY k",
    "TTL",
    "QUIT",
    "raw *1\\r\\n$4\\r\\nPING\\r\\n",
    "raw PING\\r\\nECHO \\\"a b\\\"\\r\\n\\r\\nPING\\r\\nQUIT\\r\\n",
    "raw *x\\r\\n",
    "raw *1\\r\\n$-5\\r\\n",
    "raw *1\\r\\n:5\\r\\n",
    "raw SET q \\\"open\\r\\n",
    "raw *0\\r\\nQUIT\\r\\n",
    "raw *-1\\r\\nQUIT\\r\\n",
];

/// Everything that a server says to the requests above.
fn said(port: u16) -> Vec<String> {
    let mut client = connect(port);
    let mut all = Vec::new();
    for request in REQUESTS {
        let answer = match request.strip_prefix("raw ") {
            None => format!(
                "{:?}",
                client.ask(&request.split(' ').collect::<Vec<_>>()).unwrap()
            ),
            Some(raw) => {
                let mut client = connect(port);
                let raw = raw
                    .replace("\\r", "\r")
                    .replace("\\n", "\n")
                    .replace("\\\"", "\"");
                client.send(raw.as_bytes()).unwrap();
                let ends = !raw.starts_with("*1\r\n$4");
                let answers =
                    (0..5).map_while(|n| (ends || n == 0).then(|| client.answer().ok())?);
                format!("{:?}", answers.collect::<Vec<_>>())
            }
        };
        all.push(format!("{request}: {answer}"));
    }
    all
}

#[test]
fn it_answers_as_redis_does() {
    let Some(redis) = installed("redis-server") else {
        return;
    };
    let site = Site::start();
    let port = start(&site);
    let redis_port = free_port();
    let redis = redis.display().to_string();
    site.arun([
        "-g",
        "2",
        "-n",
        "redis",
        &redis,
        "--port",
        &redis_port.to_string(),
        "--save",
        "",
    ]);
    let (ours, theirs) = (said(port), said(redis_port));
    let unlike: Vec<_> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .collect();
    assert!(unlike.is_empty(), "{unlike:#?}");
}
