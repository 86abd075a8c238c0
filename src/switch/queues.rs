//! Egress queues: one slab of nodes for all of them, a FIFO of indices each. Reserved once; memory is
//! touched only as far as queues ever fill, which in most runs is a small part of what fits the buffer.

use crate::hint::prefetch;
use crate::limits::PRIORITIES;

/// "No node".
const NIL: u32 = u32::MAX;

/// A frame and what its departure needs to know, so that leaving a queue does not wait for the frame's own memory.
#[derive(Debug)]
pub struct Entry<F> {
    /// The frame.
    pub frame: F,
    /// Its bytes, FCS included.
    pub bytes: u32,
    /// Its buffer cells.
    pub cells: u16,
    /// Number of the priority group it is charged to.
    pub group: u16,
    /// Its colour.
    pub color: u8,
}

#[derive(Debug)]
struct Node<F> {
    frame: Option<F>,
    next: u32,
    bytes: u32,
    cells: u16,
    group: u16,
    color: u8,
}

/// One queue and its counters: a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Queue {
    head: u32,
    tail: u32,
    depth: Depth,
    /// Deepest, bytes.
    deepest: u32,
    sent: Sent,
}

/// What waits in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Bytes, FCS included; 0 when the queue is empty.
    pub bytes: u32,
    /// Cells.
    pub cells: u32,
}

/// What has left a queue for its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Frames.
    pub frames: u64,
    /// Their bytes, FCS included.
    pub bytes: u64,
}

/// All queues of one switch, numbered `port * 8 + queue`.
#[derive(Debug)]
pub struct Queues<F> {
    nodes: Vec<Node<F>>,
    /// Most nodes there may be: what was reserved.
    nodes_max: usize,
    /// Freed nodes, last freed first: the warmest memory is used again.
    free: u32,
    queues: Vec<Queue>,
    frames: usize,
}

impl<F> Queues<F> {
    /// Queues of `ports` ports that hold at most `frames` frames together.
    pub fn new(ports: usize, frames: usize) -> Queues<F> {
        let nodes_max = frames.min(NIL as usize);
        let empty =
            Queue { head: NIL, tail: NIL, depth: Depth::default(), deepest: 0, sent: Sent::default() };
        Queues {
            nodes: Vec::with_capacity(nodes_max),
            nodes_max,
            free: NIL,
            queues: vec![empty; ports * PRIORITIES],
            frames: 0,
        }
    }

    /// Makes one more node and puts it on the free list, unless all that were reserved are in use.
    #[cold]
    fn grow(&mut self) {
        if self.nodes.len() < self.nodes_max {
            self.free = self.nodes.len() as u32;
            self.nodes.push(Node { frame: None, next: NIL, bytes: 0, cells: 0, group: 0, color: 0 });
        }
    }

    /// Appends to a queue and returns its depth in bytes.
    ///
    /// # Errors
    /// Hands the entry back when the slab is full, which a slab sized by [`super::config::buffer_frames_max`] never is.
    #[inline]
    pub fn push(&mut self, queue: usize, entry: Entry<F>) -> Result<u32, Entry<F>> {
        if self.free == NIL {
            self.grow();
        }
        let ix = self.free;
        let Some(node) = self.nodes.get_mut(ix as usize) else {
            return Err(entry);
        };
        self.free = node.next;
        let Entry { frame, bytes, cells, group, color } = entry;
        *node = Node { frame: Some(frame), next: NIL, bytes, cells, group, color };
        let q = &mut self.queues[queue];
        let last = q.tail;
        q.tail = ix;
        q.depth.bytes += bytes;
        q.depth.cells += u32::from(cells);
        let depth = q.depth.bytes;
        q.deepest = q.deepest.max(depth);
        if last == NIL {
            q.head = ix;
        } else {
            self.nodes[last as usize].next = ix;
        }
        self.frames += 1;
        Ok(depth)
    }

    /// Takes the oldest frame of a queue, and says what it leaves behind.
    #[inline]
    pub fn pop(&mut self, queue: usize) -> Option<(Entry<F>, Depth)> {
        let q = &mut self.queues[queue];
        let ix = q.head;
        let node = self.nodes.get_mut(ix as usize)?;
        let frame = node.frame.take()?;
        let Node { bytes, cells, group, color, .. } = *node;
        let entry = Entry { frame, bytes, cells, group, color };
        q.head = node.next;
        node.next = self.free;
        self.free = ix;
        if q.head == NIL {
            q.tail = NIL;
        }
        q.depth.bytes -= entry.bytes;
        q.depth.cells -= u32::from(entry.cells);
        self.frames -= 1;
        Some((entry, q.depth))
    }

