//! Doubly linked lists over slot numbers, in one vector.

/// No slot: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

/// The links of a slot: 12 bytes.
#[derive(Clone, Copy)]
pub(super) struct Link {
    /// The neighbour towards the front.
    prev: u32,
    /// The neighbour towards the back.
    next: u32,
    /// The list that the slot is in.
    list: u8,
    /// Uses counted by the policy.
    pub(super) frequency: u8,
    /// The epoch in which the frequency was last halved.
    pub(super) epoch: u16,
}

impl Link {
    const UNLINKED: Self = Self { prev: NONE, next: NONE, list: u8::MAX, frequency: 0, epoch: 0 };
}

#[derive(Clone, Copy)]
struct Ends {
    front: u32,
    back: u32,
    len: u32,
    weight: u64,
}

impl Ends {
    const EMPTY: Self = Self { front: NONE, back: NONE, len: 0, weight: 0 };
}

/// `N` lists; each slot is in at most one of them.
pub(super) struct Lists<const N: usize> {
    links: Vec<Link>,
    ends: [Ends; N],
}

impl<const N: usize> Lists<N> {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), ends: [Ends::EMPTY; N] }
    }

    pub(super) fn clear(&mut self) {
        self.links.clear();
        self.ends = [Ends::EMPTY; N];
    }

    pub(super) fn front(&self, list: usize) -> Option<u32> {
        some(self.ends[list].front)
    }

    pub(super) fn back(&self, list: usize) -> Option<u32> {
        some(self.ends[list].back)
    }

    /// The slot nearest to the back that is not `keep`.
    pub(super) fn last(&self, list: usize, keep: Option<u32>) -> Option<u32> {
        let last = self.back(list)?;
        if Some(last) == keep { self.prev(last) } else { Some(last) }
    }

    /// The slot before `slot`, nearer to the front.
    pub(super) fn prev(&self, slot: u32) -> Option<u32> {
        some(self.link(slot).prev)
    }

    pub(super) fn list(&self, slot: u32) -> usize {
        usize::from(self.link(slot).list)
    }

    pub(super) fn len(&self, list: usize) -> u32 {
        self.ends[list].len
    }

    pub(super) fn weight(&self, list: usize) -> u64 {
        self.ends[list].weight
    }

    pub(super) fn link(&self, slot: u32) -> &Link {
        &self.links[slot as usize]
    }

    pub(super) fn link_mut(&mut self, slot: u32) -> &mut Link {
        &mut self.links[slot as usize]
    }

    /// Changes the weight of `slot` from `former` to `weight`.
    pub(super) fn reweigh(&mut self, slot: u32, former: u32, weight: u32) {
        let ends = &mut self.ends[usize::from(self.links[slot as usize].list)];
        ends.weight = ends.weight - u64::from(former) + u64::from(weight);
    }

    pub(super) fn push_front(&mut self, list: usize, slot: u32, weight: u32) {
        self.reserve(slot);
        let former = self.ends[list].front;
        let link = &mut self.links[slot as usize];
        (link.prev, link.next, link.list) = (NONE, former, list as u8);
        let ends = &mut self.ends[list];
        ends.front = slot;
        match some(former) {
            Some(former) => self.links[former as usize].prev = slot,
            None => ends.back = slot,
        }
        ends.len += 1;
        ends.weight += u64::from(weight);
    }

    pub(super) fn unlink(&mut self, slot: u32, weight: u32) {
        let Link { prev, next, list, .. } = self.links[slot as usize];
        let ends = &mut self.ends[usize::from(list)];
        ends.len -= 1;
        ends.weight -= u64::from(weight);
        match some(prev) {
            Some(prev) => self.links[prev as usize].next = next,
            None => ends.front = next,
        }
        match some(next) {
            Some(next) => self.links[next as usize].prev = prev,
            None => self.ends[usize::from(list)].back = prev,
        }
    }

    /// Moves `slot` to the front of `list`, which may be its present list.
    pub(super) fn move_to_front(&mut self, list: usize, slot: u32, weight: u32) {
        self.unlink(slot, weight);
        self.push_front(list, slot, weight);
    }

    /// The slots of `list` from the front.
    pub(super) fn iter(&self, list: usize) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.front(list), |slot| some(self.link(*slot).next))
    }

    fn reserve(&mut self, slot: u32) {
        let slots = slot as usize + 1;
        if self.links.len() < slots {
            self.links.resize(slots, Link::UNLINKED);
        }
    }
}

fn some(slot: u32) -> Option<u32> {
    (slot != NONE).then_some(slot)
}
