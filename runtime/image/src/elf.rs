//! What must be known of an ELF file: can it run here, and can its `main` be taken over?
//!
//! Called by [`crate::image`] with bytes that anybody may have written. Every offset is bounded by
//! the file, every count by a constant; nothing here panics on hostile bytes.
//!
//! Source: elf(5); DT_GNU_HASH as the dynamic loader reads it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// The most program headers, section headers, dynamic entries that are looked at.
const MAX_ENTRIES: u64 = 4096;
/// The most symbols that are looked through for an import.
const MAX_SYMBOLS: u64 = 1 << 20;
/// The longest string that is read (PATH_MAX).
const MAX_STRING: usize = 4096;

/// Bytes that are read by offset.
pub trait ReadAt {
    /// Fills `buffer` from `offset`; `None` when there are not as many bytes.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Option<()>;
    /// How many bytes there are.
    fn size(&self) -> u64;
}

impl ReadAt for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        buffer.copy_from_slice(self.get(start..start.checked_add(buffer.len())?)?);
        Some(())
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl ReadAt for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Option<()> {
        FileExt::read_exact_at(self, buffer, offset).ok()
    }

    fn size(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }
}

/// Why bytes are no program of this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ElfError {
    /// No ELF header at the front.
    #[error("not an ELF file")]
    NotElf,
    /// Ends before what its own headers name.
    #[error("truncated ELF file: {0} lies past its end")]
    Truncated(&'static str),
    /// Of another machine, word size or byte order.
    #[error("built for {found}, this machine is {host}")]
    WrongArchitecture {
        /// What it was built for.
        found: String,
        /// What runs here.
        host: &'static str,
    },
    /// An object file, a core, or a library that can't be executed.
    #[error("an ELF file, but no program ({0})")]
    NotAProgram(&'static str),
}

/// An ELF program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// The dynamic loader it asks for; `None` for a static program.
    pub interpreter: Option<String>,
    /// Whether it imports `__libc_start_main`; `None` when that can't be decided.
    pub imports_start: Option<bool>,
    /// DT_RPATH or DT_RUNPATH, as written.
    pub search_path: Option<String>,
}

/// The names of machines that people meet. Source: e_machine in elf(5).
const MACHINES: &[(u16, &str)] = &[
    (3, "x86 (32 bit)"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390"),
    (40, "arm (32 bit)"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv"),
    (258, "loongarch"),
];

/// This machine, as e_machine and by name.
const HOST: (u16, &str) = if cfg!(target_arch = "aarch64") {
    (183, "aarch64")
} else {
    (62, "x86_64")
};

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// One program header, as far as it matters.
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

/// The entries of PT_DYNAMIC that matter; 0 for none.
#[derive(Default)]
struct Dynamic {
    hash: u64,
    gnu_hash: u64,
    strings: u64,
    symbols: u64,
    rpath: Option<u64>,
    runpath: Option<u64>,
}

fn u16_of(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..at + 2)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u16::from_le_bytes)
}

fn u32_of(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..at + 4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn u64_of(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..at + 8)
        .and_then(|b| b.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

fn read<const N: usize>(file: &impl ReadAt, offset: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact_at(&mut bytes, offset)?;
    Some(bytes)
}

/// Looks at an ELF program.
///
/// # Errors
/// [`ElfError`], which says what is wrong with it.
pub fn inspect(file: &impl ReadAt) -> Result<Elf, ElfError> {
    let header = header(file)?;
    let segments = segments(file, &header)?;
    let mut elf = Elf::default();
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
        let path = string_at(file, segment.offset, segment.file_size);
        elf.interpreter = Some(path.ok_or(ElfError::Truncated("its loader's path"))?);
    }
    if let Some(segment) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        let dynamic = dynamic(file, segment);
        let strings = offset_of(&segments, dynamic.strings);
        let text = |at: u64| string_at(file, strings?.checked_add(at)?, MAX_STRING as u64);
        elf.search_path = dynamic.runpath.or(dynamic.rpath).and_then(text);
        elf.imports_start = imports(file, &segments, &dynamic, &header, b"__libc_start_main");
    }
    Ok(elf)
}

