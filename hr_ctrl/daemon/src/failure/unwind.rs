//! One step up the stack: from a frame's registers to those of its caller.
//!
//! Called by [`super::walk`] with registers and stack bytes that an actor wrote and a table from a file
//! that it brought. It must never read outside of the recorded piece of stack, compute with anything that
//! can overflow, or run a table's expression for long.
//!
//! The table's entries are decoded by `gimli`, which bounds its own memory. `framehop`, which walks
//! whole stacks with it, was tried and rejected: it sets no limit to an expression's loops, and adds and
//! subtracts hostile numbers without a check. Source: DWARF 5, section 6.4; Linux Standard Base,
//! "Exception Frames"; the ABI supplements of the machines.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameOffset, EndianSlice, Evaluation, EvaluationResult,
    Expression, FrameDescriptionEntry, LittleEndian, Location, Register, RegisterRule,
    UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, Value,
};

use super::elf::Elf;
use super::record::Record;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// How many operations of an expression are run. Compilers and libraries use about a dozen.
const MAX_OPERATIONS: u32 = 1000;

/// The numbers of registers in unwind tables.
#[cfg(target_arch = "x86_64")]
mod machine {
    pub const COUNT: usize = 17;
    pub const FRAME_POINTER: u16 = 6;
    pub const STACK_POINTER: u16 = 7;
    /// Where a call leaves the address to return to, if not on the stack.
    pub const LINK: Option<u16> = None;
    /// rbx, rbp, r12 to r15: what a function leaves as it was unless its table says otherwise.
    pub const KEPT: &[u16] = &[3, 6, 12, 13, 14, 15];
    /// The bits of a code address.
    pub const ADDRESS: u64 = u64::MAX;
}

/// The numbers of registers in unwind tables.
#[cfg(target_arch = "aarch64")]
mod machine {
    pub const COUNT: usize = 32;
    pub const FRAME_POINTER: u16 = 29;
    pub const STACK_POINTER: u16 = 31;
    pub const LINK: Option<u16> = Some(30);
    pub const KEPT: &[u16] = &[19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30];
    /// Above these a return address may carry a signature (pointer authentication).
    pub const ADDRESS: u64 = (1 << 48) - 1;
}

/// The recorded piece of stack.
#[derive(Clone, Copy)]
pub(super) struct Stack<'a> {
    start: u64,
    bytes: &'a [u8],
}

impl<'a> Stack<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self {
            start: record.stack_pointer,
            bytes: &record.stack,
        }
    }

    fn word(self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        let word = self.bytes.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(word.try_into().ok()?))
    }
}

/// The registers of a frame, by their numbers in unwind tables, as far as they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registers {
    values: [Option<u64>; machine::COUNT],
    /// The address of the instruction, or the one that a call returns to.
    pub(super) instruction: u64,
    /// Whether the frame is about to run that very instruction. Otherwise it is in a call, the
    /// instruction before, which may be the last one of its function.
    pub(super) exact: bool,
}

/// Why there is no caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The table does not know the frame's code, or there is no table.
    NotInTable,
    /// The frame is the first one of its thread, or its caller's lies outside of the recorded stack.
    NoCaller,
}

impl Registers {
    pub(super) fn of(record: &Record) -> Self {
        let mut registers = Self {
            values: [None; machine::COUNT],
            instruction: record.instruction,
            exact: true,
        };
        registers.set(machine::STACK_POINTER, Some(record.stack_pointer));
        registers.set(machine::FRAME_POINTER, Some(record.frame_pointer));
        if let Some(link) = machine::LINK {
            registers.set(link, Some(record.link));
        }
        registers
    }

    fn get(&self, register: u16) -> Option<u64> {
        *self.values.get(usize::from(register))?
    }

    fn set(&mut self, register: u16, value: Option<u64>) {
        if let Some(place) = self.values.get_mut(usize::from(register)) {
            *place = value;
        }
    }

