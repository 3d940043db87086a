//! Sees through the wrappers of version managers (pyenv, rbenv, nodenv, asdf ...).
//!
//! A manager puts a small script for each program into its folder `shims`, which comes first in
//! `PATH`; the script finds out which version is meant and executes that. Taken literally, its
//! shell would be the image, and every life would read the manager's scripts from stable storage
//! (against SPEC H10) and take a tenth of a second to begin. So the manager is asked once, at the first
//! start: `MANAGER which PROGRAM`. Called by [`crate::image`] and by the controller's loader.
//!
//! Must never fail: who gives no answer is taken literally.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a manager may think.
const PATIENCE: Duration = Duration::from_secs(5);

/// The program behind `path` if that is a manager's wrapper; versions may depend on the directory,
/// which is `cwd`.
#[must_use]
pub fn behind(path: &Path, cwd: &Path) -> Option<PathBuf> {
    let shims = path.parent().filter(|parent| parent.ends_with("shims"))?;
    let mut front = [0; 2];
    File::open(path).ok()?.read_exact(&mut front).ok()?;
    let root = shims.parent().filter(|_| front == *b"#!")?;
    let manager = root.file_name()?.to_str()?.trim_start_matches('.');
    let places = ["bin", "libexec", ""].map(|folder| root.join(folder).join(manager));
    let manager = places.into_iter().find(|place| place.is_file())?;
    let answer = ask(Command::new(manager)
        .arg("which")
        .arg(path.file_name()?)
        .current_dir(cwd))?;
    let program = PathBuf::from(answer.lines().next()?);
    (program.is_absolute() && program.is_file() && program != path).then_some(program)
}

/// What a command prints, if it ends well and in time.
fn ask(command: &mut Command) -> Option<String> {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    let mut answer = String::new();
    // A path: it fits the pipe, so the child never waits for us to read.
    child.stdout.take()?.read_to_string(&mut answer).ok()?;
    status.success().then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn script(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn h10_the_program_behind_a_wrapper_is_found_once() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(".someenv");
        let (wrapper, real) = (root.join("shims/tool"), root.join("versions/1/bin/tool"));
        script(&real, "#!/bin/sh\n");
        script(&wrapper, "#!/bin/sh\nexit 9\n");
        let manager = root.join("bin/someenv");
        script(
            &manager,
            &format!(
                "#!/bin/sh\n[ $1 = which ] && [ $2 = tool ] && echo {}\n",
                real.display()
            ),
        );
        assert_eq!(behind(&wrapper, dir.path()), Some(real.clone()));
        assert_eq!(behind(&real, dir.path()), None, "not in a folder shims");
        script(&manager, "#!/bin/sh\nexit 1\n");
        assert_eq!(behind(&wrapper, dir.path()), None, "no answer");
        script(
            &manager,
            &format!("#!/bin/sh\necho {}\n", wrapper.display()),
        );
        assert_eq!(
            behind(&wrapper, dir.path()),
            None,
            "a wrapper that means itself"
        );
    }
}
