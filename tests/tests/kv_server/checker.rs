//! A client that writes at random and remembers what it was told.
//!
//! Used by the tests beside it. It must never take a write for done that was not acknowledged, unless it finds it.

use std::collections::BTreeMap;
use std::time::Instant;

use refrain_tests::resp::{Answer, Client, encode};

use crate::{connect, ok};

/// How many keys a client has.
const KEYS: u64 = 40;

/// A small generator of numbers that are random enough (splitmix64).
pub struct Dice(pub u64);

impl Dice {
    /// One of so many numbers.
    pub fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % sides
    }
}

/// A request that changes keys, the keys' values when it is done, and the answer.
struct Write {
    words: Vec<Vec<u8>>,
    after: Vec<(String, Option<Vec<u8>>)>,
    answer: Answer,
}

/// A client that remembers every write that was acknowledged.
pub struct Checker {
    port: u16,
    number: u64,
    client: Client,
    dice: Dice,
    rounds: u64,
    has: BTreeMap<String, Vec<u8>>,
    /// How many writes were acknowledged.
    pub acknowledged: u64,
    /// When the last answer came.
    answered: Instant,
    /// Each time without answers, in microseconds.
    pub gaps: Vec<u64>,
}

impl Checker {
    /// Client number `number` of the server on `port`.
    pub fn new(port: u16, number: u64, seed: u64) -> Self {
        Self {
            port,
            number,
            client: connect(port),
            dice: Dice(seed.wrapping_add(number)),
            rounds: 0,
            has: BTreeMap::new(),
            acknowledged: 0,
            answered: Instant::now(),
            gaps: Vec::new(),
        }
    }

    fn key(&mut self) -> String {
        format!("checker {} key {}", self.number, self.dice.throw(KEYS))
    }

    /// Bytes that no other write has, of a length that is short, long, or in pieces.
    fn value(&mut self) -> Vec<u8> {
        self.rounds += 1;
        let most = [30, 400, 5000][self.dice.throw(3) as usize];
        let len = self.dice.throw(most) as usize;
        let text = format!("<{}:{}>", self.number, self.rounds).into_bytes();
        text.iter()
            .copied()
            .cycle()
            .take(text.len() + len)
            .collect()
    }

    /// A random write, as if `has` were there.
    fn write(&mut self, has: &BTreeMap<String, Vec<u8>>) -> Write {
        let key = self.key();
        let old = has.get(&key).cloned();
        let words = |words: &[&[u8]]| words.iter().map(|word| word.to_vec()).collect();
        match self.dice.throw(10) {
            0..4 => {
                let value = self.value();
                let (words, answer) = (words(&[b"SET", key.as_bytes(), &value]), ok());
                Write {
                    words,
                    after: vec![(key, Some(value))],
                    answer,
                }
            }
            4..6 => {
                let words = words(&[b"DEL", key.as_bytes()]);
                let answer = Answer::Number(i64::from(old.is_some()));
                Write {
                    words,
                    after: vec![(key, None)],
                    answer,
                }
            }
            6 => {
                let more = self.value();
                let words = words(&[b"APPEND", key.as_bytes(), &more]);
                let value = [old.unwrap_or_default(), more].concat();
                let answer = Answer::Number(value.len() as i64);
                Write {
                    words,
                    after: vec![(key, Some(value))],
                    answer,
                }
            }
            7..9 => {
                let counter = format!("counter {}", self.number);
                let old = has
                    .get(&counter)
                    .map_or(0, |old| String::from_utf8_lossy(old).parse().unwrap());
                let (words, answer) = (
                    words(&[b"INCR", counter.as_bytes()]),
                    Answer::Number(old + 1),
                );
                Write {
                    words,
                    after: vec![(counter, Some((old + 1).to_string().into_bytes()))],
                    answer,
                }
            }
            _ => {
                let pairs: BTreeMap<_, _> = (0..3).map(|_| (self.key(), self.value())).collect();
                let mut words = words(&[b"MSET"]);
                words.extend(
                    pairs
                        .iter()
                        .flat_map(|(key, value)| [key.clone().into_bytes(), value.clone()]),
                );
                let after = pairs
                    .into_iter()
                    .map(|(key, value)| (key, Some(value)))
                    .collect();
                Write {
                    words,
                    after,
                    answer: ok(),
                }
            }
        }
    }

