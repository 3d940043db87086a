//! `Map`: keys and values that are inserted, updated and removed one at a time, each as a whole.
//!
//! Used by the one actor that writes it. What is here knows types and versions; the order of stores is
//! the table's. It must never copy a value where a reference will do.

mod hash;
mod index;
mod places;
mod slots;
mod table;

use std::fmt;
use std::marker::PhantomData;

use crate::blocks::{Blocks, ROOT};
use crate::error::{OpenError, damaged};
use crate::header::{BODY, Description, PARAMETERS, Root};
use crate::region::{Plain, Region, WORD, load_bytes};
use crate::schema::{Kind, TypeOf};
use crate::versions::Versions;

use index::Probe;
use places::Layout;
use table::{Broken, HOT, MAX_LOG2, Shape, Table};

/// The fewest slots that a table begins with, as a power of two.
const MIN_LOG2: u32 = 4;

/// A hash map of plain keys and values in persistent memory, where each change is old or new after a crash
/// (SPEC H32).
///
/// It begins with room for as many keys as is said when it is made, and doubles in a further block when that
/// is used up. Two keys are the same when their bytes are. References from [`Map::get`] point into the
/// block.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use refrain_data::{Map, memory::Scratch};
/// # let blocks = Scratch::new()?;
/// // In an actor: `refrain::named("stock", refrain::HR_GROUP_KEY)`.
/// let mut stock = Map::<u64, [u32; 4]>::open(blocks, 100)?;
/// stock.insert(&7, &[1, 2, 3, 4])?;
/// stock.update(&7, |counts| counts[0] += 1)?;
/// assert_eq!(stock.get(&7), Some(&[2, 2, 3, 4]));
/// assert_eq!(stock.remove(&7), Some([2, 2, 3, 4]));
/// assert!(stock.is_empty());
/// # Ok(()) }
/// ```
pub struct Map<K, V> {
    table: Table<K>,
    root: Root,
    blocks: Box<dyn Blocks>,
    of: PhantomData<V>,
}

/// Why a map was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// It is full, and there was no memory to grow into.
    #[error("the map is full and cannot grow: {0}")]
    Full(#[source] OpenError),
    /// It holds what no version of this library writes.
    #[error("the map is damaged; free its blocks")]
    Damaged,
}

impl From<Broken> for MapError {
    fn from(_: Broken) -> Self {
        Self::Damaged
    }
}

fn layout_of<K: Plain>(size: usize, align: usize) -> Option<Layout> {
    Layout::new((size_of::<K>(), align_of::<K>()), (size, align))
}

impl Shape {
    fn parameters(self) -> [u64; PARAMETERS] {
        let mut parameters = [0; PARAMETERS];
        parameters[0] = u64::from(self.set);
        parameters[1] = u64::from(self.log2);
        parameters
    }

    /// As a description says, which may say anything.
    fn read(parameters: &[u64; PARAMETERS], layout: Layout) -> Result<Self, OpenError> {
        match (parameters[0], parameters[1]) {
            (set @ 0..=1, log2) if log2 <= u64::from(MAX_LOG2) => Ok(Self {
                layout,
                log2: log2 as u32,
                set: set as u32,
            }),
            _ => Err(damaged("its size is none that it can have")),
        }
    }

    fn hot(self, root: &Region) -> Result<Region, OpenError> {
        let at = BODY + self.set as usize * HOT;
        root.part(at, HOT).ok_or(damaged("its root is too small"))
    }
}

