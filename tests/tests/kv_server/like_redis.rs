//! The same requests to the sample and to redis-server: what they say is to be the same.

use std::collections::BTreeSet;

use refrain_tests::Site;
use refrain_tests::programs::{free_port, installed};
use refrain_tests::resp::{Answer, Client};

use crate::checker::bytes_of;
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
    "KEYS *",
    "KEYS",
    "MSET hello 1 hallo 2 hxllo 3 hllo 4 heeeello 5 h*llo 6 [x] 7 a-b 8 h^llo 9",
    "KEYS *",
    "KEYS **",
    "KEYS h?llo",
    "KEYS h*llo",
    "KEYS h[ae]llo",
    "KEYS h[^e]llo",
    "KEYS h[a-b]llo",
    "KEYS h[b-a]llo",
    "KEYS h\\*llo",
    "KEYS h[\\*x]llo",
    "KEYS h[^]llo",
    "KEYS h[a",
    "KEYS h[ae",
    "KEYS [",
    "KEYS [^",
    "KEYS []",
    "KEYS \\[x]",
    "KEYS [a-]",
    "KEYS a[+--]b",
    "KEYS a\\-b*",
    "KEYS *l*o*",
    "KEYS *\\",
    "KEYS nothing",
    "KEYS a b",
    "SCAN 0",
    "SCAN 0 COUNT 3",
    "SCAN 0 COUNT 1000 MATCH h*",
    "SCAN 0 match *llo count 2",
    "SCAN 0 MATCH h* MATCH a*",
    "SCAN 0 TYPE string",
    "SCAN 0 TYPE STRING MATCH a*",
    "SCAN 0 TYPE hash",
    "SCAN 0 COUNT 0",
    "SCAN 0 COUNT -1",
    "SCAN 0 COUNT x",
    "SCAN 0 COUNT",
    "SCAN 0 MATCH",
    "SCAN 0 BAD 1",
    "SCAN x",
    "SCAN",
    "SCAN x COUNT y",
    "INFO keyspace",
    "INFO nosuch",
    "CONFIG GET save",
    "CONFIG GET appendonly",
    "SET t v PX 1",
    "FLUSHALL",
    "DBSIZE",
    "KEYS *",
    "SCAN 0",
    "INFO keyspace",
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
            None => plain(&mut client, &request.split(' ').collect::<Vec<_>>()),
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

/// What is said to one request, as far as it is to be the same: keys are in no order, and `SCAN` is followed to its
/// end; of `INFO`, the number of keys.
fn plain(client: &mut Client, words: &[&str]) -> String {
    let mut answer = client.ask(words).unwrap();
    let mut found = BTreeSet::new();
    loop {
        match (words[0], answer) {
            ("SCAN", Answer::List(mut both)) => {
                let (keys, cursor) = (both.pop(), both.pop());
                let (Some(Answer::List(keys)), Some(cursor)) = (keys, cursor) else {
                    panic!("no cursor and keys");
                };
                found.extend(keys.into_iter().map(bytes_of));
                let cursor = bytes_of(cursor).unwrap();
                if cursor == b"0" {
                    return format!("{found:?}");
                }
                let mut words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                words[1] = &cursor;
                answer = client.ask(&words).unwrap();
            }
            ("KEYS", Answer::List(keys)) => {
                found.extend(keys.into_iter().map(bytes_of));
                return format!("{found:?}");
            }
            ("INFO", Answer::Bytes(text)) => {
                let text = String::from_utf8(text).unwrap();
                let fields = text.split([',', '\n']);
                return format!(
                    "{:?}",
                    fields.take(2).map(str::trim_end).collect::<Vec<_>>()
                );
            }
            (_, answer) => return format!("{answer:?}"),
        }
    }
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