    /// As [`Queues::pop`]; the frame goes out and is counted.
    #[inline]
    pub fn send(&mut self, queue: usize) -> Option<(Entry<F>, Depth)> {
        let sent = self.pop(queue)?;
        let counts = &mut self.queues[queue].sent;
        counts.frames += 1;
        counts.bytes += u64::from(sent.0.bytes);
        Some(sent)
    }

    /// A frame of so many bytes joins an empty queue and leaves it at once.
    #[inline]
    pub fn pass(&mut self, queue: usize, bytes: u32) {
        let q = &mut self.queues[queue];
        q.deepest = q.deepest.max(bytes);
        q.sent.frames += 1;
        q.sent.bytes += u64::from(bytes);
    }

    /// What went out of a queue so far.
    pub fn sent(&self, queue: usize) -> Sent {
        self.queues[queue].sent
    }

    /// Most bytes that waited in a queue since the last [`Queues::mark`].
    pub fn deepest(&self, queue: usize) -> u32 {
        self.queues[queue].deepest
    }

    /// Starts the maxima again from what waits now.
    pub fn mark(&mut self) {
        self.queues.iter_mut().for_each(|q| q.deepest = q.depth.bytes);
    }

    /// Asks for the row of a queue.
    #[inline]
    pub fn expect(&self, queue: usize) {
        prefetch(self.queues.as_ptr().wrapping_add(queue));
    }

    /// What will leave a queue next: the frame, and where the entry behind it lies. For prefetching.
    #[inline]
    pub fn upcoming(&self, queue: usize) -> Option<(&F, *const u8)> {
        let head = self.nodes.get(self.queues[queue].head as usize)?;
        let behind =
            self.nodes.get(head.next as usize).map_or(std::ptr::null(), |n| std::ptr::from_ref(n).cast());
        head.frame.as_ref().map(|f| (f, behind))
    }
    /// Bytes of the frame that would leave next; 0 when the queue is empty.
    #[inline]
    pub fn head_bytes(&self, queue: usize) -> u32 {
        self.nodes.get(self.queues[queue].head as usize).map_or(0, |n| n.bytes)
    }
    /// What waits in a queue.
    #[inline]
    pub fn depth(&self, queue: usize) -> Depth {
        self.queues[queue].depth
    }
    /// Bytes waiting in a queue, FCS included.
    #[inline]
    pub fn depth_bytes(&self, queue: usize) -> u32 {
        self.queues[queue].depth.bytes
    }
    /// Groups of the frames of a queue, first to leave first.
    pub fn groups(&self, queue: usize) -> impl Iterator<Item = u16> {
        let mut next = self.queues[queue].head;
        std::iter::from_fn(move || {
            let node = self.nodes.get(next as usize)?;
            next = node.next;
            Some(node.group)
        })
    }
    /// Frames in all queues.
    pub fn frames(&self) -> usize {
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32) -> Entry<u32> {
        Entry { frame: n, bytes: 100 + n, cells: 1, group: 0, color: 0 }
    }

    #[test]
    fn queues_are_first_in_first_out_and_independent() {
        let mut q = Queues::new(2, 8);
        for n in 0..4 {
            q.push(3, entry(n)).unwrap();
            q.push(8, entry(10 + n)).unwrap();
        }
        assert_eq!((q.depth(3), q.frames()), (Depth { bytes: 406, cells: 4 }, 8));
        assert_eq!(q.send(3).map(|(e, left)| (e.frame, left)), Some((0, Depth { bytes: 306, cells: 3 })));
        q.mark();
        let order: Vec<u32> = std::iter::from_fn(|| q.pop(3)).map(|(e, _)| e.frame).collect();
        assert_eq!(order, [1, 2, 3]);
        assert_eq!((q.sent(3), q.deepest(3), q.deepest(8)), (Sent { frames: 1, bytes: 100 }, 306, 446));
        assert_eq!(q.head_bytes(8), 110);
        assert_eq!((q.depth_bytes(3), q.depth_bytes(8)), (0, 446));
    }

    #[test]
    fn a_full_slab_hands_the_frame_back_and_works_again_after_a_pop() {
        let mut q = Queues::new(1, 2);
        q.push(0, entry(1)).unwrap();
        q.push(0, entry(2)).unwrap();
        assert_eq!(q.push(0, entry(3)).unwrap_err().frame, 3);
        assert_eq!(q.pop(0).unwrap().0.frame, 1);
        q.push(0, entry(4)).unwrap();
        let order: Vec<u32> = std::iter::from_fn(|| q.pop(0)).map(|(e, _)| e.frame).collect();
        assert_eq!(order, [2, 4]);
    }
}