    /// Sends a few writes at once, and takes their answers.
    pub fn round(&mut self) {
        let mut will = self.has.clone();
        let mut writes = Vec::new();
        for _ in 0..1 + self.dice.throw(6) {
            let write = self.write(&will);
            note(&mut will, &write.after);
            writes.push(write);
        }
        let bytes: Vec<u8> = writes
            .iter()
            .flat_map(|write| encode(&write.words))
            .collect();
        // Where it cannot be sent as a whole, answers to its begin may have come in.
        let _ = self.client.send(&bytes);
        for (at, write) in writes.iter().enumerate() {
            let Ok(answer) = self.client.answer() else {
                return self.after_a_crash(&writes[at..]);
            };
            assert_eq!(answer, write.answer, "{:?}", write.words);
            self.answered = Instant::now();
            self.acknowledged += 1;
            note(&mut self.has, &write.after);
        }
    }

    /// Which of the writes without an answer have happened: the first so many, each as a whole.
    fn after_a_crash(&mut self, all: &[Write]) {
        self.client = connect(self.port);
        self.gaps
            .push(u64::try_from(self.answered.elapsed().as_micros()).unwrap());
        self.answered = Instant::now();
        let keys: Vec<&String> = all
            .iter()
            .flat_map(|write| &write.after)
            .map(|(key, _)| key)
            .collect();
        // The server may be killed again while it is asked.
        let found: BTreeMap<String, Option<Vec<u8>>> = loop {
            let words: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
            match self
                .client
                .ask(&[&[b"MGET".as_slice()], &words[..]].concat())
            {
                Ok(Answer::List(values)) => {
                    break keys
                        .iter()
                        .map(|key| (*key).clone())
                        .zip(values.into_iter().map(bytes_of))
                        .collect();
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => self.client = connect(self.port),
            }
        };
        let mut state = self.has.clone();
        let mut states = vec![state.clone()];
        for write in all {
            note(&mut state, &write.after);
            states.push(state.clone());
        }
        let fits = |state: &BTreeMap<String, Vec<u8>>| {
            found
                .iter()
                .all(|(key, value)| state.get(key) == value.as_ref())
        };
        let fit = states.iter().rposition(fits);
        self.has =
            states.swap_remove(fit.unwrap_or_else(|| panic!("torn: {found:?}, of {:?}", self.has)));
    }

    /// Compares everything.
    pub fn verify(&mut self) {
        let own = (0..KEYS).map(|key| format!("checker {} key {key}", self.number));
        for key in own.chain([format!("counter {}", self.number)]) {
            let value = loop {
                match self.client.ask(&["GET", &key]) {
                    Ok(answer) => break bytes_of(answer),
                    Err(_) => self.client = connect(self.port),
                }
            };
            assert_eq!(value.as_ref(), self.has.get(&key), "{key}");
        }
    }
}

fn note(has: &mut BTreeMap<String, Vec<u8>>, after: &[(String, Option<Vec<u8>>)]) {
    for (key, value) in after {
        match value {
            Some(value) => drop(has.insert(key.clone(), value.clone())),
            None => drop(has.remove(key)),
        }
    }
}

/// The bytes that an answer has, if any.
pub fn bytes_of(answer: Answer) -> Option<Vec<u8>> {
    match answer {
        Answer::Bytes(bytes) => Some(bytes),
        Answer::Nothing => None,
        other => panic!("{other:?}"),
    }
}
