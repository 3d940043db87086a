//! Takes over `__libc_start_main`: in a template, the program's `main` is called in its lives only.
//!
//! The shared object's way in. The dynamic loader runs [`FIRST`] before any other constructor (the
//! object is linked with `-z initfirst`), the program's start code then calls our
//! [`__libc_start_main`]. Outside a template both do nothing.
//!
//! Everything taken from the program's libc is named in the one block below: `dlsym` (for the function
//! that ours hides), `fork` (so that the program's atfork handlers run and its libc knows),
//! `environ`, `dl_iterate_phdr`, `strdup` and the place of `errno`. A C library where one of them is
//! missing (glibc before 2.34 has `dlsym` elsewhere) refuses to load the object, the template ends
//! before it is ready, and the controller starts the program by exec.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use crate::environ;
use crate::prefault::{self, ObjectInfo};
use crate::serve::Template;
use crate::{signals, syscalls, text};

type Main = unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *const c_char) -> c_int;
type Hook = unsafe extern "C" fn();
type StartMain = unsafe extern "C" fn(
    Main,
    c_int,
    *mut *mut c_char,
    Option<Hook>,
    Option<Hook>,
    Option<Hook>,
    *mut c_void,
) -> c_int;
type OnObject = unsafe extern "C" fn(*const ObjectInfo, usize, *mut c_void) -> c_int;

// SAFETY: declared as every C library that programs are linked with defines them.
unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    #[link_name = "fork"]
    fn libc_fork() -> c_int;
    fn __errno_location() -> *mut c_int;
    fn strdup(text: *const c_char) -> *mut c_char;
    fn dl_iterate_phdr(callback: OnObject, data: *mut c_void) -> c_int;
    static mut environ: *mut *const c_char;
}

/// The program's own `main`.
static MAIN: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Whether the environment was looked at.
static LOOKED: AtomicBool = AtomicBool::new(false);

/// Runs before every other constructor, so that none of them sees a trace of Refrain.
// SAFETY: the section holds pointers to functions of this type, which the loader calls.
#[cfg_attr(shim_object, unsafe(link_section = ".init_array"))]
#[cfg_attr(shim_object, used)]
pub static FIRST: unsafe extern "C" fn(c_int, *mut *mut c_char, *mut *const c_char) = first;

/// See [`FIRST`].
///
/// # Safety
/// Called by the dynamic loader.
unsafe extern "C" fn first(_: c_int, _: *mut *mut c_char, envp: *mut *const c_char) {
    // SAFETY: libc's variable, at a moment when no thread exists.
    let known = unsafe { environ };
    // musl passes nothing to constructors, but has set `environ` by now; glibc passes it, and has
    // not set `environ` yet when this object comes first.
    let envp = if known.is_null() { envp } else { known };
    // SAFETY: the environment as the kernel has laid it out, in a process of one thread.
    unsafe { look(envp) };
}

/// Looks at the environment once; cleans it if this is a template.
///
/// # Safety
/// `envp` is the environment where the kernel has put it, and there is only one thread.
unsafe fn look(envp: *mut *const c_char) {
    if LOOKED.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: the caller's promise.
    if unsafe { environ::read_template(envp) } {
        // SAFETY: the caller's promise.
        unsafe { environ::clean(envp) };
    }
}

/// In front of libc's.
///
/// # Safety
/// Called by the program's start code, with what the C library's function of this name takes.
#[cfg_attr(shim_object, unsafe(no_mangle))]
pub unsafe extern "C" fn __libc_start_main(
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
    init: Option<Hook>,
    fini: Option<Hook>,
    rtld_fini: Option<Hook>,
    stack_end: *mut c_void,
) -> c_int {
    let envp = argv.wrapping_add(argc as usize + 1).cast::<*const c_char>();
    // SAFETY: the environment follows the arguments and their null.
    unsafe { look(envp) };
    let Some(next) = next(c"__libc_start_main") else {
        syscalls::exit(127)
    };
    // SAFETY: libc's function of this name has this type.
    let start = unsafe { core::mem::transmute::<*mut c_void, StartMain>(next) };
    let mut entry = main;
    if environ::template_fds().is_some() {
        MAIN.store(main as *mut c_void, Ordering::Relaxed);
        crate::script::prepare();
        entry = template_main;
    }
    // SAFETY: with the caller's own arguments, and a `main` of the same type.
    unsafe { start(entry, argc, argv, init, fini, rtld_fini, stack_end) }
}

