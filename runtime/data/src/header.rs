//! The first bytes of a structure: what it is, which of two descriptions counts, who writes to it.
//!
//! Used by every structure when it is opened, and never while it is used. It must never trust what it
//! reads, and never write to a block that holds something else.
//!
//! | offset | what | written |
//! | --- | --- | --- |
//! | 0 | magic | last, once: it makes a zero block a structure |
//! | 8 | number of the format | before that |
//! | 16 | which description counts, 0 or 1 | by a migration, as its one publication |
//! | 24 | 1 while blocks of a migration may be left over | around a migration |
//! | 32 | aid of the writer, or 0 | when it is opened and dropped |
//! | 128, 320 | two descriptions: schema and parameters, 192 bytes each | while they do not count |
//! | 512 | the structure's own, to the end of the block | |
//!
//! The writer's word heals by itself: it names a life, and whoever finds a life there that has ended takes
//! its place by a compare and exchange. Of two actors that do so at once, one is refused.

use std::num::NonZeroU64;
use std::sync::atomic::Ordering;

use crate::blocks::Blocks;
use crate::error::{OpenError, damaged};
use crate::order::publish;
use crate::region::{Region, WORD, load_bytes, store_bytes};
use crate::schema::{Kind, NAME_MAX, Schema};

/// "RefrainD", as a little-endian word.
const MAGIC: u64 = u64::from_le_bytes(*b"RefrainD");
/// The only format there is.
const FORMAT: u64 = 2;

const AT_MAGIC: usize = 0;
const AT_FORMAT: usize = 8;
const AT_ACTIVE: usize = 16;
const AT_MOVING: usize = 24;
const AT_WRITER: usize = 32;
const AT_DESCRIPTIONS: [usize; 2] = [128, 320];

/// Where the structure's own bytes begin.
pub const BODY: usize = 512;

/// How many numbers a structure may keep beside its schema.
pub const PARAMETERS: usize = 7;

// Within a description.
const FINGERPRINT: usize = 0;
const KIND_AND_VERSION: usize = 8;
const SIZE: usize = 16;
const ALIGN: usize = 24;
const NUMBERS: usize = 32;
const NAME_LEN: usize = NUMBERS + PARAMETERS * WORD;
const NAME: usize = NAME_LEN + WORD;
const DESCRIPTION: usize = NAME + NAME_MAX;
const _: () = assert!(AT_DESCRIPTIONS[1] + DESCRIPTION == BODY);

/// What a structure holds and where: a schema, and numbers that mean what the structure says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// What it holds.
    pub schema: Schema,
    /// The structure's own numbers, fixed when it is made. Not checked here.
    pub parameters: [u64; PARAMETERS],
}

/// The root of a structure whose one writer this is. Dropping it lets another one in.
#[derive(Debug)]
pub struct Root {
    region: Region,
    writer: NonZeroU64,
    /// A child that was forked has a copy of this and is no writer.
    pid: u32,
}

/// The word at a fixed place of a header; [`check`] has seen to the region's size.
fn word(region: &Region, offset: usize) -> &std::sync::atomic::AtomicU64 {
    region.word(offset).expect("a root holds its header")
}

fn load(region: &Region, offset: usize) -> u64 {
    word(region, offset).load(Ordering::Acquire)
}

fn store(region: &Region, offset: usize, value: u64) {
    word(region, offset).store(value, Ordering::Relaxed);
}

/// Whether a structure is there: `false` in a zero block.
fn check(region: &Region) -> Result<bool, OpenError> {
    if region.len() < BODY {
        let (has, needs) = (region.len(), BODY);
        return Err(OpenError::TooSmall { has, needs });
    }
    match load(region, AT_MAGIC) {
        0 => Ok(false),
        MAGIC => match load(region, AT_FORMAT) {
            FORMAT => Ok(true),
            has => Err(OpenError::Format { has, knows: FORMAT }),
        },
        other => Err(OpenError::NoStructure(other)),
    }
}

/// The description that counts; `None` in a zero block. For readers: it writes nothing.
///
/// # Errors
/// [`OpenError`] where there is something else.
pub fn read(region: &Region) -> Result<Option<Description>, OpenError> {
    if !check(region)? {
        return Ok(None);
    }
    let active = usize::try_from(load(region, AT_ACTIVE)).unwrap_or(usize::MAX);
    let at = *AT_DESCRIPTIONS
        .get(active)
        .ok_or(damaged("neither description counts"))?;
    let kind_and_version = load(region, at + KIND_AND_VERSION);
    let mut parameters = [0; PARAMETERS];
    for (index, number) in parameters.iter_mut().enumerate() {
        *number = load(region, at + NUMBERS + index * WORD);
    }
    let mut name = [0; NAME_MAX];
    let words = region.words(at + NAME, NAME_MAX);
    load_bytes(words.expect("a root holds its header"), &mut name);
    let name_len = usize::try_from(load(region, at + NAME_LEN)).unwrap_or(usize::MAX);
    let schema = Schema {
        kind: Kind::of_number((kind_and_version >> 32) as u32),
        version: kind_and_version as u32,
        name: String::from_utf8_lossy(&name[..name_len.min(NAME_MAX)]).into_owned(),
        size: load(region, at + SIZE),
        align: load(region, at + ALIGN),
        fingerprint: load(region, at + FINGERPRINT),
    };
    Ok(Some(Description { schema, parameters }))
}

