//! What lies where in a life: the mapped code of its template.
//!
//! Made by the engine's blocking thread for [`super::explain`]. It must never open anything but the
//! regular file that is mapped: the inode is compared, and what is no regular file is left alone.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, major, minor, openat, statat};

use super::names;

/// How much of `/proc/PID/maps` is read, in bytes: some fifty thousand mappings.
const MAX_MAPS: u64 = 4 << 20;

/// The mapped code of a template and its lives. Holds no file's contents, but two fds: rather made anew for
/// each failure (it costs a tenth of a millisecond) than kept for each actor.
#[derive(Debug, Default)]
pub struct Objects {
    /// `/proc/PID`: stays that of this template, also when the pid is somebody else's.
    directory: Option<OwnedFd>,
    image: Option<File>,
    /// The inode of the program itself; 0 if that is not known.
    program: u64,
    mappings: Vec<Mapping>,
}

/// An executable mapping.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    range: Range<u64>,
    file_offset: u64,
    device: (u32, u32),
    /// 0 where there is no file behind it.
    inode: u64,
    path: Vec<u8>,
}

impl Objects {
    /// Looks at the template, of which the life had its layout (SPEC H11). It must not have been reaped,
    /// or the pid may be somebody else's: that harms nobody, but the names are wrong.
    ///
    /// `image` is the actor's image, where the caller has it at hand. Without it, it can be read by
    /// root only, because no path leads to a memfd. Source: proc_pid_maps(5), proc_pid_map_files(5).
    ///
    /// # Errors
    /// Those of opening and reading `/proc/PID/maps`; ESRCH or ENOENT when the process has ended.
    pub fn of_template(pid: u32, image: Option<OwnedFd>) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let maps = openat(&directory, "maps", flags, Mode::empty())?;
        let mut text = Vec::new();
        File::from(maps).take(MAX_MAPS).read_to_end(&mut text)?;
        let program = statat(&directory, "exe", AtFlags::empty()).map_or(0, |stat| stat.st_ino);
        Ok(Self {
            directory: Some(directory),
            image: image.map(File::from),
            program,
            mappings: mappings(&text),
        })
    }

    /// Nothing is known: a report has the instruction's address, and no more. For a template that is
    /// gone.
    #[must_use]
    pub fn unknown() -> Self {
        Self::default()
    }

    /// All of `range` is code, from that file, of a program called `crash`: for tests.
    pub(crate) fn of_file(file: File, range: Range<u64>) -> io::Result<Self> {
        let stat = fstat(&file)?;
        let mapping = Mapping {
            range,
            file_offset: 0,
            device: (major(stat.st_dev), minor(stat.st_dev)),
            inode: stat.st_ino,
            path: b"/memfd:crash (deleted)".to_vec(),
        };
        Ok(Self {
            directory: None,
            image: Some(file),
            program: stat.st_ino,
            mappings: vec![mapping],
        })
    }

    /// The name of the program, as [`Mapping::name`] gives it; empty if that is not known.
    pub(super) fn program(&self) -> String {
        let mut of_file = self.mappings.iter().filter(|mapping| mapping.inode != 0);
        let program = of_file.find(|mapping| mapping.inode == self.program);
        program.map(Mapping::name).unwrap_or_default()
    }

    /// The code at an address.
    pub(super) fn at(&self, address: u64) -> Option<&Mapping> {
        self.mappings
            .iter()
            .find(|mapping| mapping.range.contains(&address))
    }

    /// Opens the file behind a mapping, if it still can be.
    pub(super) fn open(&self, mapping: &Mapping) -> Option<File> {
        if mapping.inode == 0 {
            return None;
        }
        let image = self
            .image
            .as_ref()
            .filter(|image| mapping.is_of(image, true));
        if let Some(image) = image {
            return image.try_clone().ok();
        }
        let Range { start, end } = mapping.range;
        self.open_there(Path::new(&format!("map_files/{start:x}-{end:x}")))
            .or_else(|| self.open_there(&mapping.in_root()?))
            .filter(|file| mapping.is_of(file, false))
    }

    fn open_there(&self, path: &Path) -> Option<File> {
        // Should it be a FIFO or a terminal by now, that must not matter here.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = openat(self.directory.as_ref()?, path, flags, Mode::empty()).ok()?;
        Some(File::from(fd))
    }
}

