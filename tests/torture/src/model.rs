//! What must be: for each actor what is known of it, what a step makes due, and the comparison of that
//! with what the site and the actor's own evidence say.
//!
//! Pure: called by the settling of a step, with rows and evidence that it has got. It must never be
//! lenient where a step leaves no doubt.

use serde::Deserialize;

/// What the model reads of a row of `aps --json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Row {
    /// The actor.
    pub name: String,
    /// Its group.
    pub gid: Option<u32>,
    /// The life's aid.
    pub aid: Option<u32>,
    /// The life's pid.
    pub pid: Option<u32>,
    /// "running", "clean" ...
    pub state: String,
    /// The number of the life.
    pub life: Option<u32>,
    /// How the last life ended.
    pub last_end: Option<String>,
    /// How long the life has run, in milliseconds.
    pub uptime_ms: Option<u64>,
}

/// What an actor has written down about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Evidence {
    /// How many lives have begun.
    pub begun: u64,
    /// The number of the present one.
    pub life: u64,
    /// Its pid.
    pub pid: u64,
    /// The last ping that was answered.
    pub pong: u64,
    /// How often something was wrong, what, and a number beside it.
    pub wrong: (u64, u64, u64),
}

/// Whether there is such an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// A life runs.
    Runs,
    /// It has ended cleanly and is registered.
    Clean,
    /// It is not registered.
    Absent,
}

/// What is known of an actor since it was last at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whether there is one.
    pub stand: Stand,
    /// The number of its life.
    pub life: u32,
    /// The aid of its life.
    pub aid: u32,
    /// The pid of its life.
    pub pid: u32,
    /// How many lives had begun, by its own evidence.
    pub begun: u64,
    /// How long the life had run.
    pub uptime_ms: u64,
}

impl Known {
    /// Nothing yet.
    pub const NOTHING: Self = Self {
        stand: Stand::Absent,
        life: 0,
        aid: 0,
        pid: 0,
        begun: 0,
        uptime_ms: 0,
    };
}

/// What a step makes due for an actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing: the same life, if there is one.
    Same,
    /// Exactly so many lives more.
    Times(u32),
    /// Between so many and so many.
    Between(u32, u32),
    /// It ends cleanly and stays registered.
    Clean,
    /// It is gone.
    Gone,
    /// It is run anew: life 0.
    New,
}

/// What is known now, where everything that was due has come.
///
/// # Errors
/// What is not, or not yet, as it must be.
pub fn compare(
    known: &Known,
    due: Due,
    row: Option<&Row>,
    evidence: &Evidence,
) -> Result<Known, String> {
    let stand = match due {
        Due::Same => known.stand,
        Due::Times(_) | Due::Between(..) | Due::New => Stand::Runs,
        Due::Clean => Stand::Clean,
        Due::Gone => Stand::Absent,
    };
    let Some(row) = row else {
        let is_right = stand == Stand::Absent;
        let gone = Known { stand, ..*known };
        return is_right
            .then_some(gone)
            .ok_or_else(|| "it is not there".into());
    };
    let state = match stand {
        Stand::Runs => "running",
        Stand::Clean => "clean",
        Stand::Absent => return Err(format!("it is there still: {row:?}")),
    };
    if row.state != state {
        return Err(format!("it must be {state}: {row:?}"));
    }
    let life = row.life.ok_or("it has no life")?;
    if stand == Stand::Clean {
        let same = life == known.life && row.pid.is_none();
        let clean = Known { stand, ..*known };
        return same
            .then_some(clean)
            .ok_or_else(|| format!("it has lived on: {row:?}"));
    }
    compare_life(known, due, (row, life), evidence)
}

