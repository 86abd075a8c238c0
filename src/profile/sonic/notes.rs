//! What the import has to say: each thing once, in groups, under the code of its kind.

use std::collections::{BTreeMap, BTreeSet};

use super::database::{Database, READ, Row, SonicError, natural};
use super::pools::watchdog_row;

/// Collected remarks.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    not_modelled: BTreeSet<String>,
    assumed: BTreeSet<String>,
    differ: BTreeSet<String>,
    own: BTreeSet<String>,
    can_drop: BTreeSet<String>,
    unscheduled: BTreeSet<usize>,
    unbound: BTreeSet<usize>,
    /// Ports outside the run whose groups cannot be resolved, and why.
    outside: BTreeMap<String, String>,
}

/// Fields that are read, or that say nothing about queues and buffers, by table.
const FIELDS: [(&str, &[&str]); 13] = [
    (
        "DEVICE_METADATA",
        &[
            "hwsku",
            "platform",
            "switch_type",
            "buffer_model",
            "hostname",
            "mac",
            "type",
            "subtype",
            "region",
            "cloudtype",
            "cluster",
            "slice_type",
            "peer_switch",
            "rack_mgmt_map",
            "deployment_id",
            "timezone",
            "bgp_asn",
            "bgp_router_id",
            "default_bgp_status",
            "default_pfcwd_status",
            "bgp_adv_lo_prefix_as_128",
            "docker_routing_config_mode",
            "frr_mgmt_framework_config",
            "suppress-fib-pending",
            "synchronous_mode",
            "yang_config_validation",
            "default_config_profile",
            "dhcp_server",
            "downstream_subrole",
        ],
    ),
    ("BUFFER_PG", &["profile"]),
    ("BUFFER_POOL", &["size", "type", "mode", "xoff"]),
    (
        "BUFFER_PROFILE",
        &["pool", "size", "xon", "xon_offset", "xoff", "dynamic_th", "static_th", "headroom_type", "mode"],
    ),
    ("BUFFER_QUEUE", &["profile"]),
    ("DEFAULT_LOSSLESS_BUFFER_PARAMETER", &["default_dynamic_th", "over_subscribe_ratio"]),
    (
        "PORT",
        &[
            "speed",
            "alias",
            "index",
            "lanes",
            "description",
            "admin_status",
            "mtu",
            "fec",
            "autoneg",
            "pfc_asym",
            "tpid",
            "role",
            "subport",
            "adv_speeds",
            "adv_interface_types",
            "interface_type",
            "mode",
        ],
    ),
    (
        "PORT_QOS_MAP",
        &[
            "dscp_to_tc_map",
            "dot1p_to_tc_map",
            "tc_to_queue_map",
            "tc_to_pg_map",
            "pfc_to_queue_map",
            "pfc_to_pg_map",
            "pfc_enable",
            "pfcwd_sw_enable",
            "scheduler",
        ],
    ),
    (
        "PFC_WD",
        &[
            "action",
            "detection_time",
            "restoration_time",
            "POLL_INTERVAL",
            "BIG_RED_SWITCH",
            "pfc_stat_history",
        ],
    ),
    ("QUEUE", &["scheduler", "wred_profile"]),
    ("SCHEDULER", &["type", "weight", "cir", "pir", "cbs", "pbs", "meter_type", "priority"]),
    (
        "WRED_PROFILE",
        &[
            "ecn",
            "wred_green_enable",
            "wred_yellow_enable",
            "wred_red_enable",
            "green_min_threshold",
            "green_max_threshold",
            "green_drop_probability",
            "yellow_min_threshold",
            "yellow_max_threshold",
            "yellow_drop_probability",
            "red_min_threshold",
            "red_max_threshold",
            "red_drop_probability",
        ],
    ),
    ("BUFFER_PORT_INGRESS_PROFILE_LIST", &["profile_list"]),
];

