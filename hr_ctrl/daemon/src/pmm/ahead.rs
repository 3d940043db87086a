//! What a life is sent before it asks: its welcome, and the blocks that lives before it had mapped
//! (ADR 0015). Then its first requests, which are those of every life of that actor, need no answer.
//!
//! Called by PMM when a standby is asleep with its start frame queued ([`Ahead::standby`]), when a
//! life attaches or is handed a block ([`Ahead::attached`], [`Ahead::used`]), and after everything
//! that frees blocks ([`Ahead::freed`]). The frames lie in the queue of the standby's socket; nothing
//! of the standby reads them, so no block is mapped before the life before it is gone.
//!
//! A frame that lies in a queue cannot be taken back. So each names the actor's *epoch*, a word of its
//! control page; when a block is freed that was sent to the actor, the epoch is advanced before the
//! free is answered, and the life's library does not map what is of an older one. An actor that
//! writes the word itself can map again what it had mapped before: a file that nobody else has any more,
//! as it could have by keeping the fd. The standby whose queue holds the fd of a freed block is
//! replaced, or the block's memory would stay taken.
//!
//! Must never make a block, never send one that the actor may not use now, and never wait.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use actix::Message;
use hr_ctrl_core::ActorKey;
use refrain_abi::request::{MAX_FRAME, Reply};
use refrain_abi::{Aid, BlockName, Capability, Serial};
use refrain_pmm::Bank;
use refrain_sys::mapping::ControlPageMapping;
use refrain_sys::seqpacket;

use super::{Asker, ServeLife};

/// How many blocks an actor is sent ahead; each is an fd in flight. More are asked for one by one.
const MAX_BLOCKS: usize = 32;

/// A standby is asleep, its start frame queued: what its life will ask for first may be sent.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StandbyAsleep {
    /// Who will ask: the next life.
    pub asker: Asker,
    /// The serial it will have.
    pub serial: Serial,
    /// The capability it will have.
    pub capability: Capability,
    /// The controller's end of its socket, for as long as the engine wants this standby.
    pub socket: Weak<OwnedFd>,
    /// Its control page.
    pub page: Arc<OwnedFd>,
}

/// An actor is adopted whose standby may have been sent anything by a PMM before.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AdoptActor {
    /// The actor.
    pub actor: ActorKey,
    /// The serial of its standby, 0 where it has none.
    pub standby: Serial,
    /// Its control page.
    pub control: Arc<ControlPageMapping>,
}

/// An actor is forgotten.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ForgetActor(pub ActorKey);

/// Which blocks lives of each actor have had mapped.
#[derive(Default)]
pub(crate) struct Ahead {
    actors: HashMap<ActorKey, Known>,
    /// Who has had a block mapped, by its name.
    holders: HashMap<BlockName, HashSet<ActorKey>>,
    /// Standbys whose queues may hold any block of their groups.
    adopted: Vec<(ActorKey, Serial)>,
}

/// What is known of one actor.
#[derive(Default)]
struct Known {
    /// A life of it has attached: the next one will.
    attached: bool,
    /// The control page, from its first life on.
    control: Option<Arc<ControlPageMapping>>,
    epoch: u32,
    /// Name and number of each block, in the order in which they were first asked for.
    blocks: Vec<(BlockName, u64)>,
    next: Option<Next>,
}

/// The standby of an actor.
struct Next {
    standby: StandbyAsleep,
    /// It was sent its welcome.
    welcomed: bool,
    /// The numbers of the blocks that it was sent.
    sent: Vec<u64>,
}

impl Ahead {
    /// An actor is adopted: whatever it was sent ahead counts no more.
    pub(super) fn adopt(&mut self, adopted: AdoptActor) {
        let AdoptActor {
            actor,
            standby,
            control,
        } = adopted;
        let known = self.actors.entry(actor).or_default();
        known.epoch = control.block_epoch.load(Ordering::Acquire).wrapping_add(1);
        control.block_epoch.store(known.epoch, Ordering::Release);
        known.control = Some(control);
        if standby.0 != 0 {
            self.adopted.push((actor, standby));
        }
    }

    /// A standby is asleep.
    pub(super) fn standby(&mut self, bank: Option<&Bank>, standby: StandbyAsleep) {
        let known = self.actors.entry(standby.asker.actor).or_default();
        known.next = Some(Next {
            standby,
            welcomed: false,
            sent: Vec::new(),
        });
        if let Some(bank) = bank {
            known.send(bank);
        }
    }

    /// A life has begun: its socket is its own, and what it asks is answered.
    pub(super) fn began(&mut self, life: &ServeLife) {
        let known = self.actors.entry(life.asker.actor).or_default();
        known
            .next
            .take_if(|next| next.standby.serial == life.serial);
        known
            .control
            .get_or_insert_with(|| Arc::clone(&life.control));
    }

