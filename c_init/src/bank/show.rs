//! `c_init bank show`: a bank as text, and as JSON for programs.

use std::fmt::Write as _;

use refrain_abi::DeletionKey;
use refrain_pmm::{Damage, Medium, Owner, Survey, SurveyedActor, SurveyedBlock};
use serde::Serialize;

use crate::client::screen;
use crate::commands::aps::json;
use crate::program::complain;
use crate::table::{NOTHING, cell, columns, size};
use crate::words::printable;
use crate::{DONE, FAILED};

/// Prints a survey. Answers the exit code.
pub(super) fn show(survey: &Survey, as_json: bool) -> i32 {
    if !as_json {
        screen::out(&text(survey));
        return DONE;
    }
    match json(&BankView::of(survey)) {
        Ok(text) => {
            screen::out(&text);
            DONE
        }
        Err(why) => complain(FAILED, format!("bank: {why}")),
    }
}

/// One damage as a line.
pub(super) fn damage_line(damage: &Damage) -> String {
    let offset = damage.offset.map(|at| format!("catalogue offset {at}: "));
    let line = format!("{}{}", offset.unwrap_or_default(), damage.what);
    format!("{}\n", printable(&line))
}

fn medium(survey: &Survey) -> &'static str {
    match survey.medium {
        Medium::Ram => "RAM",
        Medium::Disk => "DISK",
    }
}

fn text(survey: &Survey) -> String {
    let dir = survey.dir.display().to_string();
    let sizes = &survey.sizes;
    let mut text = format!("bank           {} ({})\n", printable(&dir), medium(survey));
    let _ = writeln!(text, "version        {}", survey.version);
    let _ = writeln!(text, "size           {}", size(sizes.size));
    let _ = writeln!(text, "used           {}", size(survey.used));
    let (base, window) = (sizes.window_base, size(sizes.window_size));
    let _ = writeln!(text, "window         {base:#x}, {window}");
    let _ = writeln!(text, "catalogue      {}", size(sizes.catalogue));
    let _ = writeln!(
        text,
        "blocks         {} of {}",
        survey.blocks.len(),
        sizes.max_blocks
    );
    let _ = writeln!(
        text,
        "registrations  {} of {}",
        survey.actors.len(),
        sizes.max_actors
    );
    let last = &survey.last;
    let boot = if last.this_boot { "this" } else { "another" };
    let _ = writeln!(
        text,
        "opened         {} times, last by pid {} in {boot} boot ({})",
        last.openings,
        last.pid,
        printable(&last.boot_id)
    );
    let _ = writeln!(text, "held by        {}", holder(survey));
    text += &tables(survey);
    for (title, lines) in [
        ("unfinished", survey.intent.iter().collect::<Vec<_>>()),
        ("the next start will", survey.recovery.iter().collect()),
        ("no start here", survey.refusal.iter().collect()),
        ("not the bank's", survey.foreign.iter().collect()),
    ] {
        for line in lines {
            let _ = writeln!(text, "{title}: {}", printable(line));
        }
    }
    for damage in &survey.damage {
        let _ = write!(text, "damaged: {}", damage_line(damage));
    }
    if !survey.steady {
        text += "it changed all the while: the figures may be of different moments\n";
    }
    text
}

fn holder(survey: &Survey) -> String {
    match survey.held_by {
        None => "nobody".into(),
        Some(None) => "a living site".into(),
        Some(Some(pid)) => format!("a living site (pid {pid})"),
    }
}

