//! Cables that go down, come up, slow down or spoil bits. Everything here is off the path of cables that nothing happens
//! to.
//!
//! A frame is lost when its link was down at any moment between its first bit leaving and its last bit arriving. The
//! sending end loses what it sends while the link is down (queues drain into the dark, as they do behind a port whose
//! routes have not been withdrawn yet); the receiving end loses what was on its way. Each end knows the same times, so the
//! outcome does not depend on where the engines are cut.

use super::calendar::Key;
use super::engine::{Engine, Place, bytes_of, kind};
use crate::frame::{Frame, FramePool};
use crate::measure::record::{DropReason, Record as _};
use crate::plan::links::{LinkChange, LinkPlan};
use crate::rng::Rng;
use crate::topology::{End, Fabric};
use crate::units::{LinkTiming, Rate, Time};

/// The cables of a run that something happens to, as one engine sees them.
pub(super) struct HurtLinks {
    plan: LinkPlan,
    /// By directed link, in order.
    rows: Vec<Hurt>,
}

struct Hurt {
    link: u32,
    from: End,
    /// Where frames go once they have passed.
    to: Place,
    /// The far end is in this engine.
    local: bool,
    /// As the profile has it.
    own: LinkTiming,
    /// Rate of its cable: that of `own` but for the clock of a tester port.
    nominal: Rate,
    timing: LinkTiming,
    up: bool,
    /// When it last went down.
    fell: Option<Time>,
    /// Bit error rate.
    ber: f64,
    rng: Rng,
}

impl Hurt {
    /// The link at another rate of its cable. Its clock stays as far off as it is, and what it leads into waits for
    /// whole frames while it is slower than its profile says.
    fn at_rate(&self, rate: Rate) -> LinkTiming {
        if rate == self.nominal {
            return self.own;
        }
        let own = u128::from(self.own.rate().bits_per_s) * u128::from(rate.bits_per_s);
        let bits = own.checked_div(u128::from(self.nominal.bits_per_s)).unwrap_or(0);
        let rate = Rate { bits_per_s: u64::try_from(bits).unwrap_or(u64::MAX) };
        LinkTiming::new(rate, self.own.propagation())
    }
}

impl HurtLinks {
    fn row(&mut self, link: u32) -> Option<&mut Hurt> {
        let at = self.rows.binary_search_by_key(&link, |r| r.link).ok()?;
        self.rows.get_mut(at)
    }
}

/// Probability that a frame of so many bytes on the wire (FCS included) has a wrong bit.
pub(super) fn spoilt(ber: f64, bytes: u64) -> f64 {
    // 1 - (1 - ber)^bits without losing small ones.
    -f64::exp_m1(bytes as f64 * 8.0 * f64::ln_1p(-ber))
}

impl<F: Frame, P: FramePool<Frame = F>> Engine<F, P> {
    /// Takes the events of the plan into the calendar and puts their cables under watch.
    pub(super) fn watch_links(&mut self, fabric: &Fabric, plan: &LinkPlan, seed: u64) {
        let links: Vec<u32> = plan.cables().iter().flat_map(|c| [2 * c, 2 * c + 1]).collect();
        self.recorder.network_mut().watch_links(links.iter().copied());
        let mut rows = Vec::with_capacity(links.len());
        for &link in &links {
            let (to, local) = self.hurt(link as usize);
            let of = &fabric.links[link as usize];
            rows.push(Hurt {
                link,
                from: of.from,
                to,
                local,
                own: of.timing,
                nominal: fabric.nominal_rate(link / 2),
                timing: of.timing,
                up: true,
                fell: None,
                ber: 0.0,
                rng: Rng::new(seed, "bit errors", u64::from(link)),
            });
        }
        for (i, event) in plan.events.iter().enumerate() {
            self.calendar.push(event.at, Key::new(kind::LINK, i as u32));
        }
        if self.has_switches() {
            for (i, (at, _)) in plan.reroutes.iter().enumerate() {
                self.calendar.push(*at, Key::new(kind::ROUTES, i as u32));
            }
        }
        self.hurt_links = Some(Box::new(HurtLinks { plan: plan.clone(), rows }));
    }

