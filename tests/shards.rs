//! Ranks, queue pairs and streams of a port divided among its queues.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::sync::Arc;

use rankstorm::plan::Plan;
use rankstorm::plan::shards::{Homes, low_word, neighbours_apart, shards};
use rankstorm::profile::{self, Overrides};
use rankstorm::transport::config::QPN_FIRST;
use rankstorm::units::RankId;
use rankstorm::workload::schedule::{Op, OpKind, Schedule};

/// Two ports with four ranks each. `writes`: messages of 64 KiB, from and to, over two queue pairs each.
fn plan(queues: u16, writes: &[(u32, u32)], more: &str) -> Plan {
    let port = |i| {
        format!(
            "[[port]]\nname = \"p{i}\"\ndevice = \"loop:x\"\nrate = \"10G\"\nranks_per_port = 4\nqueues = {queues}\n"
        )
    };
    let mut schedule = Schedule { ranks: vec![Vec::new(); 8], ..Schedule::default() };
    for (tag, (from, to)) in (0..).zip(writes) {
        let (there, back) = (RankId(*to), RankId(*from));
        schedule.ranks[*from as usize].push(Op::new(OpKind::Send { peer: there, bytes: 1 << 16, tag }));
        schedule.ranks[*to as usize].push(Op::new(OpKind::Recv { peer: back, bytes: 1 << 16, tag }));
    }
    let replay = match writes {
        [] => "",
        _ => "[[workload]]\nkind = \"replay\"\nfile = \"writes\"\nqps_per_pair = 2\n",
    };
    let text = format!(
        "schema = 1\nname = \"shards\"\n[run]\non = \"ports\"\nlimit = \"1 s\"\n{}{}{replay}{more}",
        port(0),
        port(1)
    );
    let schedules = vec![("writes".to_owned(), Arc::new(schedule))];
    profile::from_str("test", &text, &Overrides { schedules, ..Overrides::default() })
        .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_queue_pair_is_on_one_queue_and_both_ends_name_each_other() {
    let streams = "[[stream]]\nfrom = 1\nto = 6\nsize = 100\nload = \"1%\"\nduration = \"1 ms\"\n\
                   [[stream]]\nfrom = 2\nto = 6\nsize = 200\nload = \"1%\"\nduration = \"1 ms\"\n";
    let p = plan(2, &[(0, 5), (1, 5), (2, 5), (3, 5), (7, 0)], streams);
    let all = shards(&p);
    let places: Vec<_> = all.iter().map(|s| (s.queue, s.port)).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)], "consecutive shards burden all ports");
    assert_eq!(all.iter().map(|s| s.host.qps.len()).sum::<usize>(), 2 * 2 * 5);
    for s in &all {
        assert!(s.host.ranks.iter().all(|r| r.rank.0 % 2 == u32::from(s.queue)), "{:?}", s.host.ranks);
        for (i, q) in s.host.qps.iter().enumerate() {
            assert_eq!(q.local_qpn, QPN_FIRST + i as u32);
            let there = all.iter().find(|o| o.host.ranks.iter().any(|r| r.rank == q.peer_rank)).unwrap();
            let back = &there.host.qps[(q.peer_qpn - QPN_FIRST) as usize];
            let (ours, theirs) = ((q.local_qpn, q.local_rank, q.peer_rank), (back.peer_qpn, back.peer_rank));
            assert_eq!((ours.0, ours.1, ours.2), (theirs.0, theirs.1, back.local_rank));
            assert_eq!((back.psn_first, back.peer_psn_first), (q.peer_psn_first, q.psn_first));
            assert_eq!((back.local_ip, back.peer_ip), (q.peer_ip, q.local_ip));
        }
        let froms: Vec<u32> = s.host.streams.iter().map(|s| s.from.0).collect();
        let indices: Vec<u32> = s.host.stream_to.iter().map(|t| t.index).collect();
        match (s.port, s.queue) {
            (0, 0) => assert_eq!((froms, indices), (vec![2], vec![1])),
            (0, 1) => assert_eq!((froms, indices), (vec![1], vec![0])),
            _ => assert!(froms.is_empty() && indices.is_empty()),
        }
    }
    assert_eq!(neighbours_apart(&p), None);
}

#[test]
fn bursts_go_with_their_sender_and_pauses_with_the_first_queue() {
    let at = "[[stream]]\nfrom = 1\nto = 4\nsize = 64\nload = \"1%\"\nduration = \"1 ms\"\n\
              [[at]]\ntime = \"1 ms\"\nburst = { from = 0, to = 5, size = 64, frames = 9 }\n\
              [[at]]\ntime = \"2 ms\"\npause = { port = 0, priority = 3, hold = \"1 ms\" }\n";
    let all = shards(&plan(2, &[], at));
    let of = |queue| &all.iter().find(|s| (s.port, s.queue) == (0, queue)).unwrap().host;
    assert_eq!((of(0).actions.len(), of(0).streams.len(), of(0).stream_to.len()), (1, 1, 1));
    assert_eq!((of(1).actions.len(), of(1).streams.len(), of(1).stream_to.len()), (0, 1, 1));
    assert_ne!(of(0).stream_to[0].index, of(1).stream_to[0].index);
}

#[test]
fn one_queue_changes_nothing() {
    let p = plan(1, &[(0, 5), (1, 4)], "");
    for (shard, host) in shards(&p).iter().zip(&p.hosts) {
        assert_eq!((&shard.host.qps, &shard.host.ranks), (&host.qps, &host.ranks));
    }
}

#[test]
fn ranks_that_talk_inside_a_port_must_share_a_queue() {
    assert_eq!(neighbours_apart(&plan(2, &[(0, 2), (0, 5)], "")), None);
    assert_eq!(neighbours_apart(&plan(2, &[(0, 2), (4, 7)], "")), Some((RankId(4), RankId(7))));
    assert_eq!(neighbours_apart(&plan(1, &[(4, 7)], "")), None);
}

#[test]
fn addresses_have_homes_in_turn_and_others_have_none() {
    let p = plan(3, &[(0, 4)], "");
    let homes = Homes::new(&p.hosts[1].ranks, 3);
    let all: Vec<_> = p.ranks.iter().map(|r| homes.of(low_word(r.ip))).collect();
    assert_eq!(all, [None, None, None, None, Some(0), Some(1), Some(2), Some(0)]);
    for s in shards(&p).iter().filter(|s| s.port == 1) {
        assert!(s.host.ranks.iter().all(|r| homes.of(low_word(r.ip)) == Some(s.queue)));
    }
}