    /// An address inside of the frame's function, to look it up by.
    pub(super) fn lookup(&self) -> u64 {
        self.instruction.saturating_sub(u64::from(!self.exact))
    }

    fn stack_pointer(&self) -> Option<u64> {
        self.get(machine::STACK_POINTER)
    }

    /// The caller after a call that went nowhere: nothing of the callee has run, so what the call
    /// stored is where the call put it.
    pub(super) fn after_bad_call(&self, stack: Stack) -> Option<Self> {
        let mut caller = self.clone();
        let stack_pointer = self.stack_pointer()?;
        let returns_to = match machine::LINK {
            Some(link) => self.get(link)?,
            None => {
                caller.set(machine::STACK_POINTER, stack_pointer.checked_add(8));
                stack.word(stack_pointer)?
            }
        };
        caller.instruction = returns_to & machine::ADDRESS;
        caller.exact = false;
        Some(caller)
    }

    /// The caller by the chain of frame pointers: each points at the caller's, with the address to
    /// return to beside it.
    pub(super) fn by_frame_pointer(&self, stack: Stack) -> Option<Self> {
        let frame = self.get(machine::FRAME_POINTER)?;
        let above = frame.checked_add(16)?;
        if above <= self.stack_pointer()? {
            return None;
        }
        let mut caller = Self {
            values: [None; machine::COUNT],
            instruction: stack.word(frame.checked_add(8)?)? & machine::ADDRESS,
            exact: false,
        };
        caller.set(machine::FRAME_POINTER, stack.word(frame));
        caller.set(machine::STACK_POINTER, Some(above));
        Some(caller)
    }

    /// The caller by the unwind table of the file that the frame's code is from; `address` is the
    /// frame's [`Registers::lookup`] as that file counts.
    ///
    /// # Errors
    /// [`End`].
    pub(super) fn by_table(&self, elf: &Elf, address: u64, stack: Stack) -> Result<Self, End> {
        let table = Table::new(elf);
        let entry = table.entry(elf, address).ok_or(End::NotInTable)?;
        let mut context = UnwindContext::new();
        let row = entry
            .unwind_info_for_address(&table.section, &table.bases, &mut context, address)
            .map_err(|_| End::NotInTable)?;
        self.caller(&table, &entry, row, stack).ok_or(End::NoCaller)
    }

