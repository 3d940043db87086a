//! The data: keys and values of any length in structures of persistent memory.
//!
//! Called by `commands.rs`. A map keeps an [`Item`] for each key, by a digest of the key: what expires when, and
//! key and value themselves where they are short. A change of one such item is one operation of the map, and that
//! is atomic at every instruction (SPEC H32). Longer values are in the pieces of `objects.rs`; whatever takes more
//! than one operation of a map goes through the journal of `batch.rs`. When a call here returns, the change has
//! happened: nothing is left to be flushed.
//!
//! It must never change what an item points at while the item counts.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};

use refrain::data::{Blocks, Cell, Map, MapError};
use siphasher::sip128::{Hasher128, SipHasher13};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::batch::{self, Change, State};
use crate::expiry::{self, Expiry};
use crate::limit::Limit;
use crate::objects::{Objects, PIECE};

/// The longest key, in bytes: it is in the first piece as a whole.
pub const MAX_KEY: usize = 1024;
/// Key and value up to this length together are in the item.
pub const SHORT: usize = 216;
/// What a slot of a map takes beyond key and value, about, in bytes.
const OVERHEAD: usize = 24;
/// A full store looks for what is over once in so many milliseconds.
const SWEEP_MS: u64 = 1000;
/// An item that expired at this moment was put by a batch to reserve its place.
const RESERVED: u64 = 1;

/// What stands for a key: 128 bits that nobody can make collide who does not know the seed.
pub type Digest = [u64; 2];

/// What is known of a key.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Item {
    /// When it ends, in milliseconds of CLOCK_REALTIME; 0 is never.
    pub expires: u64,
    /// The object that holds key and value; 0 where they are here.
    pub object: u64,
    key_len: u32,
    value_len: u32,
    short: [u8; SHORT],
}

/// Why the store was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no memory left; Redis's words.
    #[error("OOM command not allowed when used memory > 'maxmemory'.")]
    Full,
    /// A key is longer than it may be.
    #[error("ERR a key of {0} bytes, the most is {MAX_KEY}")]
    LongKey(usize),
    /// Two keys have one digest. Not to be expected in the age of the universe.
    #[error("ERR another key is in its place; use another one")]
    Collision,
    /// A structure holds what no version of this program writes.
    #[error("ERR the store is damaged: {0}")]
    Damaged(&'static str),
}

impl From<MapError> for StoreError {
    fn from(error: MapError) -> Self {
        match error {
            MapError::Full(_) => Self::Full,
            _ => Self::Damaged("a map says so"),
        }
    }
}

/// A value as it is kept.
pub struct Value<'a> {
    /// Its bytes.
    pub bytes: Cow<'a, [u8]>,
    /// When it ends, as in [`Item::expires`].
    pub expires: u64,
}

/// All data of the server.
pub struct Store {
    pub(crate) items: Map<Digest, Item>,
    pub(crate) objects: Objects,
    pub(crate) state: Cell<State>,
    /// When it was swept last, in milliseconds of CLOCK_REALTIME.
    swept: u64,
    pub(crate) expiry: Expiry,
}

impl Item {
    /// One whose key and value are in it, if they fit.
    pub fn short(key: &[u8], value: &[u8], expires: u64) -> Option<Self> {
        let end = key
            .len()
            .checked_add(value.len())
            .filter(|end| *end <= SHORT)?;
        let mut item = Self::long((key.len(), value.len()), 0, expires)?;
        item.short[..key.len()].copy_from_slice(key);
        item.short[key.len()..end].copy_from_slice(value);
        Some(item)
    }

    /// One whose key and value are in an object.
    pub fn long((key, value): (usize, usize), object: u64, expires: u64) -> Option<Self> {
        Some(Self {
            expires,
            object,
            key_len: u32::try_from(key).ok()?,
            value_len: u32::try_from(value).ok()?,
            short: [0; SHORT],
        })
    }

    /// One that holds a place in the map, and is not there for clients.
    pub fn reserved() -> Self {
        let mut item = Self::new_zeroed();
        item.expires = RESERVED;
        item
    }

