//! `chorusStat` as a program of its own: see `docs/commands/chorusStat.md`.
#![allow(non_snake_case)] // spelled as in ChorusOS

fn main() {
    std::process::exit(c_init::applet::main("chorusStat"));
}
