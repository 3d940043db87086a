//! `arun` as a program of its own: see `docs/commands/arun.md`.

fn main() {
    std::process::exit(c_init::applet::main("arun"));
}
