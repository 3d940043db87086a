//! Takes Refrain's traces out of the environment, and gives a life its two variables.
//!
//! Called once in a template, before any constructor of the program runs (`start`), and once in
//! every life, before it sleeps (`life`).
//!
//! The cleaning happens in place, on the stack where the kernel has put the environment, because
//! others hold its address already (the loader passes it to constructors, Go's runtime walks it).
//! What lies behind it is the auxiliary vector, found by walking to the null pointer at its end: so
//! the words that become free between the new end and the old one are filled with pairs of
//! AT_IGNORE. That needs an even number of them; whoever spawns the template pads it
//! (`PAD_VAR`). The strings are overwritten too: `/proc/PID/environ` shows nothing of Refrain.

use core::ffi::c_char;
use core::ptr;
use core::sync::atomic::{AtomicI32, AtomicPtr, Ordering};

use refrain_abi::template::{
    EXE_VAR, FD_VAR, LIFE_VAR, SCRIPT_VAR, TEMPLATE_VAR, USER_BIND_NOW_VAR, USER_LIBRARY_PATH_VAR,
    USER_PRELOAD_VAR,
};

use crate::syscalls::{self, Fd};
use crate::text::{KeptPath, bytes_of, number, write_number};

/// The program's path: what `readlink("/proc/self/exe")` answers.
pub static EXE: KeptPath = KeptPath::none();
/// The script's path, where there is one.
pub static SCRIPT: KeptPath = KeptPath::none();

/// The fds that the template was given; -1 for none.
static FDS: [AtomicI32; 6] = [const { AtomicI32::new(-1) }; 6];

/// What every variable of Refrain's begins with.
const PREFIX: &[u8] = b"REFRAIN_";
/// What stands in front of a variable that is put back.
const USER_PREFIX: &[u8] = b"REFRAIN_USER_";
/// The dynamic loader's variables, as the template was given them.
const LOADER: [&[u8]; 3] = [b"LD_PRELOAD=", b"LD_LIBRARY_PATH=", b"LD_BIND_NOW="];
const AT_IGNORE: usize = 1;
const AT_EXECFN: usize = 31;

/// The fds of a template.
#[derive(Clone, Copy, Debug)]
pub struct TemplateFds {
    /// The socket to the controller.
    pub socket: Fd,
    /// The control page.
    pub page: Fd,
    /// The image to execute, where lives start by exec.
    pub image: Option<Fd>,
    /// The script.
    pub script: Option<Fd>,
    /// The actor's `cgroup.procs`.
    pub members: Option<Fd>,
    /// Whether the handlers of faults are wanted. No fd.
    pub handlers: bool,
}

/// The fds that [`read_template`] found; `None` outside a template.
#[must_use]
pub fn template_fds() -> Option<TemplateFds> {
    let [socket, page, image, script, members, handlers] =
        FDS.each_ref().map(|fd| fd.load(Ordering::Relaxed));
    let given = |fd: Fd| (fd >= 0).then_some(fd);
    (socket >= 0 && page >= 0).then_some(TemplateFds {
        socket,
        page,
        image: given(image),
        script: given(script),
        members: given(members),
        handlers: handlers > 0,
    })
}

/// The value of a variable, if `entry` is it.
fn value<'a>(entry: &'a [u8], name: &str) -> Option<&'a [u8]> {
    entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

/// Reads what the template is told, and keeps it; answers whether this is a template.
///
/// # Safety
/// `envp` is a null-terminated array of C strings.
pub unsafe fn read_template(envp: *const *const c_char) -> bool {
    // SAFETY: the caller's promise.
    for entry in unsafe { Entries::new(envp) } {
        // SAFETY: an entry is a C string; it is changed only after this loop.
        let text = unsafe { bytes_of(entry) };
        if let Some(numbers) = value(text, TEMPLATE_VAR) {
            for (place, word) in FDS.iter().zip(numbers.split(|byte| *byte == b',')) {
                place.store(number(word).map_or(-1, |fd| fd as i32), Ordering::Relaxed);
            }
        } else if let Some(path) = value(text, EXE_VAR) {
            EXE.set(path);
        } else if let Some(path) = value(text, SCRIPT_VAR) {
            SCRIPT.set(path);
        } else if let Some(path) = text.strip_prefix(b"LD_PRELOAD=/proc/self/fd/") {
            // The object is mapped; its fd is of no more use.
            let digits = path.split(|byte| !byte.is_ascii_digit()).next();
            if let Some(fd) = digits.and_then(number) {
                syscalls::set_cloexec(fd as Fd, true);
                PRELOAD.store(fd as i32, Ordering::Relaxed);
            }
        }
    }
    template_fds().is_some()
}

