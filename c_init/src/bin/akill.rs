//! `akill` as a program of its own: see `docs/commands/akill.md`.

fn main() {
    std::process::exit(c_init::applet::main("akill"));
}
