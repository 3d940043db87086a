//! What the engine shows of itself: `aps`, `chorusStat`, and the questions of lives.

use std::collections::HashSet;
use std::sync::Arc;

use hr_ctrl_core::{ActorState, ActorView, Kind, Refusal};
use refrain_abi::{Aid, Capability, Gid};
use refrain_image::image::Linkage;
use refrain_sys::clock;

use super::Engine;
use crate::site::{ActorInfo, GroupRow, Notice, SiteStat};

impl Engine {
    /// The group of a life (SPEC H14).
    ///
    /// # Errors
    /// There is no such life, or there was.
    pub fn group_of(&self, aid: Aid) -> Result<Option<Gid>, Refusal> {
        self.core.group_of(aid)
    }

    /// The capability of a life of the group `gid` (SPEC H6).
    ///
    /// # Errors
    /// There is no such life, or it is none of that group.
    pub fn capability_of(&self, aid: Aid, gid: Gid) -> Result<Capability, Refusal> {
        match self.core.group_of(aid)? {
            Some(own) if own == gid => {}
            Some(gid) => return Err(Refusal::NotYourGroup { gid }),
            None => return Err(Refusal::NotRestartable),
        }
        let mut lives = self.actors.values().filter_map(|it| it.life.as_ref());
        let life = lives.find(|life| life.aid == aid && !life.ended);
        life.map(|life| life.capability)
            .or_else(|| {
                self.supervised
                    .values()
                    .find_map(|it| it.capability_of(aid))
            })
            .ok_or(Refusal::NoSuchAid { aid, stale: true })
    }

    /// Whether a site restart is going on.
    #[must_use]
    pub fn is_restarting(&self) -> bool {
        self.core.is_restarting()
    }

    /// Whether a life has ended that nobody has reaped yet.
    #[must_use]
    pub fn is_end_unknown(&self) -> bool {
        self.actors
            .values()
            .any(|runtime| runtime.last_pid.is_some())
    }

    /// Every registered actor, in the order of registration.
    #[must_use]
    pub fn actor_infos(&self) -> Vec<ActorInfo> {
        let info = |view: ActorView<'_>| match self.supervised.get(&view.key) {
            Some(supervised) => supervised.info(&view),
            None => self.info(&view),
        };
        self.core.actors().map(info).collect()
    }

    fn info(&self, view: &ActorView<'_>) -> ActorInfo {
        let runtime = self.actors.get(&view.key);
        let life = runtime
            .and_then(|runtime| runtime.life.as_ref())
            .filter(|life| !life.ended);
        ActorInfo {
            name: view.name.to_string(),
            gid: view.gid.map(|gid| gid.0),
            aid: life
                .map(|life| life.aid)
                .or(view.aid)
                .or_else(|| runtime.and_then(|runtime| runtime.last_aid))
                .map(|aid| aid.0),
            capability: life.map(|life| life.capability.to_string()),
            pid: life.map(|life| life.pid),
            kind: match view.kind {
                Kind::Direct => "direct",
                Kind::Indirect => "indirect",
                Kind::Ordinary => "ordinary",
            },
            mode: "user",
            state: match view.state {
                // To a reader the end of a life and the sweep after it are one.
                ActorState::Ending => ActorState::Stopping.as_str(),
                // Decided to begin, but its standby is still being forked.
                ActorState::Running if life.is_none() => ActorState::Loading.as_str(),
                state => state.as_str(),
            },
            life: view.life.map(|life| life.0),
            restarts: view.restarts,
            start: runtime.and_then(|runtime| runtime.start),
            image: if runtime.is_some_and(|runtime| {
                let template = runtime.template.as_ref();
                template.is_some_and(|template| template.warm)
            }) {
                "warm"
            } else {
                "cold"
            },
            start_reason: runtime.and_then(|runtime| runtime.start_reason()),
            last_end: runtime.and_then(|runtime| runtime.last_end.clone()),
            notice: runtime
                .and_then(|runtime| runtime.last_notice)
                .map(Notice::as_str),
            failure: runtime.and_then(|runtime| runtime.failure.as_deref().cloned()),
            limits: runtime
                .map(|runtime| runtime.limited.rows().clone())
                .unwrap_or_default(),
            user: runtime
                .and_then(|runtime| runtime.spec.user.as_ref())
                .map(|user| user.name.clone()),
            no_new_privs: runtime
                .is_some_and(|runtime| runtime.spec.user.is_some() || runtime.spec.no_new_privs),
            keeper: runtime.is_some_and(|runtime| {
                life.is_some_and(|life| runtime.control.keeper(life.serial).is_some())
            }),
            watch: self.watch_info(view.key),
            path: runtime
                .map(|runtime| runtime.spec.program.clone())
                .unwrap_or_default(),
            uptime_ms: life.map(|life| clock::now_monotonic_ms().saturating_sub(life.began_ms)),
        }
    }

    /// How many bytes the images of all actors take; one that several share counts once.
    #[must_use]
    pub fn image_bytes(&self) -> u64 {
        let mut counted = HashSet::new();
        let programs = self
            .actors
            .values()
            .filter_map(|runtime| runtime.program.as_ref())
            .filter(|program| counted.insert(Arc::as_ptr(&program.image)));
        programs.map(|program| program.image.size).sum()
    }

    /// The site as a whole.
    #[must_use]
    pub fn stat(&self, site: String) -> SiteStat {
        let groups = self.core.groups().map(|group| GroupRow {
            gid: group.gid.0,
            members: group.members as u32,
            alive: group.alive as u32,
            badness: group.badness,
            restarts: self.group_restarts.get(&group.gid).copied().unwrap_or(0),
            state: group.state.as_str(),
            attempts: group.attempts,
            waits_ms: group
                .delayed_until_ms
                .map(|until| until.saturating_sub(clock::now_monotonic_ms())),
            gave_up: group.gave_up.map(|give_up| give_up.reason.to_string()),
        });
        SiteStat {
            site,
            version: env!("CARGO_PKG_VERSION"),
            nucleus: std::os::unix::process::parent_id(),
            hr_ctrl: std::process::id(),
            uptime_ms: clock::now_monotonic_ms().saturating_sub(self.ledger.site().started_ms()),
            hr_ctrl_restarts: self.ledger.site().adoptions(),
            site_restarts: self.ledger.site().restarts(),
            group_restarts: self.group_restarts.values().sum(),
            actors: self.core.actors().count() as u32,
            max_actors: self.parts.tunables.hr_ctrl.max_actors,
            containment: self.parts.containment.name(),
            groups: groups.collect(),
        }
    }
}

impl super::runtime::ActorRuntime {
    /// Why its lives do not start from a standby of a template.
    fn start_reason(&self) -> Option<String> {
        if let Some(reason) = &self.exec_reason {
            return Some(reason.clone());
        }
        if self.kind == Kind::Ordinary {
            return Some("an ordinary actor starts by exec".to_owned());
        }
        let program = self.program.as_ref()?;
        match &program.image.linkage {
            Linkage::Dynamic => None,
            Linkage::Static => Some("it is linked statically".to_owned()),
            Linkage::Unhookable(why) => Some((*why).to_owned()),
        }
    }
}
