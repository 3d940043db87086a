//! PMM, the boot actor that owns the bank, on an arbiter of its own.
//!
//! It serves the requests of lives ([`lives`]), answers some before they are asked ([`ahead`]), and keeps
//! the catalogue for HR_CTRL, which only ever sends it messages and never waits for an answer on the
//! restart path.

mod ahead;
pub(crate) mod exec;
mod image;
mod lives;
mod queue;

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message, MessageResult};
use hr_ctrl_core::ActorKey;
use refrain_abi::{ActorName, Aid, Capability, DeletionKey, Gid, LifeNo, Serial};
use refrain_pmm::{Bank, BankOptions, LifeRecord, Medium, Opened, Owner, Registration};
use refrain_sys::mapping::ControlPageMapping;
use tokio::sync::watch;

use crate::hr_ctrl::{self, HrCtrl};
use crate::output::Output;
use crate::site::{BlockRow, MemoryInfo};
use ahead::Ahead;
pub use ahead::{AdoptActor, ForgetActor, StandbyAsleep};

/// The bank, shared by the requests that this arbiter serves. `None` while it is being reopened.
pub(crate) type SharedBank = Rc<RefCell<Option<Bank>>>;

/// What is sent ahead, shared likewise.
pub(crate) type SharedAhead = Rc<RefCell<Ahead>>;

/// The boot actor PMM.
pub struct Pmm {
    bank: SharedBank,
    ahead: SharedAhead,
    options: BankOptions,
    keep_on_halt: Option<bool>,
    output: Output,
    hr_ctrl: Option<Addr<HrCtrl>>,
    /// Stops serving a life when its sender is dropped.
    lives: HashMap<(ActorKey, LifeNo), watch::Sender<()>>,
}

/// Which life a request comes from: known by the socket, never by what is in it.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The actor.
    pub actor: ActorKey,
    /// Its group.
    pub gid: Option<Gid>,
    /// Its life.
    pub life: LifeNo,
}

impl Asker {
    pub(crate) fn owner(&self) -> Owner {
        self.gid.map_or(Owner::Ordinary, Owner::Group)
    }
}

/// Answer the requests of a life that has begun.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ServeLife {
    /// Who will ask.
    pub asker: Asker,
    /// The aid to tell it.
    pub aid: Aid,
    /// The serial to tell it.
    pub serial: Serial,
    /// The capability to tell it.
    pub capability: Capability,
    /// The controller's end of its socket.
    pub socket: Arc<OwnedFd>,
    /// Its control page.
    pub page: Arc<OwnedFd>,
    /// The same, mapped.
    pub control: Arc<ControlPageMapping>,
}

/// A life has ended: its socket is worth nothing any more (DESIGN invariant 7).
#[derive(Message)]
#[rtype(result = "()")]
pub struct LifeEnded {
    /// The actor.
    pub actor: ActorKey,
    /// The life.
    pub life: LifeNo,
}

/// Enter an actor into the catalogue.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Register(pub Registration);

/// Take an actor out of the catalogue.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deregister(pub ActorName);

/// Note which life an actor is in.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordLife {
    /// The actor.
    pub name: ActorName,
    /// How far it has come.
    pub note: LifeRecord,
}

/// The same of several, in this order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecordLives(pub Vec<(ActorName, LifeRecord)>);

/// The groups that there are, told by an hr_ctrl that has adopted them: blocks of others are those of groups
/// that have terminated, which PMM may not have been told of (SPEC H18).
#[derive(Message)]
#[rtype(result = "()")]
pub struct KeepGroups(pub Vec<Gid>);

/// A group has terminated: free its `HR_GROUP_KEY` blocks (SPEC H18, H22).
#[derive(Message)]
#[rtype(result = "()")]
pub struct TerminateGroup(pub Gid);

/// Aids below this one count as given out.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReserveAids(pub Aid);

/// Where requests that are HR_CTRL's go.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Connect(pub Addr<HrCtrl>);

/// Close the bank and open it again: its initial state in a site restart (SPEC H25).
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct Reopen {
    /// Discard what it holds first (`shutdown -i 2`).
    pub discard: bool,
}

/// The site halts: keep the bank or discard it (ADR 0005).
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct Close;

/// What `memstat` shows.
#[derive(Message)]
#[rtype(result = "Option<MemoryInfo>")]
pub struct Memory;

/// A bank that is open, on its way to PMM's thread.
pub struct OpenBank {
    bank: Bank,
    options: BankOptions,
    keep_on_halt: Option<bool>,
    output: Output,
}

/// What a bank held when it was opened.
pub struct Found {
    /// Registrations of an earlier controller.
    pub registrations: Vec<Registration>,
    /// The first aid that was never given out.
    pub first_aid: Aid,
}