/// `main` of a template: serves forks, and returns into the program's `main` in every life.
///
/// # Safety
/// Called by libc as `main`.
unsafe extern "C" fn template_main(
    argc: c_int,
    argv: *mut *mut c_char,
    _: *mut *const c_char,
) -> c_int {
    let fds = environ::template_fds();
    // SAFETY: libc passes `main` the program's arguments.
    let name = unsafe { text::first_argument(argv.cast_const().cast()) };
    let Some(Ok(template)) = fds.map(|fds| Template::new(fds, fork, name)) else {
        syscalls::exit(126)
    };
    signals::install(fds.is_some_and(|fds| fds.handlers));
    // SAFETY: `environment` answers libc's own array.
    let life = unsafe { template.serve(environment) };
    // SAFETY: libc's variable; a life has one thread at this moment.
    unsafe { environ = life.envp };
    // SAFETY: MAIN holds the `main` that the program's start code passed.
    let main = unsafe { core::mem::transmute::<*mut c_void, Main>(MAIN.load(Ordering::Relaxed)) };
    // SAFETY: called as libc would have called it.
    unsafe { main(argc, argv, life.envp) }
}

/// libc's idea of the environment, which constructors may have changed.
pub(crate) fn environment() -> *const *const c_char {
    // SAFETY: libc's variable; a template has one thread.
    unsafe { environ }
}

/// libc's fork, which runs the program's atfork handlers.
pub(crate) fn fork() -> syscalls::Result<u32> {
    // SAFETY: a template has one thread.
    match unsafe { libc_fork() } {
        -1 => Err(errno()),
        pid => Ok(pid as u32),
    }
}

fn errno() -> i32 {
    // SAFETY: libc answers the address of this thread's errno.
    let place = unsafe { __errno_location() };
    // SAFETY: as above.
    unsafe { *place }
}

/// Sets the program's errno, for functions that stand in front of libc's.
pub fn set_errno(value: i32) {
    // SAFETY: libc answers the address of this thread's errno.
    let place = unsafe { __errno_location() };
    // SAFETY: as above.
    unsafe { *place = value };
}

/// A function of the program's libc that one of ours hides, looked up once.
#[derive(Debug)]
pub struct Hidden {
    name: &'static CStr,
    found: AtomicPtr<c_void>,
}

impl Hidden {
    /// The function of this name.
    #[must_use]
    pub const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            found: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Looks it up now, for a function that may be called where that can't be done.
    pub fn seek(&self) {
        if let Some(found) = next(self.name) {
            self.found.store(found, Ordering::Relaxed);
        }
    }

    /// Its address; the program ends where there is none, as it would have by not being linked.
    #[must_use]
    pub fn address(&self) -> *mut c_void {
        let known = self.found.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        let Some(found) = next(self.name) else {
            syscalls::exit(127)
        };
        self.found.store(found, Ordering::Relaxed);
        found
    }
}

/// The function of this name that ours hides.
fn next(name: &CStr) -> Option<*mut c_void> {
    const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
    // SAFETY: a C string; the handle asks for the objects behind this one.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// A copy of a C string that the program frees.
pub(crate) fn duplicate(text: *const c_char) -> *mut c_char {
    // SAFETY: every caller passes a kept path, which is a C string.
    unsafe { strdup(text) }
}

/// Prefaults every object that the program consists of.
pub fn prefault_objects() {
    // SAFETY: the callback takes what the loader passes it, and no data.
    unsafe { dl_iterate_phdr(prefault::object, ptr::null_mut()) };
}