/// Reads and checks the ELF header.
fn header(file: &impl ReadAt) -> Result<[u8; 64], ElfError> {
    let ident: [u8; 4] = read(file, 0).ok_or(ElfError::NotElf)?;
    if ident != *b"\x7fELF" {
        return Err(ElfError::NotElf);
    }
    let header: [u8; 64] = read(file, 0).ok_or(ElfError::Truncated("its header"))?;
    let wrong = |found: String| {
        Err(ElfError::WrongArchitecture {
            found,
            host: HOST.1,
        })
    };
    let [.., class, order, _, _] = *header.first_chunk::<8>().unwrap_or(&[0; 8]);
    let big = order == 2;
    let machine = if big {
        u16_of(&header, 18).swap_bytes()
    } else {
        u16_of(&header, 18)
    };
    let name = MACHINES.iter().find(|(number, _)| *number == machine);
    let name = name.map_or_else(
        || format!("machine {machine}"),
        |(_, name)| (*name).to_owned(),
    );
    match (class, order) {
        (2, 1) if machine == HOST.0 => {}
        (2, 2) => return wrong(format!("{name} (big-endian)")),
        (1, _) if machine == HOST.0 => return wrong(format!("{name} with 32-bit pointers")),
        (1 | 2, 1 | 2) => return wrong(name),
        _ => return Err(ElfError::NotAProgram("no known word size or byte order")),
    }
    match u16_of(&header, 16) {
        2 | 3 => Ok(header),
        1 => Err(ElfError::NotAProgram("an object file that was not linked")),
        4 => Err(ElfError::NotAProgram("a core dump")),
        _ => Err(ElfError::NotAProgram("of an unknown type")),
    }
}

/// Reads the program headers; what they load must be in the file.
fn segments(file: &impl ReadAt, header: &[u8]) -> Result<Vec<Segment>, ElfError> {
    let (table, entry, count) = (u64_of(header, 32), u16_of(header, 54), u16_of(header, 56));
    if count == 0 || entry != 56 {
        return Err(ElfError::NotAProgram("without program headers"));
    }
    let mut segments = Vec::with_capacity(usize::from(count).min(64));
    for index in 0..u64::from(count).min(MAX_ENTRIES) {
        let at = table.checked_add(index * 56);
        let bytes: Option<[u8; 56]> = at.and_then(|at| read(file, at));
        let bytes = bytes.ok_or(ElfError::Truncated("a program header"))?;
        let segment = Segment {
            kind: u32_of(&bytes, 0),
            offset: u64_of(&bytes, 8),
            address: u64_of(&bytes, 16),
            file_size: u64_of(&bytes, 32),
        };
        let end = segment.offset.checked_add(segment.file_size);
        if segment.kind == PT_LOAD && end.is_none_or(|end| end > file.size()) {
            return Err(ElfError::Truncated("a segment"));
        }
        segments.push(segment);
    }
    // Nobody loads the section headers, but they come last: a file without them was cut.
    let sections = u64::from(u16_of(header, 58)) * u64::from(u16_of(header, 60));
    let end = u64_of(header, 40).checked_add(sections);
    if end.is_none_or(|end| end > file.size()) {
        return Err(ElfError::Truncated("its section table"));
    }
    if !segments.iter().any(|segment| segment.kind == PT_LOAD) {
        return Err(ElfError::NotAProgram("with nothing to load"));
    }
    if u64_of(header, 24) == 0 {
        return Err(ElfError::NotAProgram("a library without an entry point"));
    }
    Ok(segments)
}

/// The file offset of what is loaded at `address`.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD && address != 0)
        .find_map(|segment| {
            let within = address.checked_sub(segment.address)?;
            (within < segment.file_size).then_some(segment.offset.checked_add(within)?)
        })
}

fn dynamic(file: &impl ReadAt, segment: &Segment) -> Dynamic {
    let mut found = Dynamic::default();
    for index in 0..(segment.file_size / 16).min(MAX_ENTRIES) {
        let at = segment.offset.checked_add(index * 16);
        let Some(entry) = at.and_then(|at| read::<16>(file, at)) else {
            break;
        };
        let value = u64_of(&entry, 8);
        match u64_of(&entry, 0) {
            0 => break,
            4 => found.hash = value,
            5 => found.strings = value,
            6 => found.symbols = value,
            15 => found.rpath = Some(value),
            29 => found.runpath = Some(value),
            0x6fff_fef5 => found.gnu_hash = value,
            _ => {}
        }
    }
    found
}

/// The string at `offset`, at most `limit` bytes long; `None` when it has no end or is no text.
fn string_at(file: &impl ReadAt, offset: u64, limit: u64) -> Option<String> {
    let left = file.size().checked_sub(offset)?;
    let len = limit.min(left).min(MAX_STRING as u64) as usize;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    String::from_utf8(bytes).ok()
}

/// Whether `name` is among the undefined symbols; `None` when their number can't be found out.
fn imports(
    file: &impl ReadAt,
    segments: &[Segment],
    dynamic: &Dynamic,
    header: &[u8],
    name: &[u8],
) -> Option<bool> {
    let strings = offset_of(segments, dynamic.strings)?;
    let symbols = offset_of(segments, dynamic.symbols)?;
    let count = symbol_count(file, segments, dynamic, header)?.min(MAX_SYMBOLS);
    let mut text = vec![0; name.len() + 1];
    for index in 1..count {
        let symbol: [u8; 24] = read(file, symbols.checked_add(index * 24)?)?;
        let undefined = u16_of(&symbol, 6) == 0;
        let at = strings.checked_add(u64::from(u32_of(&symbol, 0)))?;
        if undefined && file.read_exact_at(&mut text, at).is_some() {
            let (found, end) = text.split_at(name.len());
            if found == name && end == [0] {
                return Some(true);
            }
        }
    }
    Some(false)
}

