//! The parts of a program or library that explain an address: segments, unwind table, symbols.
//!
//! Read for [`super::walk`] from a file that an actor may have brought, so every length in it is held
//! against the file's own and against a budget before anything is allocated. It must never map the file
//! (who truncates it would end the controller by SIGBUS), and never search a table in a way whose cost
//! grows faster than the table.
//!
//! Source: elf(5); Linux Standard Base, "Exception Frames" for `.eh_frame_hdr`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian as LE;
use object::elf::{
    ELFCLASS64, ELFDATA2LSB, ELFMAG, FileHeader64, PT_LOAD, ProgramHeader64, SHT_DYNSYM,
    SHT_NOBITS, SHT_SYMTAB, STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE, SectionHeader64, Sym64,
};
use object::pod::{self, Pod};

/// The largest part of a file that is read, in bytes. The symbols of the largest programs take some tens
/// of megabytes.
const MAX_PART: u64 = 64 << 20;
/// Encoding of the unwind table's index: each entry two i32, relative to its beginning
/// (`DW_EH_PE_datarel | DW_EH_PE_sdata4`). All linkers write it so.
const INDEX_ENCODING: u8 = 0x3b;

/// What is known of a file.
#[derive(Debug, Default)]
pub(super) struct Elf {
    segments: Vec<Segment>,
    index: Part,
    /// `.eh_frame`.
    pub(super) frames: Part,
    /// The address of `.text`.
    pub(super) text: u64,
    symbols: Vec<Symbols>,
}

/// A section's bytes and the address that the file gives it.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) address: u64,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
struct Segment {
    file_offset: u64,
    address: u64,
    length: u64,
}

#[derive(Debug)]
struct Symbols {
    entries: Vec<u8>,
    names: Vec<u8>,
}

/// A file, its length, and how much may still be read.
struct Reader<'a> {
    file: &'a File,
    length: u64,
    budget: &'a mut u64,
}

impl Reader<'_> {
    fn read(&mut self, offset: u64, length: u64) -> Option<Vec<u8>> {
        let end = offset.checked_add(length)?;
        if end > self.length || length > MAX_PART {
            return None;
        }
        *self.budget = self.budget.checked_sub(length)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        self.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    }

    fn table<T: Pod>(&mut self, offset: u64, count: u16, size: u16) -> Option<Vec<u8>> {
        if usize::from(size) != size_of::<T>() {
            return None;
        }
        self.read(offset, u64::from(count) * u64::from(size))
    }

    fn section(&mut self, header: &SectionHeader64<LE>) -> Option<Vec<u8>> {
        if header.sh_type.get(LE) == SHT_NOBITS {
            return None;
        }
        self.read(header.sh_offset.get(LE), header.sh_size.get(LE))
    }
}

impl Elf {
    /// Reads what there is; `None` if it is no 64-bit little-endian ELF file. `budget` is how many bytes
    /// may be read, and becomes less by what was.
    pub(super) fn read(file: &File, budget: &mut u64) -> Option<Self> {
        let length = file.metadata().ok()?.len();
        let mut reader = Reader {
            file,
            length,
            budget,
        };
        let bytes = reader.read(0, size_of::<FileHeader64<LE>>() as u64)?;
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(&bytes).ok()?;
        let ident = header.e_ident;
        if (ident.magic, ident.class, ident.data) != (ELFMAG, ELFCLASS64, ELFDATA2LSB) {
            return None;
        }
        let mut elf = Self {
            segments: segments(&mut reader, header)?,
            ..Self::default()
        };
        // A file may have been stripped of its sections; its segments are of use without them.
        let _ = elf.read_sections(&mut reader, header);
        Some(elf)
    }

