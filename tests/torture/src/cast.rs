//! Who is tortured: actors of all kinds, alone, in groups of three and eight, direct, indirect and
//! ordinary. The same cast in every run: a seed replays on it.
//!
//! Called by everybody; it holds no process and knows no site.

/// What a program is made of, which decides how it can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// `actors/victim`, Rust.
    Rust,
    /// `actors/victim.c`, linked dynamically.
    C,
    /// The same, linked statically: its lives start by exec.
    Static,
    /// `actors/victim.py`, run by python3.
    Python,
    /// `actors/victim.sh`, a script with an interpreter line.
    Shell,
}

/// How an actor comes to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Run with `arun -g`, and again whenever it is gone.
    Direct,
    /// Run by the member of this index with `hrfexec`.
    Indirect(usize),
    /// Run without a group, and again whenever it is gone.
    Ordinary,
    /// As `Direct`, but run and killed by steps of their own.
    Extra,
}

/// An actor.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its group; `None` for an ordinary actor.
    pub gid: Option<u32>,
    /// Its place among the members of its group.
    pub place: usize,
    /// What its program is.
    pub body: Body,
    /// How it comes to be.
    pub role: Role,
    /// What the program is told to be; see the programs in `actors/`.
    pub flags: &'static str,
    /// Options of `arun`.
    pub options: &'static [&'static str],
}

impl Member {
    /// Whether the program has this flag.
    #[must_use]
    pub fn has(&self, flag: char) -> bool {
        self.flags.contains(flag)
    }
}

/// All of them; an index into this names an actor, and its slot of the record.
#[derive(Clone, Debug)]
pub struct Cast {
    /// The actors.
    pub members: Vec<Member>,
}

/// `p` in the flags below: it listens on a port. No program looks at that one.
const ALONE: &[(Body, &str, &[&str])] = &[
    (Body::Rust, "l", &[]),
    (Body::Rust, "lp", &[]),
    (Body::Rust, "lt", &[]),
    (Body::Rust, "lb", &[]),
    (Body::Rust, "lq", &[]),
    (Body::Rust, "lqbp", &[]),
    (Body::Rust, "lk", &[]),
    (Body::Rust, "lpkb", &[]),
    (Body::Rust, "l", &["--notice", "kernel"]),
    (Body::Rust, "lb", &["--layout", "fresh"]),
    (Body::Rust, "lw", &[]),
    (Body::Rust, "lf", &[]),
    (Body::Rust, "", &[]),
    (Body::Rust, "pt", &[]),
    (Body::Rust, "w", &[]),
    (Body::C, "", &[]),
    (Body::C, "p", &[]),
    (Body::C, "t", &[]),
    (Body::C, "kp", &[]),
    (Body::C, "ktp", &[]),
    (Body::C, "", &["--notice", "kernel"]),
    (Body::C, "p", &["--layout", "fresh"]),
    (Body::Static, "", &[]),
    (Body::Static, "kp", &[]),
    (Body::Python, "", &[]),
    (Body::Python, "w", &[]),
    (Body::Shell, "", &[]),
    (Body::Shell, "", &[]),
];

const TRIOS: &[[(Body, &str); 3]] = &[
    [(Body::Rust, "l"), (Body::C, "p"), (Body::Rust, "l")],
    [(Body::Rust, "lb"), (Body::Rust, "lt"), (Body::Shell, "")],
    [(Body::C, ""), (Body::Static, ""), (Body::Rust, "lp")],
];

const OCTET: [(Body, &str); 8] = [
    (Body::Rust, "l"),
    (Body::Rust, "lb"),
    (Body::Rust, "lpq"),
    (Body::C, "p"),
    (Body::C, "k"),
    (Body::C, "t"),
    (Body::Rust, ""),
    (Body::Rust, "l"),
];

const EXTRAS: usize = 4;

impl Default for Cast {
    fn default() -> Self {
        let mut cast = Self {
            members: Vec::new(),
        };
        let mut gid = 0;
        for (body, flags, options) in ALONE {
            gid += 1;
            cast.add("a", Some(gid), (*body, flags), Role::Direct, options);
        }
        for trio in TRIOS {
            gid += 1;
            for actor in trio {
                cast.add("t", Some(gid), *actor, Role::Direct, &[]);
            }
        }
        // The first trio's last member is run by its first.
        let last = cast.group(gid - 2).last().expect("three members");
        cast.members[last].role = Role::Indirect(last - 2);
        gid += 1;
        for actor in OCTET {
            cast.add("o", Some(gid), actor, Role::Direct, &[]);
        }
        let last = cast.group(gid).last().expect("eight members");
        cast.members[last].role = Role::Indirect(last - 7);
        cast.add("n", None, (Body::C, "p"), Role::Ordinary, &[]);
        cast.add("n", None, (Body::Shell, ""), Role::Ordinary, &[]);
        for _ in 0..EXTRAS {
            gid += 1;
            cast.add("x", Some(gid), (Body::C, "kp"), Role::Extra, &[]);
        }
        cast
    }
}

impl Cast {
    fn add(
        &mut self,
        kind: &str,
        gid: Option<u32>,
        (body, flags): (Body, &'static str),
        role: Role,
        options: &'static [&'static str],
    ) {
        let place = gid.map_or(0, |gid| self.group(gid).count());
        self.members.push(Member {
            name: format!("{kind}{}", self.members.len()),
            gid,
            place,
            body,
            role,
            flags,
            options,
        });
    }

    /// The members of a group.
    pub fn group(&self, gid: u32) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(move |&index| self.members[index].gid == Some(gid))
    }

    /// Everybody who restarts with `index`: its group, or itself.
    #[must_use]
    pub fn fellows(&self, index: usize) -> Vec<usize> {
        match self.members[index].gid {
            Some(gid) => self.group(gid).collect(),
            None => vec![index],
        }
    }

    /// Whether it is alone in its group.
    #[must_use]
    pub fn is_single(&self, index: usize) -> bool {
        self.members[index].gid.is_some() && self.fellows(index).len() == 1
    }

    /// Whom `index` runs.
    #[must_use]
    pub fn run_by(&self, index: usize) -> Option<usize> {
        let mut all = 0..self.members.len();
        all.find(|&other| self.members[other].role == Role::Indirect(index))
    }

    /// The one that fills the bank.
    #[must_use]
    pub fn filler(&self) -> usize {
        let found = self.members.iter().position(|member| member.has('f'));
        found.expect("somebody has the flag f")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::SLOTS;

    #[test]
    fn there_are_dozens_of_actors_of_all_kinds_and_a_slot_for_each() {
        let cast = Cast::default();
        assert!((40..=SLOTS).contains(&cast.members.len()));
        let sizes = (1..100).map(|gid| cast.group(gid).count());
        assert_eq!(
            sizes.filter(|size| *size > 1).collect::<Vec<_>>(),
            [3, 3, 3, 8]
        );
        let runs = cast
            .members
            .iter()
            .filter(|m| matches!(m.role, Role::Indirect(_)));
        assert_eq!(runs.count(), 2);
        for (index, member) in cast.members.iter().enumerate() {
            if let Role::Indirect(by) = member.role {
                assert_eq!(cast.run_by(by), Some(index));
                assert_eq!(cast.members[by].gid, member.gid);
                assert!(cast.members[by].has('l'), "only the library has hrfexec");
            }
        }
    }
}