/// Slots for `capacity` keys and one to spare, as a power of two.
fn log2_for(capacity: usize) -> u32 {
    let slots = capacity.saturating_add(1).checked_next_power_of_two();
    slots
        .map_or(MAX_LOG2, usize::trailing_zeros)
        .clamp(MIN_LOG2, MAX_LOG2)
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Opens the map. A new one has room for `capacity` keys before it grows; where there is one, the number
    /// means nothing.
    ///
    /// # Errors
    /// [`OpenError`]: no memory, something else is there, another actor writes it.
    pub fn open(blocks: impl Blocks + 'static, capacity: usize) -> Result<Self, OpenError> {
        Self::open_with(blocks, Versions::default(), capacity)
    }

    /// Opens the map as the newest of `versions`, bringing all values of an older one up to date, at
    /// once as far as a crash can tell. For that time there is memory for both.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(
        blocks: impl Blocks + 'static,
        versions: Versions<V>,
        capacity: usize,
    ) -> Result<Self, OpenError> {
        crate::region::check_align::<K>()?;
        crate::region::check_align::<V>()?;
        let mut blocks: Box<dyn Blocks> = Box::new(blocks);
        let layout = layout_of::<K>(size_of::<V>(), align_of::<V>());
        let layout = layout.ok_or(damaged("entries too large for any memory"))?;
        let asked = versions.schema(Kind::Map, Some(TypeOf::of::<K>()));
        let root = Root::claim(crate::blocks::get(&mut *blocks, 0, ROOT)?, &*blocks)?;
        let table = match root.current()? {
            None => {
                let (log2, set) = (log2_for(capacity), 0);
                let shape = Shape { layout, log2, set };
                let table = Table::create(shape, shape.hot(root.region())?, &mut *blocks)?;
                root.begin(&Description {
                    schema: asked,
                    parameters: shape.parameters(),
                });
                table
            }
            Some(has) if has.schema.fingerprint == asked.fingerprint => {
                let shape = Shape::read(&has.parameters, layout)?;
                Table::open(shape, shape.hot(root.region())?, &mut *blocks)?
            }
            Some(has) => migrate(&root, &mut *blocks, &versions, has, layout)?,
        };
        if root.is_moving() {
            table.other_set().free(&mut *blocks)?;
            root.set_moving(false);
        }
        Ok(Self {
            table,
            root,
            blocks,
            of: PhantomData,
        })
    }

    /// The value of a key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.table.find(key)
    }

    /// Whether the key is there.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        matches!(self.table.probe(key).1, Probe::Found(..))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.table.len()).unwrap_or(usize::MAX)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the key this value; whether it had one before.
    ///
    /// # Errors
    /// [`MapError::Full`] when it cannot grow; the map is as it was.
    pub fn insert(&mut self, key: &K, value: &V) -> Result<bool, MapError> {
        let mut probed = self.table.probe(key);
        match probed.1 {
            Probe::Found(_, slot) if size_of::<V>() <= WORD => {
                self.store_word(slot, word_of(value))?;
                return Ok(true);
            }
            Probe::Empty(_) if !self.table.has_room() => {
                let grown = self.table.grow(&mut *self.blocks);
                grown.map_err(MapError::Full)?;
                probed = self.table.probe(key);
            }
            _ => {}
        }
        let had = self.table.put(key, probed, |places, slot, old| {
            let place: &mut V = places.value_mut(slot)?;
            place.as_mut_bytes().copy_from_slice(value.as_bytes());
            Some(old.is_some())
        })?;
        Ok(had)
    }

    /// Changes the value of a key, if it is there: `change` gets a copy, which becomes the value when it
    /// returns. After a panic or a crash in `change` the value is what it was.
    ///
    /// # Errors
    /// [`MapError::Damaged`].
    pub fn update<R>(
        &mut self,
        key: &K,
        change: impl FnOnce(&mut V) -> R,
    ) -> Result<Option<R>, MapError> {
        let probed = self.table.probe(key);
        let Probe::Found(_, slot) = probed.1 else {
            return Ok(None);
        };
        if size_of::<V>() <= WORD {
            let old = self.table.slots.places.value::<V>(slot).ok_or(Broken)?;
            let mut value = V::new_zeroed();
            value.as_mut_bytes().copy_from_slice(old.as_bytes());
            let result = change(&mut value);
            self.store_word(slot, word_of(&value))?;
            return Ok(Some(result));
        }
        let result = self.table.put(key, probed, |places, slot, old| {
            places.copy_value::<V>(old?, slot)?;
            Some(change(places.value_mut(slot)?))
        })?;
        Ok(Some(result))
    }

    /// Takes a key out, with its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let slot = self.table.remove(key)?;
        let mut value = V::new_zeroed();
        let words = self.table.slots.places.value_words(slot, size_of::<V>())?;
        load_bytes(words, value.as_mut_bytes());
        Some(value)
    }

    /// Every key with its value, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let entry = self.table.slots.places.entries();
        self.table
            .iter()
            .filter_map(move |slot| entry.as_ref()?(slot))
    }

    /// Some of the entries, and where the next ones begin: for who goes through a large map a little at a time, and
    /// changes it in between. `from` is 0 at first, and what the call before said afterwards; `None` says that all
    /// were there. It looks at `buckets` places of the index and a few more; a map has two to four of them for each
    /// key that it has room for.
    ///
    /// An entry that is there all the while is met once, also when the map grows in between, or another life goes
    /// on with it; one that comes or goes meanwhile, once or never. A migration begins anew.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let blocks = refrain_data::memory::Scratch::new()?;
    /// let mut stock = refrain_data::Map::<u64, u64>::open(blocks, 100)?;
    /// for article in 0..50 {
    ///     stock.insert(&article, &(article % 2))?;
    /// }
    /// let mut next = Some(0);
    /// while let Some(from) = next {
    ///     let (some, behind) = stock.stretch(from, 16);
    ///     let none_left: Vec<u64> = some.filter(|(_, count)| **count == 0).map(|(article, _)| *article).collect();
    ///     next = behind;
    ///     for article in none_left {
    ///         stock.remove(&article);
    ///     }
    /// }
    /// assert_eq!(stock.len(), 25);
    /// # Ok(()) }
    /// ```
    pub fn stretch(
        &self,
        from: u32,
        buckets: usize,
    ) -> (impl Iterator<Item = (&K, &V)>, Option<u32>) {
        let (found, next) = self.table.stretch(from, buckets);
        let entry = self.table.slots.places.entries();
        (found.filter_map(move |slot| entry.as_ref()?(slot)), next)
    }

    /// Writes the map to the bank's storage, and waits for that: for a bank on a disk, against a failure of the
    /// power. A crash of the program needs none.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sync(&self) -> std::io::Result<()> {
        self.table.sync()?;
        self.root.region().sync()
    }

    /// A value of up to a word is replaced where it is, by one store.
    fn store_word(&mut self, slot: u32, value: u64) -> Result<(), Broken> {
        let words = self.table.slots.places.value_words(slot, size_of::<V>());
        if let Some(word) = words.ok_or(Broken)?.first() {
            crate::order::publish(word, value);
        }
        Ok(())
    }
}

