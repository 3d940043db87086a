//! Gives `libhr.so` its SONAME: programs ask the dynamic loader for `libhr.so.0` (decision 0027).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libhr.so.0");
}
