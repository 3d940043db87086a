//! `memstat` as a program of its own: see `docs/commands/memstat.md`.

fn main() {
    std::process::exit(c_init::applet::main("memstat"));
}
