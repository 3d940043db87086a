//! What came of a target, in a line, and at a finding what the engine had to say about it.

use refrain_fuzz::Target;

use crate::run::Outcome;

/// Says it.
pub fn say(target: &Target, outcome: &anyhow::Result<Outcome>) {
    match outcome {
        Ok(it) if it.sound => println!(
            "{:<14} {:>9} inputs, {:>6} edges, {:>4} MiB: nothing found",
            target.name, it.inputs, it.edges, it.memory
        ),
        Ok(it) if it.killed.is_some() => println!(
            "{:<14} killed from outside by signal {}: run it again",
            target.name,
            it.killed.unwrap_or_default()
        ),
        Ok(it) => {
            println!("{:<14} {:>9} inputs: A FINDING", target.name, it.inputs);
            it.last_words.iter().for_each(|line| println!("    {line}"));
        }
        Err(why) => println!("{:<14} could not run: {why:#}", target.name),
    }
}