fn compare_life(
    known: &Known,
    due: Due,
    (row, life): (&Row, u32),
    evidence: &Evidence,
) -> Result<Known, String> {
    let (aid, pid) = row.aid.zip(row.pid).ok_or("its life has no aid or pid")?;
    let uptime_ms = row.uptime_ms.ok_or("its life has no uptime")?;
    let lives = u64::from(life.wrapping_sub(known.life));
    let begun = evidence.begun.wrapping_sub(known.begun);
    let (lives_due, begun_due) = match due {
        Due::Times(times) => (
            u64::from(times)..=u64::from(times),
            u64::from(times)..=u64::from(times),
        ),
        Due::Between(least, most) => (u64::from(least)..=u64::from(most), 1..=lives),
        Due::New => (lives..=lives, 1..=1),
        Due::Same | Due::Clean | Due::Gone => (0..=0, 0..=0),
    };
    let told = || format!("{row:?}, {evidence:?}, known {known:?}");
    if due == Due::New && life != 0 {
        return Err(format!("it was run anew and is in life {life}: {}", told()));
    }
    if !lives_due.contains(&lives) {
        return Err(format!("lives {lives_due:?} more are due: {}", told()));
    }
    if !begun_due.contains(&begun) {
        return Err(format!(
            "{begun_due:?} lives more must have begun: {}",
            told()
        ));
    }
    if (evidence.life, evidence.pid) != (u64::from(life), u64::from(pid)) {
        return Err(format!("another life says it is this one: {}", told()));
    }
    let same = (aid, pid) == (known.aid, known.pid) && uptime_ms >= known.uptime_ms;
    if due == Due::Same && !same {
        return Err(format!("it is another life: {}", told()));
    }
    if due != Due::Same && aid <= known.aid {
        return Err(format!("its aid is not new: {}", told()));
    }
    Ok(Known {
        stand: Stand::Runs,
        life,
        aid,
        pid,
        begun: evidence.begun,
        uptime_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known {
        stand: Stand::Runs,
        life: 3,
        aid: 40,
        pid: 500,
        begun: 4,
        uptime_ms: 100,
    };

    fn row(life: u32, aid: u32, pid: u32) -> Row {
        Row {
            name: "a".into(),
            gid: Some(1),
            aid: Some(aid),
            pid: Some(pid),
            state: "running".into(),
            life: Some(life),
            last_end: None,
            uptime_ms: Some(200),
        }
    }

    fn evidence(begun: u64, life: u64, pid: u64) -> Evidence {
        Evidence {
            begun,
            life,
            pid,
            ..Evidence::default()
        }
    }

    #[test]
    fn an_undisturbed_actor_is_the_same_life() {
        let same = |row: &Row| compare(&KNOWN, Due::Same, Some(row), &evidence(4, 3, 500));
        assert_eq!(same(&row(3, 40, 500)).map(|known| known.uptime_ms), Ok(200));
        assert!(same(&row(4, 41, 500)).is_err(), "restarted without cause");
        assert!(same(&row(3, 40, 501)).is_err(), "another life");
        let mut younger = row(3, 40, 500);
        younger.uptime_ms = Some(99);
        assert!(same(&younger).is_err(), "its uptime has begun again");
        assert!(
            compare(&KNOWN, Due::Same, None, &evidence(4, 3, 500)).is_err(),
            "lost"
        );
        let doubled = compare(
            &KNOWN,
            Due::Same,
            Some(&row(3, 40, 500)),
            &evidence(5, 3, 500),
        );
        assert!(doubled.is_err(), "somebody else has begun, too");
    }

    #[test]
    fn a_fault_is_followed_by_exactly_one_life() {
        let once = |row: &Row, found| compare(&KNOWN, Due::Times(1), Some(row), &found);
        assert!(once(&row(4, 41, 501), evidence(5, 4, 501)).is_ok());
        assert!(
            once(&row(3, 40, 500), evidence(4, 3, 500)).is_err(),
            "not yet"
        );
        assert!(
            once(&row(5, 42, 502), evidence(6, 5, 502)).is_err(),
            "one too many"
        );
        assert!(
            once(&row(4, 41, 501), evidence(6, 4, 501)).is_err(),
            "two at once"
        );
        assert!(
            once(&row(4, 40, 501), evidence(5, 4, 501)).is_err(),
            "the aid is stale"
        );
        assert!(
            once(&row(4, 41, 501), evidence(5, 4, 502)).is_err(),
            "a stranger"
        );
    }

    #[test]
    fn a_pile_of_faults_is_followed_by_no_more_lives_than_there_were_faults() {
        let some = |life: u32, begun| {
            let found = evidence(begun, life.into(), 501);
            compare(
                &KNOWN,
                Due::Between(1, 3),
                Some(&row(life, 99, 501)),
                &found,
            )
            .is_ok()
        };
        assert!(some(4, 5) && some(6, 7));
        assert!(some(6, 5), "two were killed before they had begun");
        assert!(!some(3, 4) && !some(7, 8) && !some(4, 6));
    }

    #[test]
    fn what_is_gone_or_clean_or_new_is_known_as_such() {
        let nobody = Evidence::default();
        assert!(compare(&KNOWN, Due::Gone, None, &nobody).is_ok());
        assert!(compare(&KNOWN, Due::Gone, Some(&row(3, 40, 500)), &nobody).is_err());
        let mut clean = row(3, 40, 500);
        (clean.state, clean.pid) = ("clean".into(), None);
        assert!(compare(&KNOWN, Due::Clean, Some(&clean), &nobody).is_ok());
        let found = evidence(5, 0, 501);
        assert!(compare(&KNOWN, Due::New, Some(&row(0, 41, 501)), &found).is_ok());
        assert!(compare(&KNOWN, Due::New, Some(&row(1, 41, 501)), &found).is_err());
    }
}