    /// Whether it is one of those.
    pub fn is_reserved(&self) -> bool {
        self.expires == RESERVED
    }

    /// Whether it has expired at the moment `now`.
    pub fn is_over(&self, now: u64) -> bool {
        self.expires != 0 && self.expires <= now
    }

    /// How many bytes key and value have.
    pub fn bytes(&self) -> usize {
        self.key_len as usize + self.value_len as usize
    }
}

impl Store {
    /// Opens the store, or makes an empty one; `blocks` gives the blocks of a structure by its name. It takes up
    /// to `size` bytes. What a crash has left half done is finished or taken back.
    ///
    /// # Errors
    /// That of opening one of its structures; [`StoreError::Damaged`].
    pub fn open<B: Blocks + 'static>(
        mut blocks: impl FnMut(&str) -> B,
        size: usize,
    ) -> anyhow::Result<Self> {
        let limit = Limit::new(size);
        let mut part = |name| limit.over(blocks(name));
        // A quarter of the memory each, to begin with; whichever is full first takes more. Maps count in powers of two,
        // and keep one place to spare.
        let fits = |entry: usize| (1 << (size / 4 / (entry + OVERHEAD)).max(2).ilog2()) - 1;
        let (items, pieces) = (
            size_of::<Digest>() + size_of::<Item>(),
            size_of::<Digest>() + PIECE,
        );
        let mut store = Self {
            items: Map::open(part("items"), fits(items))?,
            objects: Objects::open(part("pieces"), fits(pieces))?,
            state: Cell::open(part("state"))?,
            swept: 0,
            expiry: Expiry::default(),
        };
        if store.state.get().seed == [0; 2] {
            // Each RandomState has keys of its own, from the kernel's random numbers.
            let seed = [0, 1].map(|word: u64| RandomState::new().hash_one(word));
            store.state.update(|state| state.seed = seed);
        }
        batch::recover(&mut store)?;
        Ok(store)
    }

    /// The digest of a key.
    ///
    /// # Errors
    /// [`StoreError::LongKey`].
    pub fn digest(&self, key: &[u8]) -> Result<Digest, StoreError> {
        if key.len() > MAX_KEY {
            return Err(StoreError::LongKey(key.len()));
        }
        let [first, second] = self.state.get().seed;
        let mut hasher = SipHasher13::new_with_keys(first, second);
        hasher.write(key);
        let digest = hasher.finish128();
        Ok([digest.h1, digest.h2])
    }

    /// The item in a key's place, over or not; with its digest.
    ///
    /// # Errors
    /// [`StoreError::LongKey`], [`StoreError::Collision`].
    pub fn place(&self, key: &[u8]) -> Result<(Digest, Option<&Item>), StoreError> {
        let digest = self.digest(key)?;
        let Some(item) = self.items.get(&digest).filter(|item| !item.is_reserved()) else {
            return Ok((digest, None));
        };
        if self.key_of(item) == Some(key) {
            Ok((digest, Some(item)))
        } else {
            Err(StoreError::Collision)
        }
    }

    pub(crate) fn key_of<'a>(&'a self, item: &'a Item) -> Option<&'a [u8]> {
        let bytes: &[u8] = match item.object {
            0 => &item.short,
            object => self.objects.first(object)?,
        };
        bytes.get(..item.key_len as usize)
    }

    /// The value of a key at the moment `now`.
    #[must_use]
    pub fn get(&self, key: &[u8], now: u64) -> Option<Value<'_>> {
        let (_, item) = self.place(key).ok()?;
        let item = item.filter(|item| !item.is_over(now))?;
        let (from, len) = (item.key_len as usize, item.value_len as usize);
        let to = from.checked_add(len)?;
        let bytes = match item.object {
            0 => Cow::Borrowed(item.short.get(from..to)?),
            object => Cow::Owned(self.objects.read(object, from..to)?),
        };
        let expires = item.expires;
        Some(Value { bytes, expires })
    }

    /// Gives a key a value, and the moment at which it ends.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub fn set(&mut self, key: &[u8], value: &[u8], expires: u64) -> Result<(), StoreError> {
        self.expiry.note(expires);
        let (digest, old) = self.place(key)?;
        let had_object = old.is_some_and(|item| item.object != 0);
        match Item::short(key, value, expires).filter(|_| !had_object) {
            // One operation of one map.
            Some(item) => self.items.insert(&digest, &item).map(drop)?,
            None => return self.change(&[Change::set(key, value, expires)]),
        }
        Ok(())
    }

    /// Changes several keys: all of them, or none.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub fn change(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        batch::apply(self, changes)
    }

    /// Whether a key is there at the moment `now`.
    #[must_use]
    pub fn contains(&self, key: &[u8], now: u64) -> bool {
        let place = self.place(key);
        place.is_ok_and(|(_, item)| item.is_some_and(|item| !item.is_over(now)))
    }

    /// Removes keys, all at once. Answers how many were there.
    ///
    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub fn remove(&mut self, keys: &[&[u8]], now: u64) -> Result<usize, StoreError> {
        let there = keys.iter().copied().filter(|key| self.contains(key, now));
        let there: Vec<&[u8]> = BTreeSet::from_iter(there).into_iter().collect();
        if let [key] = there[..]
            && let (digest, Some(Item { object: 0, .. })) = self.place(key)?
        {
            self.items.remove(&digest);
        } else if !there.is_empty() {
            let changes: Vec<Change> = there.iter().copied().map(Change::remove).collect();
            self.change(&changes)?;
        }
        Ok(there.len())
    }

    /// Says when a key ends. Answers whether it is there at the moment `now`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn expire(&mut self, key: &[u8], expires: u64, now: u64) -> Result<bool, StoreError> {
        let (digest, item) = self.place(key)?;
        if item.is_none_or(|item| item.is_over(now)) {
            return Ok(false);
        }
        self.items.update(&digest, |item| item.expires = expires)?;
        self.expiry.note(expires);
        Ok(true)
    }

    /// Removes what is over at the moment `now`. It looks at every key for that, so it does so once in
    /// [`SWEEP_MS`]; answers whether it did.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn sweep(&mut self, now: u64) -> Result<bool, StoreError> {
        let due = now.saturating_sub(self.swept) >= SWEEP_MS;
        if due {
            self.swept = now;
            expiry::sweep(self, now)?;
        }
        Ok(due)
    }

    /// Removes a little of what is over at the moment `now`, if that is due: [`expiry::step`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn expire_some(&mut self, now: u64) -> Result<u64, StoreError> {
        expiry::step(self, now)
    }

    /// When [`Store::expire_some`] has something to do; `None` where nothing will end.
    pub fn expires_next(&self) -> Option<u64> {
        self.expiry.due()
    }

    /// How many keys this life has removed because they were over.
    #[must_use]
    pub fn expired(&self) -> u64 {
        self.expiry.removed
    }

    /// Every key that is there at the moment `now`, in no order.
    pub fn keys(&self, now: u64) -> impl Iterator<Item = &[u8]> {
        let there = self
            .items
            .iter()
            .filter(move |(_, item)| !item.is_over(now));
        there.filter_map(|(_, item)| self.key_of(item))
    }

    /// Some of the keys, and where the next ones begin: [`Map::stretch`].
    pub fn stretch(
        &self,
        from: u32,
        buckets: usize,
        now: u64,
    ) -> (impl Iterator<Item = &[u8]>, Option<u32>) {
        let (some, next) = self.items.stretch(from, buckets);
        let there = some.filter(move |(_, item)| !item.is_over(now));
        (there.filter_map(|(_, item)| self.key_of(item)), next)
    }

    /// How many keys there are; among them may be some that are over and were not asked for since.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Removes everything.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn clear(&mut self) -> Result<(), StoreError> {
        batch::clear(self)
    }
}
