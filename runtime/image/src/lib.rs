//! Actor images, and the templates that lives come from.
//!
//! Called by the controller, off the restart path: [`Image::load`] copies a program into sealed
//! memory once, [`Template::spawn`] brings it up to just before its `main`, and every life is forked
//! from there. The restart itself is a futex wake, done by the controller.
//!
//! | module | what |
//! | --- | --- |
//! | [`image`] | a program file as an image: checked, copied, sealed |
//! | [`elf`] | what must be known of an ELF file |
//! | [`script`] | `#!` lines |
//! | [`program`] | an image with arguments, environment, directory, limits: what an actor runs |
//! | [`template`] | the process that forks lives, and its socket |
//! | [`wrapper`] | the program behind a version manager's wrapper |
//!
//! Must never execute a file that it was not asked for, nor trust a byte of one.

pub mod elf;
pub mod image;
pub mod kept;
pub mod program;
pub mod script;
pub mod template;
pub mod wrapper;

mod interpreter;
mod objects;

pub use image::{Image, ImageError, find_in_path};
pub use program::Program;
pub use template::{Heard, StartKind, Template, TemplateError, choose_start};