impl Notes {
    /// Acts on a real switch and not here.
    pub fn not_modelled(&mut self, text: impl Into<String>) {
        self.not_modelled.insert(text.into());
    }
    /// The database does not say; this was taken.
    pub fn assumed(&mut self, text: impl Into<String>) {
        self.assumed.insert(text.into());
    }
    /// Ports differ from each other, or from the profile.
    pub fn differ(&mut self, text: impl Into<String>) {
        self.differ.insert(text.into());
    }
    /// Ports differ from each other, and are modelled so.
    pub fn own(&mut self, text: impl Into<String>) {
        self.own.insert(text.into());
    }
    /// A lossless class that may lose frames on the real switch.
    pub fn can_drop(&mut self, text: impl Into<String>) {
        self.can_drop.insert(text.into());
    }
    /// A queue without a scheduler.
    pub fn unscheduled(&mut self, queue: usize) {
        self.unscheduled.insert(queue);
    }
    /// A priority group without a profile.
    pub fn unbound(&mut self, group: usize) {
        self.unbound.insert(group);
    }

    /// A port outside the run that reserves nothing in the model, and why.
    pub fn outside(&mut self, port: &str, why: &SonicError) {
        self.outside.entry(port.to_owned()).or_insert_with(|| why.to_string());
    }

    /// What the whole database holds that the model does not.
    pub fn of_tables(&mut self, db: &Database) {
        if !db.unread().is_empty() {
            let all: Vec<String> = db.unread().iter().map(|(t, n)| format!("{t} ({n})")).collect();
            self.not_modelled(format!("tables not read: {}", all.join(", ")));
        }
        let mut fields: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (table, known) in FIELDS {
            for (_, row) in db.rows(table) {
                for (field, _) in row.fields().filter(|(f, _)| !known.contains(f)) {
                    *fields.entry((table, field)).or_insert(0) += 1;
                }
            }
        }
        if !fields.is_empty() {
            let all: Vec<String> = fields.iter().map(|((t, f), n)| format!("{t}.{f} ({n})")).collect();
            self.not_modelled(format!("fields not read: {}", all.join(", ")));
        }
        for (_, device) in db.rows("DEVICE_METADATA") {
            if device.text("buffer_model") == Some("dynamic") {
                self.assumed(format!(
                    "{}: dynamic: the switch sizes its pools at run time; sizes that the files give are taken",
                    device.at("buffer_model")
                ));
            }
            let started = db.rows("PFC_WD").any(|(key, _)| key != "GLOBAL");
            if device.text("default_pfcwd_status") == Some("enable") && !started {
                self.assumed(format!(
                    "{}: enable, but no port has a row in PFC_WD, which `pfcwd start_default` writes on the switch: no \
                     watchdog; give pfc_watchdog or the rows",
                    device.at("default_pfcwd_status")
                ));
            }
            if let Some(kind) = device.text("switch_type").filter(|k| !matches!(*k, "" | "switch" | "npu")) {
                self.not_modelled(format!("{}: {kind:?}: taken as a plain switch", device.at("switch_type")));
            }
        }
        for (_, row) in db.rows("PFC_WD") {
            if row.text("BIG_RED_SWITCH").is_some_and(|v| v.eq_ignore_ascii_case("enable")) {
                self.not_modelled(format!(
                    "{}: enable: the switch acts on every lossless queue at once, storm or not; here only stuck queues \
                     are acted on",
                    row.at("BIG_RED_SWITCH")
                ));
            }
        }
        self.modes(db);
        let asymmetric = db.rows("PORT").filter(|(_, r)| r.text("pfc_asym") == Some("on")).count();
        if asymmetric > 0 {
            self.not_modelled(format!("asymmetric PFC ({asymmetric} ports)"));
        }
        for table in READ.iter().filter(|t| t.ends_with("_PROFILE_LIST")) {
            let lists: BTreeSet<&str> = db.rows(table).filter_map(|(_, r)| r.text("profile_list")).collect();
            if !lists.is_empty() {
                let lists: Vec<&str> = lists.into_iter().collect();
                self.not_modelled(format!("{table}: limits of whole ports ({})", lists.join("; ")));
            }
        }
    }

