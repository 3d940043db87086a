//! `memstat` and `chorusStat`: persistent memory, and the site's figures (SPEC C2).

use std::fmt::Write as _;

use clap::Args;
use hr_ctrl::site::{GroupRow, MemoryInfo, SiteStat};

use super::aps::json;
use super::{CommandError, Flow, Outcome};
use crate::interpreter::Context;
use crate::table::{cell, columns, size, span};

/// `memstat`: shows persistent memory.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "memstat [--json]")]
pub struct Memstat {
    /// an object, for programs; sizes in bytes
    #[arg(long)]
    pub json: bool,
}

impl Memstat {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let memory = cx.site()?.memory().await.map_err(CommandError::failed)?;
        cx.out(if self.json {
            json(&memory)?
        } else {
            memory_text(&memory)
        });
        Ok(Flow::Next)
    }
}

fn memory_text(memory: &MemoryInfo) -> String {
    let mut text = format!("bank    {} ({})\n", memory.bank, memory.medium);
    let _ = writeln!(text, "size    {}", size(memory.size));
    let _ = writeln!(text, "used    {}", size(memory.used));
    let _ = writeln!(text, "images  {}", size(memory.images));
    let _ = writeln!(
        text,
        "blocks  {} of {}",
        memory.blocks.len(),
        memory.max_blocks
    );
    if !memory.blocks.is_empty() {
        let rows = memory.blocks.iter().map(|block| {
            let key = if block.group_key { "group" } else { "own" };
            let addr = format!("{:#x}", block.addr);
            vec![
                block.name.clone(),
                cell(block.gid),
                key.to_owned(),
                size(block.size),
                addr,
            ]
        });
        text += "\n";
        text += &columns(
            &["BLOCK", "GID", "KEY", "SIZE", "ADDRESS"],
            &rows.collect::<Vec<_>>(),
        );
    }
    text
}

/// `chorusStat`: shows the site's figures.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "chorusStat [--json]")]
pub struct ChorusStat {
    /// an object, for programs; times in milliseconds
    #[arg(long)]
    pub json: bool,
}

impl ChorusStat {
    pub(crate) async fn run(&self, cx: &Context<'_>) -> Outcome {
        let stat = cx.site()?.stat().await.map_err(CommandError::failed)?;
        cx.out(if self.json {
            json(&stat)?
        } else {
            site_text(&stat)
        });
        Ok(Flow::Next)
    }
}

fn site_text(stat: &SiteStat) -> String {
    let mut text = format!("site            {} (Refrain {})\n", stat.site, stat.version);
    let _ = writeln!(text, "nucleus         pid {}", stat.nucleus);
    let _ = writeln!(text, "hr_ctrl         pid {}", stat.hr_ctrl);
    let _ = writeln!(text, "uptime          {}", span(stat.uptime_ms));
    let _ = writeln!(text, "adoptions       {}", stat.hr_ctrl_restarts);
    let _ = writeln!(text, "site restarts   {}", stat.site_restarts);
    let _ = writeln!(text, "group restarts  {}", stat.group_restarts);
    let _ = writeln!(
        text,
        "actors          {} of {}",
        stat.actors, stat.max_actors
    );
    let _ = writeln!(text, "containment     {}", stat.containment);
    if !stat.groups.is_empty() {
        let rows = stat.groups.iter().map(|group| {
            let figures = [group.gid, group.members, group.alive, group.badness];
            let mut row: Vec<_> = figures.iter().map(ToString::to_string).collect();
            row.push(group.restarts.to_string());
            row.push(group.state.to_owned());
            row.push(standing(group));
            row
        });
        text += "\n";
        text += &columns(
            &[
                "GID", "MEMBERS", "ALIVE", "BADNESS", "RESTARTS", "STATE", "POLICY",
            ],
            &rows.collect::<Vec<_>>(),
        );
    }
    text
}

/// What the policy of a group does to it at the moment.
fn standing(group: &GroupRow) -> String {
    match (&group.gave_up, group.waits_ms) {
        (Some(why), _) => why.clone(),
        (None, Some(ms)) => format!("attempt {} in {ms} ms", group.attempts),
        (None, None) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hr_ctrl::site::BlockRow;

    use super::*;

    #[test]
    fn c2_memstat_shows_the_bank_and_every_block() {
        let block = BlockRow {
            name: "counter".into(),
            addr: 0x1000_0000_0000,
            size: 4096,
            gid: Some(1),
            group_key: true,
        };
        let memory = MemoryInfo {
            bank: "/run/refrain/default".into(),
            medium: "RAM",
            size: 64 << 20,
            used: 4096,
            max_blocks: 4096,
            images: 1 << 20,
            blocks: vec![block],
        };
        let text = memory_text(&memory);
        assert!(
            text.contains("size    64MiB\n") && text.contains("blocks  1 of 4096\n"),
            "{text}"
        );
        assert!(
            text.contains("counter  1    group  4KiB  0x100000000000\n"),
            "{text}"
        );
    }

    #[test]
    fn c2_chorus_stat_shows_the_groups() {
        let group = GroupRow {
            gid: 3,
            members: 2,
            alive: 1,
            badness: 4,
            restarts: 9,
            state: "steady",
            attempts: 0,
            waits_ms: None,
            gave_up: None,
        };
        let waiting = GroupRow {
            gid: 4,
            state: "delayed",
            attempts: 2,
            waits_ms: Some(400),
            ..group.clone()
        };
        let stat = SiteStat {
            site: "x".into(),
            version: "0.1.0",
            nucleus: 10,
            hr_ctrl: 11,
            uptime_ms: 61_000,
            site_restarts: 0,
            hr_ctrl_restarts: 0,
            group_restarts: 9,
            actors: 2,
            max_actors: 1024,
            containment: "sweep",
            groups: vec![group, waiting],
        };
        let text = site_text(&stat);
        assert!(text.contains("uptime          1m01s\n"), "{text}");
        let rows: Vec<Vec<_>> = text
            .lines()
            .rev()
            .take(2)
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1], ["3", "2", "1", "4", "9", "steady", "-"]);
        assert!(text.ends_with("delayed  attempt 2 in 400 ms\n"), "{text}");
    }
}