/// The fd that this object was loaded from, closed by [`clean`].
static PRELOAD: AtomicI32 = AtomicI32::new(-1);

/// The entries of an environment, one pointer at a time.
#[derive(Debug)]
pub struct Entries(*const *const c_char);

impl Entries {
    /// # Safety
    /// `envp` is a null-terminated array that lives as long as this iterator.
    #[must_use]
    pub unsafe fn new(envp: *const *const c_char) -> Self {
        Self(envp)
    }
}

impl Iterator for Entries {
    type Item = *const c_char;

    fn next(&mut self) -> Option<*const c_char> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: `new`'s promise: the array goes on up to a null, where this stops.
        let entry = unsafe { *self.0 };
        if entry.is_null() {
            return None;
        }
        self.0 = self.0.wrapping_add(1);
        Some(entry)
    }
}

/// What becomes of an entry.
enum Fate {
    Stays,
    /// It is the user's own after so many bytes.
    Restored(usize),
    Goes,
}

fn fate(entry: &[u8]) -> Fate {
    let restored = [USER_PRELOAD_VAR, USER_LIBRARY_PATH_VAR, USER_BIND_NOW_VAR];
    if restored.iter().any(|name| value(entry, name).is_some()) {
        Fate::Restored(USER_PREFIX.len())
    } else if entry.starts_with(PREFIX) || LOADER.iter().any(|name| entry.starts_with(name)) {
        Fate::Goes
    } else {
        Fate::Stays
    }
}

/// Takes every trace of Refrain's out of a template's environment, in place.
///
/// # Safety
/// `envp` is the environment where the kernel has put it: writable, followed by the auxiliary
/// vector, and nobody else reads it at this moment.
pub unsafe fn clean(envp: *mut *const c_char) {
    let (mut from, mut to) = (envp, envp);
    loop {
        // SAFETY: `from` walks up to the null that ends the array.
        let entry = unsafe { *from };
        if entry.is_null() {
            break;
        }
        // SAFETY: an entry is a C string; the borrow ends before it is overwritten.
        let kept = match fate(unsafe { bytes_of(entry) }) {
            Fate::Stays => Some(entry),
            Fate::Restored(skip) => {
                // SAFETY: the first `skip` bytes of this string were just compared.
                unsafe { ptr::write_bytes(entry.cast_mut(), 0, skip) };
                Some(entry.wrapping_add(skip))
            }
            Fate::Goes => {
                // SAFETY: the string is on the stack, which is writable, and has been read.
                let len = unsafe { bytes_of(entry) }.len();
                // SAFETY: as above; these are the bytes before its NUL.
                unsafe { ptr::write_bytes(entry.cast_mut(), 0, len) };
                None
            }
        };
        if let Some(kept) = kept {
            // SAFETY: `to` never passes `from`, which is within the array.
            unsafe { *to = kept };
            to = to.wrapping_add(1);
        }
        from = from.wrapping_add(1);
    }
    // SAFETY: `to` is within the array, at most at its null.
    unsafe { *to = ptr::null() };
    let auxv = from.wrapping_add(1).cast::<[usize; 2]>();
    // SAFETY: what lies between `to` and the old end is free now, and behind that is the auxiliary
    // vector, as the caller promises.
    unsafe { mend_auxv(to.wrapping_add(1).cast(), auxv) };
    let preload = PRELOAD.swap(-1, Ordering::Relaxed);
    if preload >= 0 {
        syscalls::close(preload);
    }
}

