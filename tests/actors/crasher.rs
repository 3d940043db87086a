//! A test actor that knows nothing of Refrain: it does what its command line says (see
//! `script/mod.rs`) and is run as a restartable actor like any stock program.

mod script;

use script::{Script, Step};

fn main() {
    let mut script = Script::from_args();
    while let Some(word) = script.word() {
        match script.step(word) {
            Step::Done => {}
            Step::Return => return,
            Step::Other(word) => panic!("{word}: not a word of the script"),
        }
    }
}
