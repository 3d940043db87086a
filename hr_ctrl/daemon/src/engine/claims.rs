//! What a template says of its children, checked before it is believed.
//!
//! Called for each pidfd that a template hands over. What runs in a template is mostly the actor's own
//! program, whose constructors may do as they like with its socket: it could hand over the pidfd of somebody
//! else, who would then be killed in the place of a standby. So a pidfd is believed when its process is a
//! child of that template and has the pid that was named. That is one ioctl, off the restart path.
//!
//! A process that was reaped already can be signalled no more, and harms nobody. Must never signal anybody
//! by a pidfd that was not checked here.

use std::io;

use refrain_image::Template;
use refrain_sys::PidFd;

/// Why a template is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ClaimError {
    /// The process is somebody else's.
    #[error(
        "the template names process {claimed} its child and passes process {pid}, a child of {parent}"
    )]
    NotItsChild {
        /// What it says.
        claimed: u32,
        /// What the pidfd is.
        pid: u32,
        /// Whose child that is.
        parent: u32,
    },
    /// There is no pidfd.
    #[error("the template names process {claimed} its child and passes no pidfd of it: {why}")]
    NoPidFd {
        /// What it says.
        claimed: u32,
        /// Why.
        why: io::Error,
    },
}

/// Whether `pidfd` is that of `claimed`, a child of this template, or of a process that was reaped.
///
/// # Errors
/// [`ClaimError`]: the template is not to be believed in anything.
pub(super) fn check(template: &Template, claimed: u32, pidfd: &PidFd) -> Result<(), ClaimError> {
    match pidfd.identity() {
        Ok(Some(who)) if who.pid != claimed || who.parent != template.pid => {
            Err(ClaimError::NotItsChild {
                claimed,
                pid: who.pid,
                parent: who.parent,
            })
        }
        Ok(_) => Ok(()),
        Err(why) => Err(ClaimError::NoPidFd { claimed, why }),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use refrain_image::StartKind;
    use refrain_sys::seqpacket;

    use super::*;

    /// A process that ends when its stdin closes.
    fn sleeper() -> Child {
        let command = &mut Command::new("cat");
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    fn end(mut child: Child) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    fn template(pid: u32) -> Template {
        let (socket, _) = seqpacket::pair().unwrap();
        let pidfd = PidFd::open(pid).unwrap();
        Template::over(pid, pidfd, socket, StartKind::Template)
    }

    #[test]
    fn a_template_is_believed_of_its_own_children_only() {
        let this = template(std::process::id());
        let child = sleeper();
        let pidfd = PidFd::open(child.id()).unwrap();
        assert!(check(&this, child.id(), &pidfd).is_ok());
        // Its own child under another name, its own parent, itself, a child of another template.
        let other = sleeper();
        let another = template(other.id());
        let wrong = [
            (&this, other.id(), child.id()),
            (&this, 1, 1),
            (&this, std::process::id(), std::process::id()),
            (&another, child.id(), child.id()),
        ];
        for (template, claimed, pid) in wrong {
            let refused = check(template, claimed, &PidFd::open(pid).unwrap());
            assert!(
                matches!(refused, Err(ClaimError::NotItsChild { .. })),
                "{refused:?}"
            );
        }
        let pid = child.id();
        end(child);
        assert!(check(&this, pid, &pidfd).is_ok(), "nobody can be harmed");
        end(other);
    }

    #[test]
    fn a_file_is_no_child() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let this = template(std::process::id());
        let refused = check(&this, 1, &PidFd::from(std::os::fd::OwnedFd::from(file)));
        assert!(
            matches!(refused, Err(ClaimError::NoPidFd { claimed: 1, .. })),
            "{refused:?}"
        );
    }
}