impl OpenBank {
    /// Opens the bank.
    ///
    /// # Errors
    /// One line: what, where, the cure.
    pub fn open(
        options: BankOptions,
        keep_on_halt: Option<bool>,
        output: Output,
    ) -> Result<(Self, Found), String> {
        let (bank, _) = Bank::open(&options).map_err(|error| error.to_string())?;
        let mut registrations = bank.registrations();
        if bank.rebooted() {
            // Their pids are others' now.
            registrations
                .iter_mut()
                .for_each(|registration| registration.running = None);
        }
        let found = Found {
            registrations,
            first_aid: Aid(bank.aid_floor().0.max(1)),
        };
        Ok((
            Self {
                bank,
                options,
                keep_on_halt,
                output,
            },
            found,
        ))
    }
}

impl Pmm {
    /// The actor, made on the thread that it stays on.
    #[must_use]
    pub fn new(open: OpenBank) -> Self {
        Self {
            bank: Rc::new(RefCell::new(Some(open.bank))),
            ahead: SharedAhead::default(),
            options: open.options,
            keep_on_halt: open.keep_on_halt,
            output: open.output,
            hr_ctrl: None,
            lives: HashMap::new(),
        }
    }

    /// Carries out a change of the catalogue and says on the console when it fails: the site goes
    /// on, but the change would be missing after the controller's death.
    fn change<T, E: std::fmt::Display>(
        &self,
        what: &str,
        change: impl FnOnce(&mut Bank) -> Result<T, E>,
    ) {
        let mut bank = self.bank.borrow_mut();
        if let Some(Err(error)) = bank.as_mut().map(change) {
            self.output.say(format!("PMM: {what}: {error}"));
        }
    }

    /// After blocks were freed: what was sent ahead of them counts no more.
    fn freed(&self) {
        if let (Some(bank), Some(hr_ctrl)) = (self.bank.borrow().as_ref(), &self.hr_ctrl) {
            let stale = self.ahead.borrow_mut().freed(bank, None);
            hr_ctrl::refresh(hr_ctrl, stale);
        }
    }

    fn reopen(&mut self, discard: bool) -> Result<(), String> {
        self.lives.clear();
        if discard {
            // Every actor was forgotten before.
            *self.ahead.borrow_mut() = Ahead::default();
        }
        let floor = self.bank.borrow().as_ref().map(Bank::aid_floor);
        if let Some(bank) = self.bank.borrow_mut().take()
            && discard
        {
            bank.discard()
                .map_err(|error| format!("cannot discard the bank: {error}"))?;
        }
        let (mut bank, opened) = Bank::open(&self.options).map_err(|error| error.to_string())?;
        if let (Opened::Created, Some(floor)) = (opened, floor) {
            // Aids are unique for as long as anybody may hold one.
            bank.reserve_aids(floor)
                .map_err(|error| error.to_string())?;
        }
        *self.bank.borrow_mut() = Some(bank);
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        self.lives.clear();
        let Some(mut bank) = self.bank.borrow_mut().take() else {
            return Ok(());
        };
        let keep = self.keep_on_halt.unwrap_or(bank.medium() == Medium::Disk);
        if keep {
            close_kept(&mut bank).map_err(|error| error.to_string())
        } else {
            bank.discard()
                .map_err(|error| format!("cannot discard the bank: {error}"))
        }
    }

    fn memory(&self) -> Option<MemoryInfo> {
        let bank = self.bank.borrow();
        let bank = bank.as_ref()?;
        let usage = bank.usage();
        let blocks = bank.blocks().into_iter().map(|block| BlockRow {
            name: block.name.to_string(),
            addr: block.addr,
            size: block.size,
            gid: match block.owner {
                Owner::Group(gid) => Some(gid.0),
                Owner::Ordinary | Owner::Site => None,
            },
            group_key: block.key == DeletionKey::Group,
        });
        Some(MemoryInfo {
            bank: bank.dir().display().to_string(),
            medium: if bank.medium() == Medium::Ram {
                "RAM"
            } else {
                "DISK"
            },
            size: usage.size,
            used: usage.used,
            max_blocks: usage.max_blocks,
            images: 0,
            blocks: blocks.collect(),
        })
    }
}

/// A halt is the end of every group: what was tied to one goes, as at any end of a group.
fn close_kept(bank: &mut Bank) -> Result<(), refrain_pmm::PmmError> {
    bank.clear_registrations()?;
    for block in bank.blocks() {
        if let (DeletionKey::Group, Owner::Group(gid)) = (block.key, block.owner) {
            bank.terminate_group(gid)?;
        }
    }
    Ok(())
}

impl Actor for Pmm {
    type Context = Context<Self>;
}