    /// An event of the plan has come.
    #[cold]
    pub(super) fn link_event(&mut self, index: u32) {
        let now = self.now;
        let Some(hurt) = &mut self.hurt_links else { return };
        let Some(event) = hurt.plan.events.get(index as usize).copied() else { return };
        let mut ends: [Option<(End, LinkTiming)>; 2] = [None; 2];
        for (link, end) in [2 * event.cable, 2 * event.cable + 1].into_iter().zip(&mut ends) {
            let Some(row) = hurt.row(link) else { continue };
            match event.change {
                LinkChange::Down => (row.up, row.fell) = (false, Some(now)),
                LinkChange::Up => row.up = true,
                LinkChange::BitErrors(ber) => row.ber = ber,
                LinkChange::Rate(rate) => row.timing = row.at_rate(rate),
            }
            *end = Some((row.from, row.timing));
        }
        for (link, (from, timing)) in
            [2 * event.cable, 2 * event.cable + 1].into_iter().zip(ends.into_iter().flatten())
        {
            self.links[link as usize].timing = timing;
            let End::Switch(s, port) = from else { continue };
            let Some(s) = self.switch_index(s) else { continue };
            match event.change {
                LinkChange::Rate(_) => self.switch_mut(s).set_egress(port, timing),
                LinkChange::Down | LinkChange::Up => self.switch_mut(s).link_changed(port),
                LinkChange::BitErrors(_) => {}
            }
            self.wake_switch(s);
        }
    }

    /// All switches take the next routes.
    #[cold]
    pub(super) fn reroute(&mut self, index: u32) {
        let Some((_, routes)) = self.hurt_links.as_ref().and_then(|h| h.plan.reroutes.get(index as usize))
        else {
            return;
        };
        let routes = routes.clone();
        self.each_switch(|index, switch| {
            if let Some(own) = routes.get(usize::from(index)) {
                switch.set_routes(own);
            }
        });
    }

    /// A frame has been put on a watched link: it goes on, or into the dark.
    #[cold]
    pub(super) fn transmit_hurt(&mut self, link: usize, mut frame: F) {
        let Some(row) = self.hurt_links.as_mut().and_then(|h| h.row(link as u32)) else { return };
        match (row.up, row.local) {
            (true, true) => self.deliver(link, frame.meta().arrive, frame),
            (true, false) => {
                frame.meta_mut().driver = link as u32;
                self.outbox.push_back(frame);
            }
            (false, _) => {
                if let Some(loss) = self.recorder.network_mut().loss(link as u32) {
                    loss.blackholed += 1;
                }
                self.lose_on_link(frame, DropReason::LinkDown);
            }
        }
    }

    /// A frame has come to the end of a watched link.
    #[cold]
    pub(super) fn arrive_hurt(&mut self, link: usize, frame: F) {
        let now = self.now;
        let Some(row) = self.hurt_links.as_mut().and_then(|h| h.row(link as u32)) else { return };
        let sent = Time(now.0.saturating_sub(row.timing.delay(frame.len()).0));
        let dark = !row.up || row.fell.is_some_and(|fell| fell >= sent);
        let wrong = row.ber > 0.0 && row.rng.unit() < spoilt(row.ber, bytes_of(frame.len()));
        let to = row.to;
        if !dark && !wrong {
            return self.land(to, link, frame);
        }
        if let Some(loss) = self.recorder.network_mut().loss(link as u32) {
            loss.in_flight += u64::from(dark);
            loss.bit_errors += u64::from(!dark);
        }
        self.lose_on_link(frame, if dark { DropReason::LinkDown } else { DropReason::BitError });
    }

    fn lose_on_link(&mut self, frame: F, reason: DropReason) {
        self.recorder.drop(self.now, 0, 0, frame.meta(), reason);
        self.conservation.dropped_frames += 1;
        self.conservation.dropped_bytes += bytes_of(frame.len());
        self.pool.give(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1 - (1 - ber)^bits: about bits x ber while that is small, 1 - 1/e when it is 1, certain when every bit is wrong.
    #[test]
    fn bit_errors_become_frame_losses() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-3 * b, "{a} {b}");
        close(spoilt(1e-12, 4_158), 33_264.0 * 1e-12);
        close(spoilt(1.0 / 33_264.0, 4_158), 1.0 - (-1.0f64).exp());
        assert_eq!(spoilt(0.0, 4_158), 0.0);
        assert_eq!(spoilt(1.0, 64), 1.0);
    }
}
