//! The hash that keeps a user on his side of a split and at his instance. It is a promise: `docs/gateway.md` tells it, with
//! vectors, and it never changes.
//!
//! Every side has a score for every user, and the least score wins (weighted rendezvous hashing): `-ln(u) / weight`, where `u` is
//! a number between 0 and 1 made of the hash of the user and the name of the side. A side that grows takes users from others and
//! gives none away; a side that shrinks gives some away and takes none.

/// FNV-1a, 64 bits.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The finalizer of MurmurHash3, 64 bits.
pub(crate) fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// The part of a hash that a name gives.
pub(crate) fn salt(name: &str) -> u64 {
    mix(fnv1a(name.as_bytes()))
}

/// The hash of a user and a name.
pub(crate) fn seat(user: u64, salt: u64) -> u64 {
    mix(user ^ salt)
}

/// The score of a side for a user; the least wins.
pub(crate) fn score(user: u64, salt: u64, weight: f64) -> f64 {
    // 53 bits, the middle of each step: never 0 and never 1.
    let unit = ((seat(user, salt) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -unit.ln() / weight
}

/// The index of the side of a user among sides with their salts and weights above 0; `None` without sides.
pub(crate) fn side(user: u64, sides: impl Iterator<Item = (u64, f64)>) -> Option<usize> {
    let scores = sides.map(|(salt, weight)| score(user, salt, weight));
    let least = scores.enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    Some(least.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["default/stable", "default/canary", "default/third"];

    fn sides(users: u32, weights: &[u32]) -> Vec<usize> {
        let of = |user: u32| {
            let sides = NAMES.iter().zip(weights).filter(|(_, w)| **w > 0);
            let sides = sides.map(|(name, w)| (salt(name), f64::from(*w)));
            side(fnv1a(format!("user-{user}").as_bytes()), sides).unwrap()
        };
        (0..users).map(of).collect()
    }

    /// These are in docs/gateway.md. A change here moves the users of everybody.
    #[test]
    fn golden_vectors() {
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        let canary = |user: &str, weight: f64| {
            let both = [(salt(NAMES[0]), 100.0 - weight), (salt(NAMES[1]), weight)];
            side(fnv1a(user.as_bytes()), both.into_iter()) == Some(1)
        };
        // The least share of the canary in percent with which each user is on it.
        let least = |user: &str| (1..100).find(|w| canary(user, f64::from(*w))).unwrap();
        let users = [
            "alice", "bob", "carol", "dave", "user-1", "user-2", "42", "",
        ];
        assert_eq!(users.map(least), [4, 78, 92, 67, 67, 77, 85, 3]);
    }

    #[test]
    fn shares_are_what_was_asked() {
        let on_canary = sides(100_000, &[95, 5]).iter().sum::<usize>();
        assert!((4_800..5_200).contains(&on_canary), "{on_canary}");
    }

    #[test]
    fn growing_moves_users_to_the_side_that_grows_alone_and_shrinking_moves_them_back() {
        let weights = [[95, 5], [90, 10], [75, 25], [50, 50], [1, 99]];
        for pair in weights.windows(2) {
            let (before, after) = (sides(5_000, &pair[0]), sides(5_000, &pair[1]));
            let left = before
                .iter()
                .zip(&after)
                .filter(|(b, a)| **b == 1 && **a == 0);
            assert_eq!(left.count(), 0, "{pair:?}");
        }
        assert_eq!(sides(5_000, &[90, 10]), sides(5_000, &[9, 1]));
        // A third side takes from both others and moves nobody between them.
        let (before, after) = (sides(5_000, &[50, 50, 0]), sides(5_000, &[50, 50, 20]));
        let between = before
            .iter()
            .zip(&after)
            .filter(|(b, a)| **a != 2 && b != a);
        assert_eq!(between.count(), 0);
    }
}