    /// A life has said hello.
    pub(super) fn attached(&mut self, bank: &Bank, actor: ActorKey) {
        let known = self.actors.entry(actor).or_default();
        known.attached = true;
        known.send(bank);
    }

    /// A life was handed a block.
    pub(super) fn used(&mut self, bank: &Bank, actor: ActorKey, name: BlockName) {
        let known = self.actors.entry(actor).or_default();
        let Some(id) = bank.block_id(name) else {
            return;
        };
        if known.blocks.contains(&(name, id)) || known.blocks.len() >= MAX_BLOCKS {
            return;
        }
        known.blocks.push((name, id));
        self.holders.entry(name).or_default().insert(actor);
        known.send(bank);
    }

    /// Blocks may have been freed, `name` alone or any. Answers the standbys whose queues hold one of
    /// them.
    pub(super) fn freed(
        &mut self,
        bank: &Bank,
        name: Option<BlockName>,
    ) -> Vec<(ActorKey, Serial)> {
        let names: Vec<BlockName> = match name {
            Some(name) => self
                .holders
                .contains_key(&name)
                .then_some(name)
                .into_iter()
                .collect(),
            None => self.holders.keys().copied().collect(),
        };
        // One of these may be in their queues, where it would stay taken.
        let mut stale = std::mem::take(&mut self.adopted);
        for name in names {
            let id = bank.block_id(name);
            let gone = |(held, number): &(BlockName, u64)| *held == name && Some(*number) != id;
            let Some(holders) = self.holders.get_mut(&name) else {
                continue;
            };
            holders.retain(|actor| {
                let Some(known) = self.actors.get_mut(actor) else {
                    return false;
                };
                let Some(at) = known.blocks.iter().position(gone) else {
                    return true;
                };
                let (_, number) = known.blocks.remove(at);
                stale.extend(known.outdate(number).map(|serial| (*actor, serial)));
                false
            });
            if holders.is_empty() {
                self.holders.remove(&name);
            }
        }
        stale
    }

    /// An actor is forgotten.
    pub(super) fn forget(&mut self, actor: ActorKey) {
        self.adopted.retain(|(adopted, _)| *adopted != actor);
        let Some(known) = self.actors.remove(&actor) else {
            return;
        };
        for (name, _) in known.blocks {
            if let Some(holders) = self.holders.get_mut(&name) {
                holders.remove(&actor);
                if holders.is_empty() {
                    self.holders.remove(&name);
                }
            }
        }
    }
}

impl Known {
    /// Sends the standby what it has not got yet. What cannot be sent (a full queue, too many fds in
    /// flight) is asked for by the life itself.
    fn send(&mut self, bank: &Bank) {
        if !self.attached {
            return;
        }
        let Some(next) = self.next.as_mut() else {
            return;
        };
        let Some(socket) = next.standby.socket.upgrade() else {
            self.next = None;
            return;
        };
        let standby = &next.standby;
        if !next.welcomed {
            let welcome = Reply::Welcome {
                aid: Aid(0),
                gid: standby.asker.gid,
                life: standby.asker.life,
                serial: standby.serial,
                capability: standby.capability,
            };
            if !put(&socket, &welcome, &standby.page) {
                return;
            }
            next.welcomed = true;
        }
        for (name, id) in &self.blocks {
            if next.sent.contains(id) {
                continue;
            }
            let Ok(block) = bank.open_block(*name, standby.asker.owner()) else {
                continue;
            };
            let reply = Reply::BlockAhead {
                name: *name,
                addr: block.addr,
                size: block.size,
                epoch: self.epoch,
            };
            if !put(&socket, &reply, &block.fd) {
                return;
            }
            next.sent.push(*id);
        }
    }

    /// A block was freed that may have been sent: from now on nothing counts that was sent before.
    /// Answers the standby if it holds the block's fd.
    fn outdate(&mut self, id: u64) -> Option<Serial> {
        self.epoch = self.epoch.wrapping_add(1);
        // The life that runs reads it, too: whatever it has not mapped yet, it asks for.
        if let Some(page) = &self.control {
            page.block_epoch.store(self.epoch, Ordering::Release);
        }
        let next = self.next.as_ref()?;
        next.sent.contains(&id).then_some(next.standby.serial)
    }
}

/// Sends one frame with the sequence number that stands for "nobody asked".
fn put(socket: &OwnedFd, reply: &Reply, fd: &OwnedFd) -> bool {
    let mut frame = [0; MAX_FRAME];
    let Ok(len) = reply.encode(0, &mut frame) else {
        return false;
    };
    seqpacket::send_dontwait(socket, &frame[..len], &[fd.as_fd()]).is_ok()
}
