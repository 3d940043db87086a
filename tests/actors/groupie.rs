//! A test actor that links `refrain`: the words of `script/mod.rs`, and these.
//!
//! | words | meaning |
//! | --- | --- |
//! | `alloc NAME SIZE KEY` | `pmm_allocate`; KEY is `group` or any text |
//! | `add NAME` | add one to the first word of the block and say it |
//! | `crash-until NAME N` | add one; while it is less than N end by SIGABRT, else go on |
//! | `point NAME` | keep the address of the block's first word in its second, or compare it |
//! | `fill NAME`, `sum NAME` | one to every word of the block; say their sum |
//! | `free NAME`, `free-all KEY`, `grant NAME GID` | `pmm_free`, `pmm_free_all`, `pmm_grant` |
//! | `stdout FILE` | what is spawned from now on gets FILE for its stdout |
//! | `spawn NAME PATH ARG... ;` | `hrfexec`; an ARG `;;` is passed as `;` |
//! | `clean` | `hr_exit_hdl` |
//! | `group-of AID`, `kill-group GID`, `shutdown LEVEL` | `self` stands for one's own aid or gid |
//! | `promise MS` | `promise_progress` |
//! | `beat FILE` | `progress` again and again, until there is such a file |
//! | `whoami` | say aid, gid, life and capability |
//!
//! A refusal is said as `error WORD: TEXT`, and the script goes on.

mod script;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use refrain::{Aid, Block, DeletionKey, Exec, Gid};
use script::{Script, Step};

struct Groupie {
    script: Script,
    blocks: BTreeMap<String, Block>,
    stdout: Option<File>,
}

fn main() {
    let mut groupie = Groupie {
        script: Script::from_args(),
        blocks: BTreeMap::new(),
        stdout: None,
    };
    while let Some(word) = groupie.script.word() {
        match groupie.script.step(word) {
            Step::Done => {}
            Step::Return => return,
            Step::Other(word) => match groupie.word(&word) {
                Ok(Some(line)) => groupie.script.say(&line),
                Ok(None) => {}
                Err(error) => groupie.script.say(&format!("error {word}: {error}")),
            },
        }
    }
}

fn key(text: &str) -> DeletionKey {
    if text == "group" {
        return refrain::HR_GROUP_KEY;
    }
    DeletionKey::opaque(text.as_bytes()).expect("the key is short enough")
}

fn text(error: impl Display) -> String {
    error.to_string()
}

impl Groupie {
    fn word(&mut self, word: &str) -> Result<Option<String>, String> {
        match word {
            "alloc" => self.alloc().map(Some),
            "add" | "crash-until" | "point" | "fill" | "sum" => self.use_block(word),
            "free" | "free-all" | "grant" => self.release(word).map(Some),
            "stdout" => {
                let path = self.script.operand();
                self.stdout = Some(File::create(path).expect("the file can be made"));
                Ok(None)
            }
            "spawn" => self.spawn().map(Some),
            "promise" => {
                let period = Duration::from_millis(self.script.number());
                let promised = refrain::promise_progress(period);
                promised.map(|()| None).map_err(text)
            }
            "beat" => {
                let until = self.script.operand();
                while !Path::new(&until).exists() {
                    refrain::progress().map_err(text)?;
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(None)
            }
            "clean" => refrain::hr_exit_hdl().map(|()| None).map_err(text),
            "group-of" | "kill-group" | "shutdown" | "whoami" => self.ask(word),
            _ => panic!("{word}: not a word of the script"),
        }
    }

    fn alloc(&mut self) -> Result<String, String> {
        let name = self.script.operand();
        let size = self.script.number();
        let key = key(&self.script.operand());
        let block = refrain::pmm_allocate(&name, size, key).map_err(text)?;
        let line = format!(
            "block {name} addr={:#x} size={} existed={}",
            block.as_ptr().as_ptr() as usize,
            block.len(),
            block.existed()
        );
        self.blocks.insert(name, block);
        Ok(line)
    }

    fn use_block(&mut self, word: &str) -> Result<Option<String>, String> {
        let name = self.script.operand();
        let goal = if word == "crash-until" {
            self.script.number()
        } else {
            0
        };
        let block = self.blocks.get(&name).ok_or("not allocated in this life")?;
        let first = &block.words()[0];
        match word {
            "add" => Ok(Some(format!("{name} = {}", first.fetch_add(1, SeqCst) + 1))),
            "crash-until" => {
                if first.fetch_add(1, SeqCst) + 1 < goal {
                    std::process::abort();
                }
                Ok(Some(format!("{name} reached {goal}")))
            }
            "point" => {
                let (here, kept) = (first.as_ptr() as u64, block.words()[1].load(SeqCst));
                block.words()[1].store(here, SeqCst);
                let verdict = if kept == 0 {
                    "kept"
                } else if kept == here {
                    "same"
                } else {
                    "moved"
                };
                Ok(Some(format!("pointer {verdict}")))
            }
            "fill" => {
                block.words().iter().for_each(|word| word.store(1, SeqCst));
                Ok(Some(format!("filled {name}")))
            }
            _ => {
                let sum: u64 = block.words().iter().map(|word| word.load(SeqCst)).sum();
                Ok(Some(format!("sum {name} = {sum}")))
            }
        }
    }

    fn release(&mut self, word: &str) -> Result<String, String> {
        let what = self.script.operand();
        match word {
            "free" => refrain::pmm_free(&what).map(|()| format!("freed {what}")),
            "free-all" => {
                refrain::pmm_free_all(key(&what)).map(|count| format!("freed {count} of {what}"))
            }
            _ => {
                let gid = Gid(u32::try_from(self.script.number()).expect("a gid"));
                refrain::pmm_grant(&what, gid).map(|()| format!("granted {what} to {gid}"))
            }
        }
        .map_err(text)
    }

    fn spawn(&mut self) -> Result<String, String> {
        let name = self.script.operand();
        let mut exec = Exec::new(self.script.operand()).name(&name);
        while let Some(word) = self.script.word()
            && word != ";"
        {
            exec = exec.arg(if word == ";;" { ";" } else { &word });
        }
        if let Some(file) = &self.stdout {
            exec = exec.stdout(file.as_fd());
        }
        let aid = exec.spawn().map_err(text)?;
        Ok(format!("spawned {name} aid={aid}"))
    }

    fn ask(&mut self, word: &str) -> Result<Option<String>, String> {
        let me = refrain::attach().map_err(text)?;
        let my_gid = me.gid().map_or(u32::MAX, |gid| gid.0);
        let mut operand = |own: u32| {
            let text = self.script.operand();
            if text == "self" {
                own
            } else {
                text.parse().expect("a number or self")
            }
        };
        match word {
            "whoami" => Ok(Some(format!(
                "aid={} gid={my_gid} life={} capability={}",
                me.aid(),
                me.life(),
                me.capability()
            ))),
            "group-of" => {
                let aid = Aid(operand(me.aid().0));
                let gid = refrain::hr_get_actor_group(aid).map_err(text)?;
                let shown = gid.map_or("none".to_owned(), |gid| gid.to_string());
                Ok(Some(format!("group of {aid} is {shown}")))
            }
            "kill-group" => {
                refrain::hr_kill_group(Gid(operand(my_gid))).map_err(text)?;
                Ok(Some("killed".to_owned()))
            }
            _ => {
                refrain::sys_shutdown(operand(1)).map_err(text)?;
                Ok(Some("shutting down".to_owned()))
            }
        }
    }
}