    fn read_sections(&mut self, reader: &mut Reader, header: &FileHeader64<LE>) -> Option<()> {
        let bytes = reader.table::<SectionHeader64<LE>>(
            header.e_shoff.get(LE),
            header.e_shnum.get(LE),
            header.e_shentsize.get(LE),
        )?;
        let sections = pod::slice_from_all_bytes::<SectionHeader64<LE>>(&bytes).ok()?;
        let names = reader.section(sections.get(usize::from(header.e_shstrndx.get(LE).0))?)?;
        for section in sections {
            let address = section.sh_addr.get(LE);
            match text_at(&names, section.sh_name.get(LE)) {
                Some(b".text") => self.text = address,
                Some(b".eh_frame_hdr") => self.index = Part::read(reader, section),
                Some(b".eh_frame") => self.frames = Part::read(reader, section),
                _ => {}
            }
        }
        for kind in [SHT_SYMTAB, SHT_DYNSYM] {
            let mut of_kind = sections.iter().filter(|s| s.sh_type.get(LE) == kind);
            let table = of_kind.next().and_then(|section| {
                let strings = sections.get(usize::try_from(section.sh_link.get(LE)).ok()?)?;
                let mut entries = reader.section(section)?;
                entries.truncate(entries.len() / size_of::<Sym64<LE>>() * size_of::<Sym64<LE>>());
                let names = reader.section(strings)?;
                Some(Symbols { entries, names })
            });
            self.symbols.extend(table);
        }
        Some(())
    }

    /// The address that the file gives to its byte at `offset`.
    pub(super) fn address(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = offset.checked_sub(segment.file_offset)?;
            (into < segment.length).then(|| segment.address.wrapping_add(into))
        })
    }

    /// The function at an address and where it begins. The full table is asked before the one for the
    /// dynamic loader.
    pub(super) fn function(&self, address: u64) -> Option<(&[u8], u64)> {
        self.symbols
            .iter()
            .find_map(|symbols| symbols.function(address))
    }

    /// Where in `.eh_frame` the entry is that covers an address, or else one beside it, by binary search.
    pub(super) fn frame_entry(&self, address: u64) -> Option<usize> {
        let (head, rest) = self.index.bytes.split_at_checked(12)?;
        let [version, _, _, encoding, ..] = *head else {
            return None;
        };
        if version != 1 || encoding != INDEX_ENCODING {
            return None;
        }
        let relative = address.wrapping_sub(self.index.address).cast_signed();
        let (rows, _) = rest.as_chunks::<8>();
        let count = u32::from_le_bytes(*head.last_chunk()?);
        let rows = rows.get(..usize::try_from(count).ok()?)?;
        let halves = |row: &[u8; 8]| {
            let [a, b, c, d, e, f, g, h] = *row;
            (
                i64::from(i32::from_le_bytes([a, b, c, d])),
                i64::from(i32::from_le_bytes([e, f, g, h])),
            )
        };
        let after = rows.partition_point(|row| halves(row).0 <= relative);
        let (_, entry) = halves(rows.get(after.checked_sub(1)?)?);
        let entry = self.index.address.wrapping_add_signed(entry);
        usize::try_from(entry.checked_sub(self.frames.address)?).ok()
    }
}

impl Part {
    fn read(reader: &mut Reader, header: &SectionHeader64<LE>) -> Self {
        Self {
            address: header.sh_addr.get(LE),
            bytes: reader.section(header).unwrap_or_default(),
        }
    }
}

impl Symbols {
    fn function(&self, address: u64) -> Option<(&[u8], u64)> {
        let symbols = pod::slice_from_all_bytes::<Sym64<LE>>(&self.entries).ok()?;
        let covers = |symbol: &&Sym64<LE>| {
            let into = address.checked_sub(symbol.st_value.get(LE));
            let code = [STT_FUNC, STT_GNU_IFUNC, STT_NOTYPE].contains(&symbol.st_type());
            let defined = symbol.st_shndx.get(LE).0 != 0;
            code && defined && into.is_some_and(|into| into < symbol.st_size.get(LE))
        };
        let named = symbols.iter().filter(covers).filter_map(|symbol| {
            let name = text_at(&self.names, symbol.st_name.get(LE))?;
            (!name.is_empty()).then_some((name, symbol.st_value.get(LE)))
        });
        // Of several the innermost; of aliases the one that a programmer would write.
        named.min_by_key(|(name, start)| {
            let internal = name.starts_with(b"_");
            (address.wrapping_sub(*start), internal, name.len())
        })
    }
}