/// A value of up to a word as one.
fn word_of<V: Plain>(value: &V) -> u64 {
    let mut word = [0; WORD];
    word[..size_of::<V>()].copy_from_slice(value.as_bytes());
    u64::from_ne_bytes(word)
}

/// Makes a table of today's values from one of older values, in the other set of blocks.
fn migrate<K: Plain, V: Plain>(
    root: &Root,
    blocks: &mut dyn Blocks,
    versions: &Versions<V>,
    has: Description,
    layout: Layout,
) -> Result<Table<K>, OpenError> {
    let (old, convert) = versions.migration(has.schema, Kind::Map, Some(TypeOf::of::<K>()))?;
    let size = old.size;
    let old_layout = layout_of::<K>(size, old.align).ok_or(damaged("values too large"))?;
    let old_shape = Shape::read(&has.parameters, old_layout)?;
    let old = Table::<K>::open(old_shape, old_shape.hot(root.region())?, blocks)?;
    let shape = Shape {
        layout,
        log2: log2_for(usize::try_from(old.len()).unwrap_or(usize::MAX)),
        set: 1 - old_shape.set,
    };
    if root.is_moving() {
        // What is there is left over from a migration that was cut, and may have another size.
        shape.free(blocks)?;
    }
    root.set_moving(true);
    let mut new = Table::<K>::create(shape, shape.hot(root.region())?, blocks)?;
    let mut bytes = vec![0; size];
    for slot in old.iter() {
        let entry = old
            .slots
            .places
            .key::<K>(slot)
            .zip(old.slots.places.value_words(slot, size));
        let (key, words) = entry.ok_or(damaged("an entry lies outside"))?;
        load_bytes(words, &mut bytes);
        let value = convert(&bytes);
        let probed = new.probe(key);
        let put = new.put(key, probed, |places, slot, _| {
            let place: &mut V = places.value_mut(slot)?;
            place.as_mut_bytes().copy_from_slice(value.as_bytes());
            Some(())
        });
        put.map_err(|Broken| damaged("it holds more than it says"))?;
    }
    root.succeed(&Description {
        schema: versions.schema(Kind::Map, Some(TypeOf::of::<K>())),
        parameters: shape.parameters(),
    });
    Ok(new)
}

impl<K: Plain, V: Plain> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Map of {} entries in {:?}",
            self.len(),
            self.root.region()
        )
    }
}