/// Fills the words before the auxiliary vector with pairs to be ignored, and lets AT_EXECFN name
/// the program: the kernel has put the name of an fd there.
///
/// # Safety
/// From `free` to `auxv` the words are ours; at `auxv` the vector begins.
unsafe fn mend_auxv(free: *mut [usize; 2], auxv: *mut [usize; 2]) {
    let mut at = free;
    while at.addr() + size_of::<[usize; 2]>() <= auxv.addr() {
        // SAFETY: two free words.
        unsafe { *at = [AT_IGNORE, 0] };
        at = at.wrapping_add(1);
    }
    let mut at = auxv;
    loop {
        // SAFETY: the vector goes on up to a pair whose first word is 0, where this stops.
        let [kind, _] = unsafe { *at };
        if kind == 0 {
            return;
        }
        if kind == AT_EXECFN && !EXE.is_empty() {
            // SAFETY: the pair is in writable memory, and its name lives for ever.
            unsafe { *at = [AT_EXECFN, EXE.as_ptr().expose_provenance()] };
        }
        at = at.wrapping_add(1);
    }
}

/// The environment of one life, in pages of its own.
#[derive(Debug)]
pub struct LifeEnvironment {
    envp: *mut *const c_char,
    life: *mut [u8; TEXT],
}

/// The strings of the two variables, in a life and in every process that it forks: a template that it
/// became among them.
static STRINGS: [AtomicPtr<[u8; TEXT]>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Room for a name of ours and a number.
const TEXT: usize = 32;

impl LifeEnvironment {
    /// The template's environment without anything of Refrain's, and with the two variables of a
    /// life; its number is filled in by [`LifeEnvironment::finish`]. In a life from a warm image the
    /// environment stays what the program has made of it, and the strings of the two variables, to
    /// which it may hold pointers, get other values.
    ///
    /// # Errors
    /// The errno of mmap.
    ///
    /// # Safety
    /// `envp` is a null-terminated array of C strings that live as long as the process.
    pub unsafe fn prepare(envp: *const *const c_char, socket: Fd) -> syscalls::Result<Self> {
        let [life, fd] = STRINGS.each_ref().map(|text| text.load(Ordering::Relaxed));
        if !life.is_null() && !fd.is_null() {
            // SAFETY: the text lies in the pages that were mapped below, in the life that this memory
            // comes from; no reference to it exists.
            write_variable(unsafe { &mut *fd }, FD_VAR, socket as u32);
            let envp = envp.cast_mut();
            return Ok(Self { envp, life });
        }
        // SAFETY: the caller's promise.
        let count = unsafe { Entries::new(envp) }.count();
        let pointers = (count + 3) * size_of::<*const c_char>();
        let memory = syscalls::map(None, pointers + 2 * TEXT)?;
        let array = memory.cast::<*const c_char>();
        let texts = memory.wrapping_byte_add(pointers).cast::<[u8; TEXT]>();
        let mut place = array;
        let mut push = |entry: *const c_char| {
            // SAFETY: at most count + 2 entries are pushed; the array has room for one more, the
            // null at its end, which fresh memory holds already.
            unsafe { *place = entry };
            place = place.wrapping_add(1);
        };
        // SAFETY: the caller's promise.
        for entry in unsafe { Entries::new(envp) } {
            // SAFETY: an entry is a C string.
            if !unsafe { bytes_of(entry) }.starts_with(PREFIX) {
                push(entry);
            }
        }
        let mut variable = |index: usize, name: &str, value: u32| {
            let text = texts.wrapping_add(index);
            // SAFETY: two texts fit behind the array, and nobody else knows them yet.
            write_variable(unsafe { &mut *text }, name, value);
            push(text.cast());
            text
        };
        let life = variable(0, LIFE_VAR, 0);
        let fd = variable(1, FD_VAR, socket as u32);
        for (place, text) in STRINGS.iter().zip([life, fd]) {
            place.store(text, Ordering::Relaxed);
        }
        Ok(Self { envp: array, life })
    }

    /// Fills in the life's number; answers the array.
    #[must_use]
    pub fn finish(self, life: u32) -> *mut *const c_char {
        // SAFETY: the text lies in the pages that `prepare` mapped, and no reference to it exists.
        write_variable(unsafe { &mut *self.life }, LIFE_VAR, life);
        self.envp
    }
}

/// `NAME=value`, with a NUL.
fn write_variable(text: &mut [u8; TEXT], name: &str, value: u32) {
    for (place, byte) in text.iter_mut().zip(name.bytes().chain([b'='])) {
        *place = byte;
    }
    if let Some(rest) = text.get_mut(name.len() + 1..) {
        write_number(rest, value);
    }
}