    fn caller(
        &self,
        table: &Table,
        entry: &FrameDescriptionEntry<Bytes>,
        row: &UnwindTableRow<usize>,
        stack: Stack,
    ) -> Option<Self> {
        let run = |expression: &UnwindExpression<usize>, base: Option<u64>| {
            let expression = expression.get(&table.section).ok()?;
            self.evaluate(expression, entry, base, stack)
        };
        let base = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.get(register.0)?.wrapping_add_signed(*offset)
            }
            CfaRule::Expression(expression) => run(expression, None)?,
        };
        let trampoline = entry.is_signal_trampoline();
        if base <= self.stack_pointer()? && !trampoline && !self.exact {
            return None;
        }
        let value = |number: u16| match row.register(Register(number)) {
            None if number == machine::STACK_POINTER => Some(base),
            None if machine::KEPT.contains(&number) => self.get(number),
            None => None,
            Some(RegisterRule::SameValue) => self.get(number),
            Some(RegisterRule::Offset(offset)) => stack.word(base.wrapping_add_signed(offset)),
            Some(RegisterRule::ValOffset(offset)) => Some(base.wrapping_add_signed(offset)),
            Some(RegisterRule::Register(other)) => self.get(other.0),
            Some(RegisterRule::Expression(expression)) => stack.word(run(&expression, Some(base))?),
            Some(RegisterRule::ValExpression(expression)) => run(&expression, Some(base)),
            Some(_) => None,
        };
        let returns_to = value(entry.cie().return_address_register().0)?;
        let mut caller = Self {
            values: [None; machine::COUNT],
            instruction: returns_to & machine::ADDRESS,
            exact: trampoline,
        };
        for (number, place) in (0..).zip(&mut caller.values) {
            *place = value(number);
        }
        (caller.instruction != 0 && caller != *self).then_some(caller)
    }

    /// Runs an expression of the table. `base` is what lies on its stack at the beginning.
    fn evaluate(
        &self,
        expression: Expression<Bytes>,
        entry: &FrameDescriptionEntry<Bytes>,
        base: Option<u64>,
        stack: Stack,
    ) -> Option<u64> {
        let mut evaluation = Evaluation::new(expression.0, entry.cie().encoding());
        evaluation.set_max_iterations(MAX_OPERATIONS);
        if let Some(base) = base {
            evaluation.set_initial_value(base);
        }
        let mut state = evaluation.evaluate().ok()?;
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = Value::Generic(self.get(register.0)?);
                    evaluation.resume_with_register(value).ok()?
                }
                EvaluationResult::RequiresMemory {
                    address, size: 8, ..
                } => {
                    let value = Value::Generic(stack.word(address)?);
                    evaluation.resume_with_memory(value).ok()?
                }
                EvaluationResult::RequiresCallFrameCfa => {
                    evaluation.resume_with_call_frame_cfa(base?).ok()?
                }
                _ => return None,
            };
        }
        match evaluation.as_result() {
            [piece] => match piece.location {
                Location::Address { address } => Some(address),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The unwind table of a file, ready to be asked.
struct Table<'a> {
    section: EhFrame<Bytes<'a>>,
    bases: BaseAddresses,
}

impl<'a> Table<'a> {
    fn new(elf: &'a Elf) -> Self {
        let mut section = EhFrame::new(&elf.frames.bytes, LittleEndian);
        section.set_address_size(8);
        #[cfg(target_arch = "aarch64")]
        section.set_vendor(gimli::Vendor::AArch64);
        let bases = BaseAddresses::default()
            .set_eh_frame(elf.frames.address)
            .set_text(elf.text);
        Self { section, bases }
    }

    fn entry(&self, elf: &Elf, address: u64) -> Option<FrameDescriptionEntry<Bytes<'a>>> {
        // Not gimli's own search: without the index it costs entries times their length, which a crafted
        // file makes hours; with it, it subtracts what the file says without a check.
        let offset = EhFrameOffset(elf.frame_entry(address)?);
        let entry = self
            .section
            .fde_from_offset(&self.bases, offset, EhFrame::cie_from_offset);
        entry.ok().filter(|entry| entry.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::elf::tests::{CRAFTED_FRAMES, loader, read};
    use super::super::record::tests::record;
    use super::*;

    /// A table whose one entry covers the addresses below 0x1000 with these instructions.
    fn crafted(instructions: &[u8]) -> Elf {
        let link = if cfg!(target_arch = "x86_64") { 16 } else { 30 };
        // Version, augmentation, factors 1 and -8, the register of the return address, how
        // addresses are written.
        let common = [1, b'z', b'R', 0, 1, 0x78, link, 1, 0x1b];
        let mut bytes = Vec::new();
        bytes.extend(13_u32.to_le_bytes());
        bytes.extend(0_u32.to_le_bytes());
        bytes.extend(common);
        let entry = bytes.len() as u32;
        bytes.extend((13 + instructions.len() as u32).to_le_bytes());
        bytes.extend((entry + 4).to_le_bytes());
        let here = CRAFTED_FRAMES as u32 + entry + 8;
        bytes.extend(here.wrapping_neg().to_le_bytes());
        bytes.extend(0x1000_u32.to_le_bytes());
        bytes.push(0);
        bytes.extend(instructions);
        Elf::with_table(bytes, entry)
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_caller_is_found_by_the_table() {
        let record = record(0x10, 0x7000, &[1, 2, 0x800]);
        let frame = Registers::of(&record);
        // The frame begins 24 bytes above rsp; rbx was saved 24 below that, the return address 8.
        let elf = crafted(&[0x0c, 7, 24, 0x83, 3, 0x90, 1]);
        let caller = frame.by_table(&elf, 0x10, Stack::of(&record)).unwrap();
        assert_eq!(caller.instruction, 0x800);
        assert_eq!(caller.get(machine::STACK_POINTER), Some(0x7018));
        assert_eq!((caller.get(3), caller.get(0)), (Some(1), None));
        assert!(!caller.exact);
    }

    #[test]
    fn code_that_is_not_in_the_table_is_said_to_be_so() {
        let record = record(0x10, 0x7000, &[1, 2, 3]);
        let frame = Registers::of(&record);
        for address in [0x1000, 0x10_0000, u64::MAX] {
            let found = frame.by_table(&crafted(&[]), address, Stack::of(&record));
            assert_eq!(found, Err(End::NotInTable));
        }
    }

    #[test]
    fn an_expression_without_end_is_given_up() {
        let record = record(0x10, 0x7000, &[1, 2, 3]);
        // DW_CFA_def_cfa_expression: DW_OP_skip to itself.
        let elf = crafted(&[0x0f, 3, 0x2f, 0xfd, 0xff]);
        let caller = Registers::of(&record).by_table(&elf, 0x10, Stack::of(&record));
        assert_eq!(caller, Err(End::NoCaller));
    }

    #[test]
    fn an_expression_may_use_registers_and_the_stack() {
        let record = record(0x10, 0x7000, &[0x7010, 0x800, 3]);
        let sp = machine::STACK_POINTER as u8;
        // The frame begins where the word at the stack pointer says (DW_OP_breg + 0, DW_OP_deref).
        let mut table = vec![0x0f, 3, 0x70 + sp, 0, 0x06];
        let link = if cfg!(target_arch = "x86_64") { 16 } else { 30 };
        table.extend([0x80 + link, 1]);
        let caller = Registers::of(&record).by_table(&crafted(&table), 0x10, Stack::of(&record));
        let caller = caller.unwrap();
        assert_eq!(caller.instruction, 0x800);
        assert_eq!(caller.get(machine::STACK_POINTER), Some(0x7010));
    }

    #[test]
    fn the_stack_is_read_within_its_bounds() {
        let record = record(0, u64::MAX - 15, &[1, 2]);
        let stack = Stack::of(&record);
        assert_eq!(stack.word(u64::MAX - 7), Some(2));
        for address in [0, u64::MAX, u64::MAX - 6, u64::MAX - 16] {
            assert_eq!(stack.word(address), None);
        }
    }

    proptest! {
        #[test]
        fn any_instructions_are_taken(
            instructions in prop::collection::vec(any::<u8>(), 0..80),
            expression in prop::option::of(prop::sample::select(vec![0x0f_u8, 0x10, 0x16])),
            words in prop::collection::vec(any::<u64>(), 0..20),
            stack_pointer in prop_oneof![any::<u64>(), 0..0x9000_u64],
        ) {
            let mut table = Vec::new();
            if let Some(kind) = expression {
                // A rule by expression, so that most of the bytes are run as one.
                table.push(kind);
                table.extend((kind != 0x0f).then_some(16));
                table.push(instructions.len() as u8);
            }
            table.extend(&instructions);
            table.extend([0x0c, 7, 16, 0x90, 1]);
            let record = record(0x10, stack_pointer, &words);
            let _ = Registers::of(&record).by_table(&crafted(&table), 0x10, Stack::of(&record));
        }

        #[test]
        fn any_damage_to_a_real_table_is_taken(
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..400),
            addresses in prop::collection::vec(any::<prop::sample::Index>(), 40),
            words in prop::collection::vec(any::<u64>(), 40),
        ) {
            let mut elf = read(&loader()).unwrap();
            for (at, byte) in damage {
                let at = at.index(elf.frames.bytes.len());
                elf.frames.bytes[at] = byte;
            }
            let record = record(0x10, 0x7000, &words);
            for address in addresses {
                let address = elf.text + address.index(0x2_0000) as u64;
                let _ = Registers::of(&record).by_table(&elf, address, Stack::of(&record));
            }
        }
    }
}