/// Whether `description` still counts: a cheap look, for readers that have it open.
pub(crate) fn is_still(region: &Region, description: &Description) -> bool {
    let active = usize::try_from(load(region, AT_ACTIVE)).unwrap_or(usize::MAX);
    AT_DESCRIPTIONS.get(active).is_some_and(|at| {
        let same =
            |(index, number): (usize, &u64)| load(region, at + NUMBERS + index * WORD) == *number;
        load(region, at + FINGERPRINT) == description.schema.fingerprint
            && description.parameters.iter().enumerate().all(same)
    })
}

impl Root {
    /// Becomes the writer of what is in `region`, or of what will be there.
    ///
    /// # Errors
    /// [`OpenError::Busy`], [`OpenError::OpenAlready`], or something else is in the block.
    pub fn claim(region: Region, blocks: &dyn Blocks) -> Result<Self, OpenError> {
        check(&region)?;
        let me = blocks.writer().map_err(OpenError::Who)?;
        let place = word(&region, AT_WRITER);
        let mut has = place.load(Ordering::Acquire);
        loop {
            if let Some(other) = NonZeroU64::new(has) {
                if other == me {
                    return Err(OpenError::OpenAlready);
                }
                if blocks.is_alive(other).map_err(OpenError::Who)? {
                    return Err(OpenError::Busy { aid: has });
                }
            }
            match place.compare_exchange(has, me.get(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => has = now,
            }
        }
        Ok(Self {
            region,
            writer: me,
            pid: std::process::id(),
        })
    }

    /// The region that it is the root in.
    #[must_use]
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The description that counts; `None` in a block that is no structure yet.
    ///
    /// # Errors
    /// [`OpenError`] where it cannot be read.
    pub fn current(&self) -> Result<Option<Description>, OpenError> {
        read(&self.region)
    }

    /// Makes the block a structure: all of it is there when this is called, and nobody sees it before.
    pub fn begin(&self, description: &Description) {
        store(&self.region, AT_ACTIVE, 0);
        store(&self.region, AT_MOVING, 0);
        store(&self.region, AT_FORMAT, FORMAT);
        self.describe(AT_DESCRIPTIONS[0], description);
        publish(word(&self.region, AT_MAGIC), MAGIC);
    }

    /// Makes it another structure, by one store: all of the new one is there when this is called, in
    /// memory that the old one does not use.
    pub fn succeed(&self, description: &Description) {
        let next = 1 - load(&self.region, AT_ACTIVE).min(1);
        self.describe(AT_DESCRIPTIONS[next as usize], description);
        publish(word(&self.region, AT_ACTIVE), next);
    }

    /// Whether a migration was begun and what it left over was not yet given back.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        load(&self.region, AT_MOVING) != 0
    }

    /// Says so, before the first block of a migration is asked for and after the last was given back.
    pub fn set_moving(&self, moving: bool) {
        publish(word(&self.region, AT_MOVING), u64::from(moving));
    }

    fn describe(&self, at: usize, description: &Description) {
        let Description { schema, parameters } = description;
        let kind = u64::from(schema.kind.number());
        let name = schema.name.as_bytes();
        let name = &name[..name.len().min(NAME_MAX)];
        store(&self.region, at + FINGERPRINT, schema.fingerprint);
        store(
            &self.region,
            at + KIND_AND_VERSION,
            kind << 32 | u64::from(schema.version),
        );
        store(&self.region, at + SIZE, schema.size);
        store(&self.region, at + ALIGN, schema.align);
        for (index, number) in parameters.iter().enumerate() {
            store(&self.region, at + NUMBERS + index * WORD, *number);
        }
        store(&self.region, at + NAME_LEN, name.len() as u64);
        let mut padded = [0; NAME_MAX];
        padded[..name.len()].copy_from_slice(name);
        let words = self.region.words(at + NAME, NAME_MAX);
        store_bytes(words.expect("a root holds its header"), &padded);
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if self.pid == std::process::id() {
            let place = word(&self.region, AT_WRITER);
            let mine = self.writer.get();
            // Where another name stands by now, it is not this one's to take away.
            let _ = place.compare_exchange(mine, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}