fn segments(reader: &mut Reader, header: &FileHeader64<LE>) -> Option<Vec<Segment>> {
    let bytes = reader.table::<ProgramHeader64<LE>>(
        header.e_phoff.get(LE),
        header.e_phnum.get(LE),
        header.e_phentsize.get(LE),
    )?;
    let headers = pod::slice_from_all_bytes::<ProgramHeader64<LE>>(&bytes).ok()?;
    let loaded = headers.iter().filter(|h| h.p_type.get(LE) == PT_LOAD);
    let segment = |h: &ProgramHeader64<LE>| Segment {
        file_offset: h.p_offset.get(LE),
        address: h.p_vaddr.get(LE),
        length: h.p_filesz.get(LE),
    };
    Some(loaded.map(segment).collect())
}

/// The string at an offset, without the zero at its end.
fn text_at(table: &[u8], offset: u32) -> Option<&[u8]> {
    let text = table.get(usize::try_from(offset).ok()?..)?;
    text.split(|byte| *byte == 0).next()
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    /// A small program that is there wherever tests run: the dynamic loader of this one.
    pub fn loader() -> Vec<u8> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let paths = maps.lines().filter_map(|line| line.split(' ').next_back());
        let is_loader = |path: &&str| path.contains("/ld-") || path.contains("/ld64");
        fs::read(paths.into_iter().find(is_loader).unwrap()).unwrap()
    }

    pub fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    pub fn read(bytes: &[u8]) -> Option<Elf> {
        Elf::read(&file_of(bytes), &mut u64::MAX.clone())
    }

    impl Elf {
        /// A file of one segment, with a table for all of it; `frames` begins with an entry for the others
        /// and `entry` is the offset of the one that explains the code.
        pub fn with_table(frames: Vec<u8>, entry: u32) -> Self {
            let offset = (CRAFTED_FRAMES as u32 + entry).to_le_bytes();
            let count = 1_u32.to_le_bytes();
            let head = [&[1, 0x1b, 3, INDEX_ENCODING, 0, 0, 0, 0][..], &count];
            let rows = [&[0; 4][..], &offset];
            Self {
                index: Part {
                    address: 0,
                    bytes: [head.concat(), rows.concat()].concat(),
                },
                frames: Part {
                    address: CRAFTED_FRAMES,
                    bytes: frames,
                },
                ..Self::default()
            }
        }
    }

    /// Where a crafted file has its table.
    pub const CRAFTED_FRAMES: u64 = 0x1000;

    #[test]
    fn a_real_program_is_understood() {
        let elf = read(&loader()).unwrap();
        assert!(!elf.symbols.is_empty() && elf.text != 0);
        let symbols = &elf.symbols[0];
        let all = pod::slice_from_all_bytes::<Sym64<LE>>(&symbols.entries).unwrap();
        let function = all.iter().find(|symbol| {
            symbol.st_type() == STT_FUNC
                && symbol.st_size.get(LE) > 8
                && symbol.st_shndx.get(LE).0 != 0
        });
        let start = function.unwrap().st_value.get(LE);
        let (name, found) = elf.function(start + 8).unwrap();
        assert!(!name.is_empty() && found <= start + 8);
        assert!(elf.frame_entry(start + 8).unwrap() < elf.frames.bytes.len());
        assert_eq!(elf.function(u64::MAX), None);
        assert_eq!(elf.address(u64::MAX), None);
    }

    #[test]
    fn a_budget_is_not_overdrawn() {
        let file = file_of(&loader());
        let mut left = u64::MAX;
        Elf::read(&file, &mut left).unwrap();
        let needed = u64::MAX - left;
        let held = |elf: &Elf| {
            let symbols = elf.symbols.iter().map(|s| s.entries.len() + s.names.len());
            (elf.index.bytes.len() + elf.frames.bytes.len() + symbols.sum::<usize>()) as u64
        };
        for budget in [needed / 8, needed / 2, needed - 1] {
            let elf = Elf::read(&file, &mut budget.clone()).unwrap();
            assert!(held(&elf) < budget);
        }
        assert!(Elf::read(&file, &mut 10).is_none());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for bytes in [&b""[..], b"\x7fELF", &[0; 4096], b"#!/bin/sh\nexit\n"] {
            assert!(read(bytes).is_none());
        }
    }
}
