//! A loopback address for every pod, from 127.64.0.0/10.
//!
//! The address follows from the pod's uid, so that it is the same after a restart of the node; pods that would collide move
//! on to the next free one. Addresses that end in 0 or 255 are left out: some programs refuse them.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::Ipv4Addr;

const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const COUNT: u32 = 1 << 22;

/// The addresses in use.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    used: BTreeMap<Ipv4Addr, String>,
}

impl Addresses {
    /// Gives the pod its address: the one it has, else `wanted` when that is ours and free, else one of its own. `None` when
    /// all four million are taken.
    pub(crate) fn assign(&mut self, uid: &str, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        if let Some((address, _)) = self.used.iter().find(|(_, owner)| *owner == uid) {
            return Some(*address);
        }
        let wanted = wanted.filter(|a| is_ours(*a) && !self.used.contains_key(a));
        let address = wanted.or_else(|| self.free(uid))?;
        self.used.insert(address, uid.to_owned());
        Some(address)
    }

    /// Takes back the address of a pod that is gone.
    pub(crate) fn release(&mut self, uid: &str) {
        self.used.retain(|_, owner| owner != uid);
    }

    fn free(&self, uid: &str) -> Option<Ipv4Addr> {
        let mut hasher = fnv::FnvHasher::default();
        uid.hash(&mut hasher);
        // FNV leaves little in the low bits of similar names; the high half is folded in.
        let hash = hasher.finish();
        let start = u32::try_from((hash ^ (hash >> 32)) & u64::from(COUNT - 1)).unwrap_or(0);
        (0..COUNT)
            .map(|n| Ipv4Addr::from(FIRST + (start.wrapping_add(n)) % COUNT))
            .find(|address| is_ours(*address) && !self.used.contains_key(address))
    }
}

fn is_ours(address: Ipv4Addr) -> bool {
    let [_, _, _, last] = address.octets();
    let number = u32::from(address);
    (FIRST..FIRST + COUNT).contains(&number) && last != 0 && last != 255
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn an_address_follows_from_the_uid() {
        let one = Addresses::default().assign("a-uid", None);
        let two = Addresses::default().assign("a-uid", None);
        assert_eq!(one, two);
        assert!(is_ours(one.unwrap()));
        assert_ne!(one, Addresses::default().assign("b-uid", None));
    }

    #[test]
    fn living_pods_never_share_one() {
        let mut addresses = Addresses::default();
        let all: BTreeSet<_> = (0..2000)
            .map(|n| addresses.assign(&format!("pod-{n}"), None).unwrap())
            .collect();
        assert_eq!(all.len(), 2000);
        let first = addresses.assign("pod-0", None);
        assert_eq!(
            addresses.assign("thief", first),
            addresses
                .free("thief")
                .or(first)
                .and(addresses.assign("thief", None))
        );
        assert_ne!(addresses.assign("thief", None), first);
    }

    #[test]
    fn a_recorded_address_is_kept_and_a_foreign_one_is_not() {
        let mut addresses = Addresses::default();
        let recorded = Ipv4Addr::new(127, 64, 9, 9);
        assert_eq!(addresses.assign("a", Some(recorded)), Some(recorded));
        let other = addresses.assign("b", Some(Ipv4Addr::LOCALHOST)).unwrap();
        assert!(is_ours(other));
        addresses.release("a");
        assert_eq!(addresses.assign("c", Some(recorded)), Some(recorded));
    }
}
