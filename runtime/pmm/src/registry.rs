//! What the bank remembers of actors: registrations (SPEC H3, H5), how each one's last life went,
//! and which aids were given out (SPEC H6). Called by the controller; the restart path does not
//! wait for it (DESIGN section 5, step 4).
//!
//! A registration's start data (path, arguments, environment: opaque here) lie in a file beside
//! the catalogue. A changed registration writes a new file, then its record, then removes the old
//! file, so that the record always names a whole one.
//!
//! It must never interpret start data, nor forget a registration that it was not told to.

use refrain_abi::{ActorName, Aid, Capability, Gid, LifeNo};

use crate::bank::{Bank, medium_error};
use crate::error::{FullError, PmmError};
use crate::record::{ActorRecord, Intent, State};
use crate::store::Numbered;

/// The most start data that a registration keeps, in bytes: what `hrfexec` passes, and as much
/// again for what the controller adds.
pub const MAX_SPEC: usize = 2 * refrain_abi::request::MAX_EXEC_BLOB as usize;

/// The life of an actor that runs: what the next controller knows it by (SPEC H6, H31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its aid.
    pub aid: Aid,
    /// Its pid, from 1 to `i32::MAX`.
    pub pid: u32,
    /// When its process began, in clock ticks since the machine did: with the pid and the boot id it
    /// tells this process from every other one. 0 where it is not known; nobody may be signalled or
    /// adopted by the pid then. Source: field 22 of /proc/PID/stat in proc(5).
    pub start_time: u64,
    /// Its capability.
    pub capability: Capability,
}

/// How far an actor has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifeRecord {
    /// The number of the life that runs, or ran last.
    pub life: LifeNo,
    /// How often it was restarted.
    pub restarts: u32,
    /// Whether that life ended clean.
    pub clean: bool,
    /// That life, while it runs.
    pub running: Option<Running>,
}

/// An actor that the controller will start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The actor's name.
    pub name: ActorName,
    /// Its group.
    pub gid: Gid,
    /// Whether it is direct.
    pub direct: bool,
    /// The number of the life that runs, or ran last.
    pub life: LifeNo,
    /// How often it was restarted.
    pub restarts: u32,
    /// Whether that life ended clean.
    pub clean: bool,
    /// That life, if it ran when this was noted. After a boot ([`Bank::rebooted`]) none of them does.
    pub running: Option<Running>,
    /// How to start it, in the controller's own words; at most [`MAX_SPEC`] bytes.
    pub spec: Vec<u8>,
}

impl Bank {
    /// Registers an actor, or replaces its registration.
    ///
    /// # Errors
    /// [`PmmError::SpecTooLong`], [`FullError`] when no actor, no group or no page is left, or the
    /// medium failed.
    pub fn register(&mut self, reg: &Registration) -> Result<(), PmmError> {
        let name = reg.name;
        let size = reg.spec.len() as u64;
        if reg.spec.len() > MAX_SPEC {
            return Err(PmmError::SpecTooLong {
                name,
                size,
                max: MAX_SPEC as u64,
            });
        }
        if reg.gid.0 == Gid::NONE_ON_WIRE {
            return Err(PmmError::BadGid { gid: reg.gid });
        }
        let running = checked(name, reg.running)?;
        self.check_writable()?;
        self.check_group(name, reg.gid)?;
        let max = self.catalogue.geometry().max_actors;
        let before = self.actors.get(&name);
        let index = match before {
            Some((index, _)) => *index,
            None => self
                .catalogue
                .actors()
                .first_free()
                .ok_or(FullError::Actors { name, max })?,
        };
        let old = self
            .catalogue
            .actors()
            .get(index)
            .map(|actor| actor.spec_id);
        let same = before.is_some_and(|(_, spec)| *spec == reg.spec);
        let spec_id = match old {
            Some(id) if same => id,
            _ => self.write_spec(name, &reg.spec)?,
        };
        let record = ActorRecord {
            name,
            gid: reg.gid,
            direct: reg.direct,
            clean: reg.clean,
            life: reg.life,
            restarts: reg.restarts,
            running,
            spec_id,
            spec_len: size,
            spec_crc: crc32c::crc32c(&reg.spec),
        };
        self.write_actor(index, Some(record), name)?;
        self.actors.insert(name, (index, reg.spec.clone()));
        match old {
            Some(id) if id != spec_id => self.remove_file(Numbered::Spec(id)),
            _ => Ok(()),
        }
    }

    /// Forgets an actor.
    ///
    /// # Errors
    /// [`PmmError::NotRegistered`], or the medium failed.
    pub fn deregister(&mut self, name: ActorName) -> Result<(), PmmError> {
        let index = self.registered(name)?;
        self.check_writable()?;
        self.drop_registration(index, name)
    }

    /// Forgets every actor: at the halt of a site whose bank is kept.
    ///
    /// # Errors
    /// The medium failed; opening the bank again finishes it.
    pub fn clear_registrations(&mut self) -> Result<(), PmmError> {
        self.intend(Intent::ClearRegistrations).map(|_| ())
    }