/// `sizeof(Elf64_Sym)`.
const SYMBOL: u64 = 24;

/// How many symbols have to be looked at: all of them by DT_HASH or the section headers; by
/// DT_GNU_HASH those before the first hashed one, which are the undefined ones.
fn symbol_count(
    file: &impl ReadAt,
    segments: &[Segment],
    dynamic: &Dynamic,
    header: &[u8],
) -> Option<u64> {
    if let Some(at) = offset_of(segments, dynamic.hash) {
        return read::<8>(file, at).map(|words| u64::from(u32_of(&words, 4)));
    }
    if let Some(at) = offset_of(segments, dynamic.gnu_hash) {
        let front: [u8; 16] = read(file, at)?;
        let (buckets, first) = (u32_of(&front, 0), u64::from(u32_of(&front, 4)));
        let table = at.checked_add(16 + 8 * u64::from(u32_of(&front, 8)))?;
        let hashed = (0..u64::from(buckets).min(MAX_ENTRIES))
            .filter_map(|index| read::<4>(file, table.checked_add(4 * index)?))
            .any(|bucket| u32_of(&bucket, 0) != 0);
        if hashed {
            return Some(first);
        }
        // A program that exports nothing hashes nothing; then the first hashed one means nothing.
        let strings = dynamic
            .strings
            .checked_sub(dynamic.symbols)
            .map(|bytes| bytes / SYMBOL);
        return count_in_sections(file, header).or(strings);
    }
    count_in_sections(file, header)
}

/// How many dynamic symbols the section headers speak of.
fn count_in_sections(file: &impl ReadAt, header: &[u8]) -> Option<u64> {
    const SHT_DYNSYM: u32 = 11;
    let (table, entry, count) = (u64_of(header, 40), u16_of(header, 58), u16_of(header, 60));
    (0..u64::from(count).min(MAX_ENTRIES)).find_map(|index| {
        let at = table.checked_add(index * u64::from(entry))?;
        let section: [u8; 64] = read(file, at)?;
        (u32_of(&section, 4) == SHT_DYNSYM).then(|| u64_of(&section, 32) / SYMBOL)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn h30_a_dynamic_program_is_recognised() {
        let elf = inspect(&own().as_slice()).unwrap();
        assert!(elf.interpreter.unwrap().contains("ld"));
        assert_eq!(elf.imports_start, Some(true));
    }

    #[test]
    fn a_program_cut_anywhere_is_an_error() {
        let bytes = std::fs::read("/bin/true").unwrap();
        for len in 0..bytes.len() {
            match inspect(&&bytes[..len]) {
                Err(ElfError::NotElf) => assert!(len < 4),
                Err(ElfError::Truncated(_)) => assert!(len >= 4),
                Ok(_) => panic!("{len} of {} bytes are taken for a program", bytes.len()),
                Err(other) => panic!("{len}: {other}"),
            }
        }
    }

    #[test]
    fn another_architecture_is_named() {
        let mut bytes = own();
        bytes[18..20].copy_from_slice(&243u16.to_le_bytes());
        let error = inspect(&bytes.as_slice()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("built for riscv, this machine is"),
            "{error}"
        );
        bytes[4] = 1;
        assert!(matches!(
            inspect(&bytes.as_slice()),
            Err(ElfError::WrongArchitecture { .. })
        ));
        let mut bytes = own();
        bytes[5] = 2;
        let error = inspect(&bytes.as_slice()).unwrap_err();
        assert!(
            matches!(error, ElfError::WrongArchitecture { .. }),
            "{error}"
        );
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        assert_eq!(inspect(&&b""[..]), Err(ElfError::NotElf));
        assert_eq!(inspect(&&b"hello, world"[..]), Err(ElfError::NotElf));
        assert_eq!(
            inspect(&&b"\x7fELF"[..]),
            Err(ElfError::Truncated("its header"))
        );
        let mut bytes = own();
        bytes[16] = 1;
        assert!(matches!(
            inspect(&bytes.as_slice()),
            Err(ElfError::NotAProgram(_))
        ));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn hostile_headers_never_panic(
            changes in prop::collection::vec((0usize..1024, any::<u64>()), 1..12),
            cut in 0usize..40_000,
        ) {
            let mut bytes = std::fs::read("/bin/true").unwrap();
            bytes.truncate(cut.max(64));
            for (at, value) in changes {
                let end = (at + 8).min(bytes.len());
                if at < end {
                    bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
                }
            }
            bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
            let _ = inspect(&bytes.as_slice());
        }

        #[test]
        fn bytes_of_any_kind_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let _ = inspect(&bytes.as_slice());
        }
    }
}
