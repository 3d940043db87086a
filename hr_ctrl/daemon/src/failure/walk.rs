//! From a record to frames with names.
//!
//! Called by [`super::explain`]. It must never show a word of the stack as an address unless mapped
//! code is there, and it always ends: after a fixed number of frames and of bytes read.

use std::collections::HashMap;

use super::elf::Elf;
use super::maps::{Mapping, Objects};
use super::record::Record;
use super::unwind::{End, Registers, Stack};
use super::{Frame, names};

/// How many frames are told. An endless recursion has more of them than anybody reads.
const MAX_FRAMES: usize = 32;
/// How much is read from all files together, in bytes.
const MAX_READ: u64 = 256 << 20;

/// The frames of a life, its last instruction first; there is always that one.
pub(super) fn backtrace(record: &Record, objects: &Objects) -> Vec<Frame> {
    let mut files = Files {
        objects,
        read: HashMap::new(),
        budget: MAX_READ,
    };
    let stack = Stack::of(record);
    let mut registers = Registers::of(record);
    let mut frames = vec![files.frame(&registers)];
    while frames.len() < MAX_FRAMES {
        let Some(caller) = files.caller(&registers, stack, frames.len() == 1) else {
            break;
        };
        frames.push(files.frame(&caller));
        registers = caller;
    }
    frames
}

/// The files behind the frames, each read once.
struct Files<'a> {
    objects: &'a Objects,
    read: HashMap<((u32, u32), u64), Option<Elf>>,
    budget: u64,
}

impl Files<'_> {
    /// The frame that called this one, if there is one and it is in code that is known.
    fn caller(&mut self, frame: &Registers, stack: Stack, innermost: bool) -> Option<Registers> {
        let objects = self.objects;
        let in_code = |caller: &Registers| objects.at(caller.lookup()).is_some();
        let lookup = frame.lookup();
        let Some(mapping) = objects.at(lookup) else {
            let called = innermost.then(|| frame.after_bad_call(stack)).flatten();
            let chained = || frame.by_frame_pointer(stack).filter(in_code);
            return called.filter(in_code).or_else(chained);
        };
        let by_table = match self.place(mapping, lookup) {
            Some((elf, address)) => frame.by_table(elf, address, stack),
            None => Err(End::NotInTable),
        };
        let caller = match by_table {
            Ok(caller) => Some(caller),
            Err(End::NotInTable) => frame.by_frame_pointer(stack),
            Err(End::NoCaller) => None,
        };
        caller.filter(in_code)
    }

    fn frame(&mut self, registers: &Registers) -> Frame {
        let address = registers.instruction;
        let lookup = registers.lookup();
        let mut frame = Frame {
            address,
            object: String::new(),
            offset: 0,
            function: None,
            function_offset: 0,
        };
        let Some(mapping) = self.objects.at(lookup) else {
            return frame;
        };
        let past = address.wrapping_sub(lookup);
        frame.object = mapping.name();
        frame.offset = mapping.file_offset(lookup).wrapping_add(past);
        if let Some((elf, inside)) = self.place(mapping, lookup) {
            frame.offset = inside.wrapping_add(past);
            if let Some((name, start)) = elf.function(inside) {
                frame.function = names::function(name);
                frame.function_offset = frame.offset.wrapping_sub(start);
            }
        }
        frame
    }

    /// The file behind a mapping, and an address as that file counts it.
    fn place(&mut self, mapping: &Mapping, address: u64) -> Option<(&Elf, u64)> {
        let Self {
            objects,
            read,
            budget,
        } = self;
        let elf = read
            .entry(mapping.file())
            .or_insert_with(|| Elf::read(&objects.open(mapping)?, budget))
            .as_ref()?;
        Some((elf, elf.address(mapping.file_offset(address))?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::elf::tests::{file_of, loader};
    use super::super::maps::tests::of_file;
    use super::super::record::tests::record;
    use super::*;

    const START: u64 = 0x10_0000;
    const END: u64 = 0x20_0000;

    #[test]
    fn a_call_to_nowhere_names_its_caller() {
        let objects = of_file(file_of(b"no program"), START..END);
        let frames = backtrace(&record(0, 0x7000, &[START + 5, 7, 8]), &objects);
        assert_eq!((frames.len(), frames[0].object.as_str()), (2, ""));
        assert_eq!(frames[1].to_string(), "crash+0x5");
    }

    #[test]
    fn frame_pointers_are_followed_where_there_is_no_table() {
        let objects = of_file(file_of(b"no program"), START..END);
        let words = [0x7010, START + 5, 0x7020, START + 6, 0, 0];
        let frames = backtrace(&record(START, 0x7000, &words), &objects);
        let offsets: Vec<u64> = frames.iter().map(|frame| frame.offset).collect();
        assert_eq!(offsets, [0, 5, 6]);
    }

    #[test]
    fn a_word_that_is_no_code_is_not_shown() {
        let objects = of_file(file_of(b"no program"), START..END);
        let secret = 0x5ec2_e700_5ec2_e700;
        for instruction in [0, START] {
            let frames = backtrace(&record(instruction, 0x7000, &[secret; 20]), &objects);
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].address, instruction);
        }
    }

    #[test]
    fn frames_that_lead_to_themselves_end() {
        let objects = of_file(file_of(b"no program"), START..END);
        let words: Vec<u64> = (0..300)
            .flat_map(|n| [0x7010 + 16 * n, START + 5])
            .collect();
        let frames = backtrace(&record(START, 0x7000, &words), &objects);
        assert_eq!(frames.len(), MAX_FRAMES);
        let frames = backtrace(&record(START, 0x7000, &[0x7000, START + 5]), &objects);
        assert_eq!(frames.len(), 2);
    }

    #[test]
    fn without_a_template_the_instruction_is_all() {
        let frames = backtrace(&record(5, 0x7000, &[1, 2]), &Objects::unknown());
        assert_eq!((frames.len(), frames[0].address), (1, 5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn any_record_is_explained(
            instruction in prop_oneof![any::<u64>(), START..END],
            stack_pointer in prop_oneof![any::<u64>(), 0x7000..0x7100_u64],
            words in prop::collection::vec(
                prop_oneof![any::<u64>(), START..END, 0x7000..0x7a00_u64], 0..320),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..100),
            damaged_header in prop::collection::vec((0..64_usize, any::<u8>()), 0..3),
        ) {
            let mut file = loader();
            // Half of it near the end, where the table of sections is.
            let tail = file.len() - 3000;
            for (n, (at, byte)) in damage.into_iter().enumerate() {
                let at = if n % 2 == 0 { at.index(file.len()) } else { tail + at.index(3000) };
                file[at] = byte;
            }
            for (at, byte) in damaged_header {
                file[at] = byte;
            }
            let objects = of_file(file_of(&file), START..END);
            let frames = backtrace(&record(instruction, stack_pointer, &words), &objects);
            prop_assert!((1..=MAX_FRAMES).contains(&frames.len()));
            prop_assert!(frames[1..].iter().all(|frame| (START..=END).contains(&frame.address)));
        }

        #[test]
        fn any_file_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for head in [&b""[..], b"\x7fELF\x02\x01\x01"] {
                let objects = of_file(file_of(&[head, &bytes].concat()), START..END);
                prop_assert_eq!(backtrace(&record(START, 0x7000, &[]), &objects).len(), 1);
            }
        }
    }
}
