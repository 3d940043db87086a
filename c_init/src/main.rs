//! `c_init`: starts a site, or gives commands to one. By another name it is a command of its own
//! (`arun`, `aps` ...), or a boot process of a site (`nucleus`, `hr_ctrl`).

fn main() {
    std::process::exit(c_init::main());
}
