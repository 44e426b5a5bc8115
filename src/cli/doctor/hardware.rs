//! The devices: what the prober sees of them, held against what the configuration wants.
//!
//! What enters: the configuration, a report of the prober. What leaves: one finding.

use super::{Check, Finding};
use crate::config::settings::{Acceleration, Hardware, OnFailure, Settings};
use crate::hardware::prober::Prober;
use crate::hardware::report::{DeviceReport, Direction, Report};
use std::time::Duration;

/// The prober's own limit is a little less.
const LIMIT: Duration = Duration::from_secs(12);

/// The check of the devices.
pub(super) fn check(settings: &Settings) -> Check {
    let hardware = settings.hardware.clone();
    let look = move || match Prober::new(&hardware) {
        Ok(prober) if !prober.kinds.is_empty() => judge(&hardware, &prober.probe()),
        Ok(_) => Finding::ok("off by hardware.acceleration: software only"),
        Err(e) => Finding::fail(format!("this program's own file is not known: {e}"), "is /proc mounted?"),
    };
    Check::new("hardware", look).within(LIMIT)
}

fn judge(hardware: &Hardware, report: &Report) -> Finding {
    let working: Vec<String> =
        report.working().filter(|device| !device.software || is_named(hardware)).map(summary).collect();
    if !working.is_empty() {
        return Finding::ok(working.join("; "));
    }
    let (what, mend) = nothing(hardware, report);
    match (is_named(hardware), hardware.on_failure) {
        (true, OnFailure::Fail) => Finding::fail(what, mend),
        (true, OnFailure::Software) => Finding::warn(format!("{what}: software only"), mend),
        (false, _) => forbidden(report).unwrap_or_else(|| Finding::ok("no device works: software only")),
    }
}

/// Whether the configuration names devices.
fn is_named(hardware: &Hardware) -> bool {
    matches!(hardware.acceleration, Acceleration::List(_))
}

fn summary(device: &DeviceReport) -> String {
    let of = |direction: Direction| {
        let proven = device.codecs.iter().filter(|c| c.direction == direction && c.verdict.is_proven());
        let mut names: Vec<&str> = proven.map(|codec| codec.name.as_str()).collect();
        names.dedup();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let name = device.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    format!("{}{name} encodes: {}, decodes: {}", device.kind, of(Direction::Encode), of(Direction::Decode))
}

/// Why none of the devices works, and what to do about the best of them.
fn nothing(hardware: &Hardware, report: &Report) -> (String, String) {
    let reasons: Vec<String> = report
        .devices
        .iter()
        .filter_map(|device| Some(format!("{}: {}", device.kind, device.verdict.reason()?.message)))
        .collect();
    let hint = report.devices.iter().find_map(|device| device.verdict.reason()?.hint.clone());
    let none = format!("no device of those in hardware.acceleration ({:?}) works", hardware.acceleration);
    let what = if reasons.is_empty() { none } else { reasons.join("; ") };
    (what, hint.unwrap_or_else(|| "sprocket probe says more".into()))
}

/// A device that is there and that this user may not open: nobody wants that, named or not.
fn forbidden(report: &Report) -> Option<Finding> {
    report.devices.iter().find_map(|device| {
        let reason = device.verdict.reason().filter(|reason| reason.code == "no_permission")?;
        Some(Finding::warn(reason.message.clone(), reason.hint.clone().unwrap_or_default()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Level::{self, Fail, Ok as Well, Warn};
    use super::*;
    use crate::config::settings::Device;
    use crate::hardware::Kind;
    use crate::hardware::report::{Reason, Source, Verdict};

    fn report(verdict: Verdict, software: bool) -> Report {
        let device = DeviceReport {
            kind: Kind::Vaapi,
            node: None,
            name: Some("Intel iHD".into()),
            software,
            scaling: verdict.clone(),
            verdict,
            codecs: Vec::new(),
        };
        Report { libav: String::new(), listing: Source::Libav, devices: vec![device], took_ms: 0 }
    }

    fn level(acceleration: Acceleration, on_failure: OnFailure, report: &Report) -> Level {
        judge(&Hardware { acceleration, vaapi_device: "/nowhere".into(), on_failure }, report).level
    }

    #[test]
    fn devices_are_wanted_as_much_as_the_configuration_wants_them() {
        let refused = |code: &str| report(Verdict::Refused(Reason::new(code, "no").hint("do this")), false);
        let (none, shut) = (refused("no_device"), refused("no_permission"));
        let listed = || Acceleration::List(vec![Device::Vaapi]);
        assert_eq!(level(Acceleration::Auto, OnFailure::Fail, &none), Well);
        assert_eq!(level(Acceleration::Auto, OnFailure::Fail, &shut), Warn);
        assert_eq!(level(listed(), OnFailure::Software, &none), Warn);
        assert_eq!(level(listed(), OnFailure::Fail, &none), Fail);
        let works = report(Verdict::Proven, false);
        for acceleration in [Acceleration::Auto, listed()] {
            assert_eq!(level(acceleration, OnFailure::Fail, &works), Well);
        }
    }

    #[test]
    fn a_software_renderer_counts_only_where_it_is_named() {
        let lavapipe = report(Verdict::Proven, true);
        let hardware = |acceleration| Hardware {
            acceleration,
            vaapi_device: "/nowhere".into(),
            on_failure: OnFailure::Software,
        };
        let auto = judge(&hardware(Acceleration::Auto), &lavapipe);
        assert_eq!(auto.result, "no device works: software only");
        let named = judge(&hardware(Acceleration::List(vec![Device::Vulkan])), &lavapipe);
        assert!(named.result.contains("Intel iHD"), "{}", named.result);
    }
}