fn tables(survey: &Survey) -> String {
    let mut text = String::new();
    if !survey.blocks.is_empty() {
        let header = [
            "BLOCK", "OWNER", "KEY", "SIZE", "PROVIDED", "ADDRESS", "FILE", "GRANTED",
        ];
        let rows: Vec<_> = survey.blocks.iter().map(block_row).collect();
        text += &format!("\n{}", columns(&header, &rows));
    }
    if !survey.actors.is_empty() {
        let header = [
            "ACTOR", "GID", "KIND", "LIFE", "RESTARTS", "AID", "PID", "LAST END", "FILE",
        ];
        let rows: Vec<_> = survey.actors.iter().map(actor_row).collect();
        text += &format!("\n{}", columns(&header, &rows));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

fn block_row(block: &SurveyedBlock) -> Vec<String> {
    let info = &block.info;
    let granted: Vec<_> = info.granted.iter().map(ToString::to_string).collect();
    vec![
        info.name.to_string(),
        owner(info.owner),
        key(&info.key),
        size(info.size),
        size(block.provided),
        format!("{:#x}", info.addr),
        block.file.clone(),
        cell((!granted.is_empty()).then(|| granted.join(","))),
    ]
}

fn actor_row(actor: &SurveyedActor) -> Vec<String> {
    vec![
        actor.name.to_string(),
        actor.gid.to_string(),
        kind(actor).into(),
        actor.life.to_string(),
        actor.restarts.to_string(),
        cell(actor.running.map(|running| running.aid.to_string())),
        cell(actor.running.map(|running| running.pid.to_string())),
        if actor.clean { "clean" } else { NOTHING }.into(),
        actor.file.clone(),
    ]
}

fn kind(actor: &SurveyedActor) -> &'static str {
    if actor.direct { "direct" } else { "indirect" }
}

fn owner(owner: Owner) -> String {
    match owner {
        Owner::Group(gid) => format!("group {gid}"),
        Owner::Ordinary => "ordinary".into(),
        Owner::Site => "site".into(),
    }
}

/// A key: `group`, or its bytes in hexadecimal up to the zeros at its end.
fn key(key: &DeletionKey) -> String {
    match key {
        DeletionKey::Group => "group".into(),
        DeletionKey::Opaque(bytes) => {
            let end = bytes.iter().rposition(|byte| *byte != 0);
            let bytes = bytes.iter().take(end.map_or(1, |at| at + 1));
            bytes.map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

/// The bank as `show --json` prints it.
#[derive(Serialize)]
struct BankView<'a> {
    bank: String,
    medium: &'static str,
    version: u32,
    size: u64,
    used: u64,
    window_base: u64,
    window_size: u64,
    page_size: u32,
    catalogue_size: u64,
    max_blocks: u32,
    max_actors: u32,
    max_groups: u32,
    openings: u64,
    opened_by: u32,
    boot_id: &'a str,
    this_boot: bool,
    aid_floor: u32,
    held: bool,
    held_by: Option<u32>,
    steady: bool,
    blocks: Vec<BlockView<'a>>,
    registrations: Vec<ActorView<'a>>,
    unfinished: Option<&'a str>,
    next_start: &'a [String],
    /// Why no site of this machine starts on it, damage or not.
    refused: Option<&'a str>,
    damage: Vec<DamageView<'a>>,
    foreign: &'a [String],
}

#[derive(Serialize)]
struct BlockView<'a> {
    name: String,
    addr: u64,
    size: u64,
    owner: String,
    gid: Option<u32>,
    group_key: bool,
    key: String,
    granted: Vec<u32>,
    file: &'a str,
    file_size: u64,
    provided: u64,
}

#[derive(Serialize)]
struct ActorView<'a> {
    name: String,
    gid: u32,
    kind: &'static str,
    life: u32,
    restarts: u32,
    clean: bool,
    running: Option<RunningView>,
    file: &'a str,
    file_size: u64,
}

/// What the bank knows a life by that ran when it was noted.
#[derive(Serialize)]
struct RunningView {
    aid: u32,
    pid: u32,
    start_time: u64,
    capability: String,
}

#[derive(Serialize)]
struct DamageView<'a> {
    what: &'a str,
    offset: Option<u64>,
    stops_start: bool,
    mend: &'a str,
}

impl<'a> BankView<'a> {
    fn of(survey: &'a Survey) -> Self {
        let (sizes, last) = (&survey.sizes, &survey.last);
        Self {
            bank: survey.dir.display().to_string(),
            medium: medium(survey),
            version: survey.version,
            size: sizes.size,
            used: survey.used,
            window_base: sizes.window_base,
            window_size: sizes.window_size,
            page_size: sizes.page_size,
            catalogue_size: sizes.catalogue,
            max_blocks: sizes.max_blocks,
            max_actors: sizes.max_actors,
            max_groups: sizes.max_groups,
            openings: last.openings,
            opened_by: last.pid,
            boot_id: &last.boot_id,
            this_boot: last.this_boot,
            aid_floor: last.aid_floor.0,
            held: survey.held_by.is_some(),
            held_by: survey.held_by.flatten(),
            steady: survey.steady,
            blocks: survey.blocks.iter().map(BlockView::of).collect(),
            registrations: survey.actors.iter().map(ActorView::of).collect(),
            unfinished: survey.intent.as_deref(),
            next_start: &survey.recovery,
            refused: survey.refusal.as_deref(),
            damage: survey.damage.iter().map(DamageView::of).collect(),
            foreign: &survey.foreign,
        }
    }
}

impl<'a> BlockView<'a> {
    fn of(block: &'a SurveyedBlock) -> Self {
        let info = &block.info;
        Self {
            name: info.name.to_string(),
            addr: info.addr,
            size: info.size,
            owner: owner(info.owner),
            gid: match info.owner {
                Owner::Group(gid) => Some(gid.0),
                _ => None,
            },
            group_key: info.key == DeletionKey::Group,
            key: key(&info.key),
            granted: info.granted.iter().map(|gid| gid.0).collect(),
            file: &block.file,
            file_size: block.file_size,
            provided: block.provided,
        }
    }
}

impl<'a> ActorView<'a> {
    fn of(actor: &'a SurveyedActor) -> Self {
        Self {
            name: actor.name.to_string(),
            gid: actor.gid.0,
            kind: kind(actor),
            life: actor.life.0,
            restarts: actor.restarts,
            clean: actor.clean,
            running: actor.running.map(|running| RunningView {
                aid: running.aid.0,
                pid: running.pid,
                start_time: running.start_time,
                capability: running.capability.to_string(),
            }),
            file: &actor.file,
            file_size: actor.file_size,
        }
    }
}

impl<'a> DamageView<'a> {
    fn of(damage: &'a Damage) -> Self {
        Self {
            what: &damage.what,
            offset: damage.offset,
            stops_start: damage.stops_start,
            mend: &damage.mend,
        }
    }
}
