#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]
use rankstorm::{plan::Mode, profile, run};
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let mut o = profile::Overrides::default();
    o.set = a[3..].to_vec();
    let plan = profile::load(std::path::Path::new(&a[1]), &o).unwrap();
    let mode = if a[2] == "rings" { Mode::Rings } else { Mode::Virtual };
    let r = run::execute(&plan, run::Options::new(mode)).unwrap();
    println!("{:?} ended {} done {} complete {} missing {:?}", r.mode, r.ended.0, r.iterations_done, r.complete, r.missing);
    println!("{:?} holds {}", r.conservation, r.conservation.holds());
    println!("{:#?}", r.tester);
    for s in &r.switches { println!("sw rx {} tx {} drops {} lossless {} ce {} shared {} hdrm {} ingress {}", s.rx_frames, s.tx_frames, s.drops, s.drops_lossless, s.ce_marked, s.shared_bytes_max, s.headroom_bytes_max, s.ingress_bytes_max); }
    let h = &r.hosts[0]; println!("h0 tx {} rx {} ack {} xoff {} xon {} refr {} to {}", h.tx_frames, h.rx_frames, h.ack_rx, h.pfc[3].xoff_rx, h.pfc[3].xon_rx, h.pfc[3].refresh_rx, h.timeouts);
    for w in r.recorder.iterations() { for it in w.finished().take(3) { println!("{:?} completion {:?}", it.released, it.completion()); } }
    println!("hash {}", r.outcome_hash());
    if let Some(s) = r.sim { println!("{s:?} {:.2} M link tx / cpu s, {:.2} events/tx", s.link_transmissions as f64 / s.cpu_s / 1e6, s.events as f64 / s.link_transmissions as f64); }
}
