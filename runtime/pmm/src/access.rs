//! Who may use a block (SPEC H17, H19). Pure: called by `bank` for every request, and by recovery
//! when it finishes a request of an earlier controller, so both decide alike.
//!
//! It must never look at anything but the block's record and who asks.

use std::fmt;

use refrain_abi::Gid;

/// Who asks, and whose a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Owner {
    /// An actor of a restart group.
    Group(Gid),
    /// An ordinary actor. All ordinary actors share one scope, as they have no group to tell
    /// them apart by (SPEC H16).
    Ordinary,
    /// The controller itself. It reaches every block; nobody else reaches its own.
    Site,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(gid) => write!(f, "group {gid}"),
            Self::Ordinary => f.write_str("the ordinary actors"),
            Self::Site => f.write_str("the controller"),
        }
    }
}

/// Whether `by` may map and free a block of `owner` that was granted to `granted`.
pub(crate) fn may_use(by: Owner, owner: Owner, granted: &[Gid]) -> bool {
    may_grant(by, owner) || matches!(by, Owner::Group(gid) if granted.contains(&gid))
}

/// Whether `by` may let another group in. A group that was let in itself may not pass it on.
pub(crate) fn may_grant(by: Owner, owner: Owner) -> bool {
    by == Owner::Site || by == owner
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = Owner::Group(Gid(1));
    const TWO: Owner = Owner::Group(Gid(2));

    #[test]
    fn h19_a_group_reaches_its_own_and_what_it_was_granted() {
        assert!(may_use(ONE, ONE, &[]));
        assert!(!may_use(TWO, ONE, &[]));
        assert!(may_use(TWO, ONE, &[Gid(7), Gid(2)]));
        assert!(!may_use(Owner::Ordinary, ONE, &[Gid(1)]));
        assert!(!may_use(ONE, Owner::Ordinary, &[]));
        assert!(may_use(Owner::Ordinary, Owner::Ordinary, &[]));
    }

    #[test]
    fn h19_the_controller_reaches_all_and_nobody_reaches_its_blocks() {
        for owner in [ONE, Owner::Ordinary, Owner::Site] {
            assert!(may_use(Owner::Site, owner, &[]));
        }
        assert!(!may_use(ONE, Owner::Site, &[]));
        assert!(!may_use(Owner::Ordinary, Owner::Site, &[]));
    }

    #[test]
    fn h19_a_group_that_was_let_in_cannot_let_others_in() {
        assert!(may_grant(ONE, ONE));
        assert!(may_grant(Owner::Site, ONE));
        assert!(!may_grant(TWO, ONE));
    }
}
