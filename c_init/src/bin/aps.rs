//! `aps` as a program of its own: see `docs/commands/aps.md`.

fn main() {
    std::process::exit(c_init::applet::main("aps"));
}
