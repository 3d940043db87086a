//! Keys that have expired go away, also when nobody asks for them: a little at a time.
//!
//! Called by the server between requests, with the time; the store notes here what is to end. A *pass* goes through
//! the whole map in steps that are small enough to be met between two requests. Each removal is that of a `DEL`, old
//! or new after a crash at any instruction, and where a pass has come to is not kept: the next life begins a new one.
//!
//! | state | when the next step is due |
//! | --- | --- |
//! | nothing that will end is known | never, until something is noted |
//! | something will end | then, and a pause after the last step at the earliest |
//! | in a pass | after a pause; at once where much had expired, or the step was cut short |
//!
//! It must never remove what has not expired, nor take longer in one step than a long request does.

use crate::batch::Change;
use crate::store::{Digest, Item, Store, StoreError};

/// Between two steps, in milliseconds, and where much had expired.
pub const PAUSE_MS: u64 = 20;
const BRIEF_MS: u64 = 1;
/// Places of the map's index that a step looks at, and how many of them at once.
const STEP: usize = 1024;
const STRETCH: usize = 64;
/// A step ends early when it has removed so many bytes.
const ENOUGH: usize = 1 << 20;
/// Much has expired where it was more than one of so many that will.
const MUCH: usize = 4;

/// How far a pass has come, and when it goes on. Times are milliseconds of CLOCK_REALTIME.
pub struct Expiry {
    /// Where the next step begins; 0 where that is a new pass.
    at: u32,
    /// The first moment at which something ends that the pass has met, or that was noted since it began.
    soonest: u64,
    due: u64,
    stepped: u64,
    /// How many keys this life has removed because they had expired.
    pub removed: u64,
}

/// What one step has met.
#[derive(Default)]
struct Met {
    ending: usize,
    over: usize,
    bytes: usize,
}

impl Default for Expiry {
    /// A life does not know what those before it have left: a pass is due.
    fn default() -> Self {
        let (at, soonest, due, stepped, removed) = (0, u64::MAX, 0, 0, 0);
        Self {
            at,
            soonest,
            due,
            stepped,
            removed,
        }
    }
}

impl Expiry {
    /// Something ends at this moment; 0 is never.
    pub fn note(&mut self, expires: u64) {
        if expires != 0 && expires < self.soonest {
            self.soonest = expires;
            if self.at == 0 {
                self.due = self.due.min(expires.max(self.stepped + PAUSE_MS));
            }
        }
    }

    /// When the next step is due; `None` when nothing will end.
    pub fn due(&self) -> Option<u64> {
        Some(self.due).filter(|due| *due != u64::MAX)
    }
}

/// A step of the pass, if one is due at the moment `now`. Answers how many keys have gone.
///
/// # Errors
/// [`StoreError`]: the step is not finished, and tried again after a pause.
pub fn step(store: &mut Store, now: u64) -> Result<u64, StoreError> {
    // A clock that was set back would keep it waiting.
    if store.expiry.due > now && store.expiry.stepped <= now {
        return Ok(0);
    }
    let before = store.expiry.removed;
    if store.expiry.at == 0 {
        // Whatever was noted so far, the pass will meet.
        store.expiry.soonest = u64::MAX;
    }
    store.expiry.stepped = now;
    // Unless it comes to its end, below.
    store.expiry.due = now + PAUSE_MS;
    let mut met = Met::default();
    for _ in 0..STEP / STRETCH {
        match stretch(store, now, &mut met)? {
            // What is left of this stretch is met again.
            None => break,
            Some(0) => {
                let Expiry { soonest, .. } = store.expiry;
                store.expiry.at = 0;
                store.expiry.due = soonest.max(now + PAUSE_MS);
                return Ok(store.expiry.removed - before);
            }
            Some(next) => store.expiry.at = next,
        }
    }
    if met.over * MUCH > met.ending || met.bytes > ENOUGH {
        store.expiry.due = now + BRIEF_MS;
    }
    Ok(store.expiry.removed - before)
}

/// Removes what is over in the stretch that the pass has come to. Answers where the next one begins, 0 after
/// the last; `None` when that is enough for now.
fn stretch(store: &mut Store, now: u64, met: &mut Met) -> Result<Option<u32>, StoreError> {
    let (some, next) = store.items.stretch(store.expiry.at, STRETCH);
    let mut over: Vec<Digest> = Vec::new();
    for (digest, item) in some.filter(|(_, item)| item.expires != 0) {
        met.ending += 1;
        if item.is_over(now) {
            over.push(*digest);
        } else {
            store.expiry.soonest = store.expiry.soonest.min(item.expires);
        }
    }
    met.over += over.len();
    for digest in over {
        if met.bytes > ENOUGH {
            return Ok(None);
        }
        met.bytes += take(store, digest)?;
    }
    Ok(Some(next.unwrap_or(0)))
}

/// Removes what is over at the moment `now`, all of it at once.
///
/// # Errors
/// [`StoreError`].
pub fn sweep(store: &mut Store, now: u64) -> Result<(), StoreError> {
    let over = store.items.iter().filter(|(_, item)| item.is_over(now));
    let over: Vec<Digest> = over.map(|(digest, _)| *digest).collect();
    over.into_iter()
        .try_for_each(|digest| take(store, digest).map(drop))
}

/// Removes the key with this digest, as DEL does. Answers how many bytes it had.
fn take(store: &mut Store, digest: Digest) -> Result<usize, StoreError> {
    let Some(item) = store.items.get(&digest) else {
        return Ok(0);
    };
    let bytes = item.bytes();
    if let Item { object: 0, .. } = item {
        store.items.remove(&digest);
    } else {
        let key = store
            .key_of(item)
            .ok_or(StoreError::Damaged("a value without its key"))?;
        let key = key.to_vec();
        store.change(&[Change::remove(&key)])?;
    }
    store.expiry.removed += 1;
    Ok(bytes)
}