impl Handler<Connect> for Pmm {
    type Result = ();
    fn handle(&mut self, Connect(hr_ctrl): Connect, _: &mut Context<Self>) {
        self.hr_ctrl = Some(hr_ctrl);
    }
}

impl Handler<ServeLife> for Pmm {
    type Result = ();
    fn handle(&mut self, life: ServeLife, _: &mut Context<Self>) {
        let Some(hr_ctrl) = self.hr_ctrl.clone() else {
            return;
        };
        self.ahead.borrow_mut().began(&life);
        let (sender, ended) = watch::channel(());
        self.lives
            .insert((life.asker.actor, life.asker.life), sender);
        let shared = (Rc::clone(&self.bank), Rc::clone(&self.ahead));
        actix_rt::spawn(lives::serve(life, shared, hr_ctrl, ended));
    }
}

impl Handler<StandbyAsleep> for Pmm {
    type Result = ();
    fn handle(&mut self, standby: StandbyAsleep, _: &mut Context<Self>) {
        let bank = self.bank.borrow();
        self.ahead.borrow_mut().standby(bank.as_ref(), standby);
    }
}

impl Handler<ForgetActor> for Pmm {
    type Result = ();
    fn handle(&mut self, ForgetActor(actor): ForgetActor, _: &mut Context<Self>) {
        self.ahead.borrow_mut().forget(actor);
    }
}

impl Handler<LifeEnded> for Pmm {
    type Result = ();
    fn handle(&mut self, ended: LifeEnded, _: &mut Context<Self>) {
        self.lives.remove(&(ended.actor, ended.life));
    }
}

impl Handler<Register> for Pmm {
    type Result = ();
    fn handle(&mut self, Register(registration): Register, _: &mut Context<Self>) {
        let name = registration.name;
        self.change(&format!("register {name}"), |bank| {
            bank.register(&registration)
        });
    }
}

impl Handler<Deregister> for Pmm {
    type Result = ();
    fn handle(&mut self, Deregister(name): Deregister, _: &mut Context<Self>) {
        self.change(&format!("deregister {name}"), |bank| bank.deregister(name));
    }
}

impl Handler<RecordLife> for Pmm {
    type Result = ();
    fn handle(&mut self, note: RecordLife, _: &mut Context<Self>) {
        self.change(&format!("record {}", note.name), |bank| {
            bank.record_life(note.name, note.note)
        });
    }
}

impl Handler<RecordLives> for Pmm {
    type Result = ();
    fn handle(&mut self, RecordLives(notes): RecordLives, _: &mut Context<Self>) {
        for (name, note) in notes {
            self.change(&format!("record {name}"), |bank| {
                bank.record_life(name, note)
            });
        }
    }
}

impl Handler<TerminateGroup> for Pmm {
    type Result = ();
    fn handle(&mut self, TerminateGroup(gid): TerminateGroup, _: &mut Context<Self>) {
        self.change(&format!("group {gid}"), |bank| bank.terminate_group(gid));
        self.freed();
    }
}

impl Handler<KeepGroups> for Pmm {
    type Result = ();
    fn handle(&mut self, KeepGroups(groups): KeepGroups, _: &mut Context<Self>) {
        let blocks = self.bank.borrow().as_ref().map(Bank::blocks);
        let gone = blocks
            .into_iter()
            .flatten()
            .filter_map(|block| match block.owner {
                Owner::Group(gid) if block.key == DeletionKey::Group => Some(gid),
                _ => None,
            });
        let mut gone: Vec<Gid> = gone.filter(|gid| !groups.contains(gid)).collect();
        gone.sort_unstable();
        gone.dedup();
        for gid in gone {
            self.change(&format!("group {gid}"), |bank| bank.terminate_group(gid));
        }
    }
}

impl Handler<AdoptActor> for Pmm {
    type Result = ();
    fn handle(&mut self, adopted: AdoptActor, _: &mut Context<Self>) {
        self.ahead.borrow_mut().adopt(adopted);
    }
}

impl Handler<ReserveAids> for Pmm {
    type Result = ();
    fn handle(&mut self, ReserveAids(upto): ReserveAids, _: &mut Context<Self>) {
        self.change("reserve aids", |bank| bank.reserve_aids(upto));
    }
}

impl Handler<Reopen> for Pmm {
    type Result = MessageResult<Reopen>;
    fn handle(&mut self, reopen: Reopen, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.reopen(reopen.discard))
    }
}

impl Handler<Close> for Pmm {
    type Result = MessageResult<Close>;
    fn handle(&mut self, _: Close, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.close())
    }
}

impl Handler<Memory> for Pmm {
    type Result = MessageResult<Memory>;
    fn handle(&mut self, _: Memory, _: &mut Context<Self>) -> Self::Result {
        MessageResult(self.memory())
    }
}