    /// Profiles whose kind of limit is not that of their pool.
    fn modes(&mut self, db: &Database) {
        let other = |profile: &Row| {
            let pool = db.referred("BUFFER_POOL", profile, "pool").ok().flatten()?;
            let field = match pool.text("mode")? {
                "static" => "dynamic_th",
                "dynamic" => "static_th",
                _ => return None,
            };
            let mode = pool.text("mode")?;
            profile
                .text(field)
                .map(|_| format!("{} has {field} in {} of mode {mode}", profile.place(), pool.place()))
        };
        let all: Vec<String> = db.rows("BUFFER_PROFILE").filter_map(|(_, row)| other(row)).collect();
        if !all.is_empty() {
            self.assumed(format!(
                "{}: the limit of the profile is taken, not the mode of its pool; make them agree if the switch does not",
                all.join("; ")
            ));
        }
    }

    /// Where PFC_WD and PORT_QOS_MAP do not agree on who has a watchdog.
    pub fn watchdogs(&mut self, db: &Database, ports: &[String]) {
        let wanted = |port: &&String| db.get("PORT_QOS_MAP", port).and_then(|r| r.text("pfcwd_sw_enable"));
        let idle = ports.iter().filter(|p| wanted(p).is_some() && watchdog_row(db, p).is_none()).count();
        if idle > 0 {
            self.assumed(format!(
                "{idle} ports have pfcwd_sw_enable and no row in PFC_WD: nobody has started their watchdog"
            ));
        }
        let differs = |port: &&String| {
            watchdog_row(db, port).is_some()
                && wanted(port).is_some()
                && wanted(port) != db.get("PORT_QOS_MAP", port).and_then(|r| r.text("pfc_enable"))
        };
        if ports.iter().any(|p| differs(&p)) {
            self.not_modelled(
                "pfcwd_sw_enable that differs from pfc_enable: watchdogs guard every lossless queue",
            );
        }
    }

    /// As warnings of the plan: (code, text).
    pub fn warnings(mut self) -> Vec<(String, String)> {
        let list = |all: &BTreeSet<usize>| all.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        if !self.unscheduled.is_empty() {
            let queues = list(&self.unscheduled);
            self.assumed(format!("queues {queues} have no scheduler: SAI's default, DWRR with weight 1"));
        }
        if !self.unbound.is_empty() {
            let groups = list(&self.unbound);
            self.assumed(format!(
                "priority groups {groups} have no profile: they have the limits of group 0"
            ));
        }
        if !self.outside.is_empty() {
            let mut ports: Vec<&str> = self.outside.keys().map(String::as_str).collect();
            ports.sort_by(|a, b| natural(a, b));
            let why = ports.first().and_then(|p| self.outside.get(*p)).map_or("", String::as_str);
            let text = format!(
                "{} outside the run reserve nothing; if the switch has them, its shared pool is smaller; the first: {why}",
                some(&ports)
            );
            self.assumed(text);
        }
        let kinds = [
            ("sonic_can_drop", self.can_drop),
            ("sonic_ports_differ", self.differ),
            ("sonic_ports_own", self.own),
            ("sonic_assumed", self.assumed),
            ("sonic_not_modelled", self.not_modelled),
        ];
        let each =
            kinds.into_iter().flat_map(|(code, texts)| texts.into_iter().map(move |t| (code.to_owned(), t)));
        each.collect()
    }
}

/// A count of ports and the first of them: "5 ports (Ethernet0, Ethernet4, Ethernet8, ...)".
pub(super) fn some(ports: &[&str]) -> String {
    const NAMED: usize = 3;
    let more = if ports.len() > NAMED { ", ..." } else { "" };
    let first: Vec<&str> = ports.iter().take(NAMED).copied().collect();
    format!("{} port{} ({}{more})", ports.len(), if ports.len() == 1 { "" } else { "s" }, first.join(", "))
}