    /// Every registration, by name.
    #[must_use]
    pub fn registrations(&self) -> Vec<Registration> {
        let mut all: Vec<_> = self
            .catalogue
            .actors()
            .iter()
            .map(|(_, actor)| Registration {
                name: actor.name,
                gid: actor.gid,
                direct: actor.direct,
                life: actor.life,
                restarts: actor.restarts,
                clean: actor.clean,
                running: actor.running,
                spec: self
                    .actors
                    .get(&actor.name)
                    .map(|(_, spec)| spec.clone())
                    .unwrap_or_default(),
            })
            .collect();
        all.sort_unstable_by_key(|reg| reg.name);
        all
    }

    /// Notes how far an actor has come, and what its life is known by. One record, no file, and on
    /// tmpfs no system call.
    ///
    /// # Errors
    /// [`PmmError::NotRegistered`], [`PmmError::BadPid`], or the medium failed.
    pub fn record_life(&mut self, name: ActorName, note: LifeRecord) -> Result<(), PmmError> {
        let LifeRecord {
            life,
            restarts,
            clean,
            running,
        } = note;
        let running = checked(name, running)?;
        let index = self.registered(name)?;
        self.check_writable()?;
        let actor = self
            .catalogue
            .actors()
            .get(index)
            .expect("the index of actors lists used records");
        let record = ActorRecord {
            life,
            restarts,
            clean,
            running,
            ..*actor
        };
        self.write_actor(index, Some(record), name)
    }

    /// Aids below this one may have been given out by an earlier controller (SPEC H6); a new one
    /// gives out this one first.
    #[must_use]
    pub fn aid_floor(&self) -> Aid {
        self.catalogue.state().aid_floor
    }

    /// Notes that aids below `upto` may be given out from now on. A controller reserves many at a
    /// time, so that it need not come back for each life. Going down is ignored.
    ///
    /// # Errors
    /// The medium failed; the aids must not be given out then.
    pub fn reserve_aids(&mut self, upto: Aid) -> Result<(), PmmError> {
        self.check_writable()?;
        let state = *self.catalogue.state();
        if upto <= state.aid_floor {
            return Ok(());
        }
        self.write("reserve aids".into(), |catalogue, store| {
            catalogue.set_state(
                store,
                State {
                    aid_floor: upto,
                    ..state
                },
            )
        })
    }

    /// Every registration's record and file; the step that a cleared bank is made of.
    pub(crate) fn drop_registrations(&mut self) -> Result<(), PmmError> {
        let all: Vec<_> = self
            .catalogue
            .actors()
            .iter()
            .map(|(index, actor)| (index, actor.name))
            .collect();
        all.into_iter()
            .try_for_each(|(index, name)| self.drop_registration(index, name))
    }

    fn drop_registration(&mut self, index: u32, name: ActorName) -> Result<(), PmmError> {
        let spec = self
            .catalogue
            .actors()
            .get(index)
            .map(|actor| actor.spec_id);
        self.write_actor(index, None, name)?;
        self.actors.remove(&name);
        spec.map_or(Ok(()), |id| self.remove_file(Numbered::Spec(id)))
    }

    fn registered(&self, name: ActorName) -> Result<u32, PmmError> {
        self.actors
            .get(&name)
            .map(|(index, _)| *index)
            .ok_or(PmmError::NotRegistered { name })
    }

    fn check_group(&self, name: ActorName, gid: Gid) -> Result<(), PmmError> {
        let max = self.catalogue.geometry().max_groups;
        // Fewer actors than that cannot be in more groups, and a group that is there adds none.
        let is_there = |(_, actor): (u32, &ActorRecord)| actor.name != name && actor.gid == gid;
        if self.actors.len() < max as usize || self.catalogue.actors().iter().any(is_there) {
            return Ok(());
        }
        let others = self
            .catalogue
            .actors()
            .iter()
            .filter(|(_, actor)| actor.name != name);
        let mut gids: Vec<Gid> = others.map(|(_, actor)| actor.gid).chain([gid]).collect();
        gids.sort_unstable();
        gids.dedup();
        if gids.len() as u64 > u64::from(max) {
            Err(FullError::Groups { gid, max }.into())
        } else {
            Ok(())
        }
    }

    fn write_spec(&mut self, name: ActorName, spec: &[u8]) -> Result<u64, PmmError> {
        let id = self.next_id;
        self.next_id += 1;
        let size = spec.len() as u64;
        self.store
            .create(&Numbered::Spec(id).name(), size, &[(0, spec)])
            .map_err(|source| medium_error(source, format!("the registration of {name}"), size))?;
        Ok(id)
    }

    fn write_actor(
        &mut self,
        index: u32,
        record: Option<ActorRecord>,
        name: ActorName,
    ) -> Result<(), PmmError> {
        self.write(format!("record actor {name}"), |catalogue, store| {
            catalogue.set_actor(store, index, record)
        })
    }
}

/// Refuses a pid that would not be read back.
fn checked(name: ActorName, running: Option<Running>) -> Result<Option<Running>, PmmError> {
    match running {
        Some(Running { pid, .. }) if !(1..=i32::MAX as u32).contains(&pid) => {
            Err(PmmError::BadPid { name, pid })
        }
        running => Ok(running),
    }
}