impl Mapping {
    /// The place in the file.
    pub(super) fn file_offset(&self, address: u64) -> u64 {
        let into = address.wrapping_sub(self.range.start);
        self.file_offset.wrapping_add(into)
    }

    /// What tells one file from another.
    pub(super) fn file(&self) -> ((u32, u32), u64) {
        (self.device, self.inode)
    }

    /// The name to show; empty for memory that no file is behind.
    pub(super) fn name(&self) -> String {
        names::object(&self.path)
    }

    /// The file's path as the process sees it, from its directory in `/proc`.
    fn in_root(&self) -> Option<PathBuf> {
        let path = str::from_utf8(&self.path).ok()?.strip_prefix('/')?;
        Some(Path::new("root").join(path))
    }

    /// Some file systems (overlay, btrfs) have another device number in `maps` than in stat(2); so that
    /// is compared only where a number of another file system could be taken for this one.
    fn is_of(&self, file: &impl AsFd, with_device: bool) -> bool {
        fstat(file).is_ok_and(|stat| {
            let device = (major(stat.st_dev), minor(stat.st_dev));
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_ino == self.inode
                && (!with_device || device == self.device)
        })
    }
}

/// The executable mappings in the text of a `maps` file; lines that make no sense are left out.
fn mappings(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n')
        .filter_map(mapping)
        .collect()
}

/// `start-end perms offset major:minor inode      path`
fn mapping(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || str::from_utf8(fields.next()?).ok();
    let (start, end) = field()?.split_once('-')?;
    if field()?.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let file_offset = hex(field()?)?;
    let (major, minor) = field()?.split_once(':')?;
    let inode = field()?.parse().ok()?;
    Some(Mapping {
        range: hex(start)?..hex(end)?,
        file_offset,
        device: (
            u32::from_str_radix(major, 16).ok()?,
            u32::from_str_radix(minor, 16).ok()?,
        ),
        inode,
        path: fields.next().unwrap_or_default().trim_ascii().to_vec(),
    })
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A process of which all of `range` is code, from that file.
    pub fn of_file(file: File, range: Range<u64>) -> Objects {
        Objects::of_file(file, range).unwrap()
    }

    #[test]
    fn only_code_is_kept() {
        let text = b"55aa00000000-55aa00001000 r--p 00000000 00:01 1034                       /memfd:crash (deleted)\n\
            55aa00001000-55aa00002000 r-xp 00001000 00:01 1034                       /memfd:crash (deleted)\n\
            7f0000000000-7f0000001000 r-xp 00000000 00:00 0 \n\
            7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]\n\
            nonsense\n";
        let all = mappings(text);
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].name(), "crash");
        assert_eq!(all[0].file(), ((0, 1), 1034));
        assert_eq!(all[0].file_offset(0x55aa_0000_1139), 0x1139);
        assert_eq!(all[1].name(), "");
        assert_eq!(all[2].name(), "[vdso]");
    }

    #[test]
    fn h11_code_is_found_with_its_file() {
        let objects = Objects::of_template(std::process::id(), None).unwrap();
        let here = mappings as *const () as u64;
        let mapping = objects.at(here).unwrap();
        assert!(mapping.name().starts_with("hr_ctrl"), "{}", mapping.name());
        assert!(objects.open(mapping).is_some());
        assert_eq!(objects.program(), mapping.name());
        assert_eq!(objects.at(0), None);
    }

    #[test]
    fn a_file_that_was_replaced_is_not_taken_for_the_mapped_one() {
        let objects = Objects::of_template(std::process::id(), None).unwrap();
        let other = Mapping {
            range: 0..4096,
            file_offset: 0,
            device: (0, 0),
            inode: u64::MAX,
            path: b"/proc/self/exe".to_vec(),
        };
        assert!(objects.open(&other).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_taken(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = mappings(&text);
        }

        #[test]
        fn any_line_is_taken(
            range in "[0-9a-f]{0,18}-[0-9a-f]{0,18}",
            file in "[0-9a-f]{0,17} [0-9a-f]{0,9}:[0-9]{0,9} [0-9]{0,21} .{0,9}",
        ) {
            let line = format!("{range} r-xp {file}");
            for mapping in mappings(line.as_bytes()) {
                let _ = (mapping.name(), mapping.file_offset(u64::MAX), mapping.in_root());
            }
        }
    }
}
