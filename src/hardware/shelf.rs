//! The last report, kept so that a restart takes no time.
//!
//! What enters: a report, and what it depends on. What leaves: the report again, as long as nothing of that
//! has changed: this version, libav's build, the kernel and its drivers, the device files and who may open
//! them, the folders of user-space drivers, the configuration. A report in which something hung, crashed or
//! was not reached is not kept: the next start may know better.

use super::nodes;
use super::prober::Prober;
use super::report::{Report, Source, Verdict};
use crate::av::registry::libav_build;
use crate::base::error::Result;
use crate::base::fs::publish_bytes;
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The file in the state folder.
const NAME: &str = "hardware.json";
/// More than any report.
const MOST_BYTES: u64 = 1 << 20;
/// Kernel drivers whose version is asked for.
const MODULES: [&str; 6] = ["nvidia", "i915", "xe", "amdgpu", "radeon", "nouveau"];
/// Where drivers lie that run in this process: an update changes the folder.
const DRIVER_FOLDERS: [&str; 10] = [
    "/usr/lib/dri",
    "/usr/lib64/dri",
    "/usr/lib/x86_64-linux-gnu/dri",
    "/usr/lib/aarch64-linux-gnu/dri",
    "/usr/lib/arm-linux-gnueabihf/dri",
    "/usr/share/vulkan/icd.d",
    "/etc/vulkan/icd.d",
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
];
/// Reasons that may be others next time.
const PASSING: [&str; 6] = ["timed_out", "crashed", "no_answer", "no_process", "no_time", "session_limit"];

#[derive(Deserialize, Serialize)]
struct Kept {
    depends_on: String,
    report: Report,
}

/// The report that was kept, if it still holds. Reads a file and looks at some folders.
pub fn read(state: &Path, prober: &Prober) -> Option<Report> {
    let path = state.join(NAME);
    let facts = fs::metadata(&path).ok()?;
    if !facts.is_file() || facts.len() > MOST_BYTES {
        return None;
    }
    let kept: Kept = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    (kept.depends_on == depends_on(prober)).then_some(kept.report)
}

/// Keeps it, if it will hold.
///
/// # Errors
/// Those of the disk: then the next start tries again.
pub fn keep(state: &Path, prober: &Prober, report: &Report) -> Result<()> {
    if !lasts(report) {
        return Ok(());
    }
    let kept = Kept { depends_on: depends_on(prober), report: report.clone() };
    let text = serde_json::to_vec_pretty(&kept).unwrap_or_default();
    publish_bytes(&state.join(NAME), &text)
}

fn lasts(report: &Report) -> bool {
    if report.listing != Source::Libav {
        return false;
    }
    let verdicts = report.devices.iter().flat_map(|device| {
        [&device.verdict, &device.scaling].into_iter().chain(device.codecs.iter().map(|codec| &codec.verdict))
    });
    let mut reasons = verdicts.filter_map(Verdict::reason);
    !reasons.any(|reason| PASSING.contains(&reason.code.as_str()))
}

/// Everything over which a report may differ, as text.
fn depends_on(prober: &Prober) -> String {
    let Prober { program: _, ffmpeg: _, kinds, vaapi_device } = prober;
    let mut text = format!("{} {} {kinds:?}", env!("CARGO_PKG_VERSION"), libav_build());
    let mut add = |what: &str, is: String| text += &format!("\n{what}: {}", is.trim());
    let content = |path: &str| fs::read_to_string(path).unwrap_or_default();
    add("kernel", content("/proc/sys/kernel/osrelease"));
    for module in MODULES {
        let version = content(&format!("/sys/module/{module}/version"));
        add(module, format!("{version} {}", content(&format!("/sys/module/{module}/srcversion"))));
    }
    for node in device_nodes(vaapi_device) {
        add(&node.to_string_lossy(), node_facts(&node));
    }
    for folder in DRIVER_FOLDERS {
        let changed = fs::metadata(folder).map(|facts| (facts.mtime(), facts.mtime_nsec()));
        add(folder, format!("{:?}", changed.ok()));
    }
    text
}

fn device_nodes(vaapi_device: &Path) -> Vec<PathBuf> {
    let mut nodes = vec![vaapi_device.to_owned(), "/dev/dxg".into()];
    for (folder, beginnings) in [("/dev", &["nvidia", "video"][..]), ("/dev/dri", &["render"])] {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        nodes.extend(entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            beginnings.iter().any(|beginning| name.starts_with(beginning))
        }));
    }
    nodes.sort();
    nodes.dedup();
    nodes
}

/// Which device it is, and whether this user may open it.
fn node_facts(node: &Path) -> String {
    let facts = fs::metadata(node).map(|f| (f.rdev(), f.uid(), f.gid(), f.permissions().mode()));
    let opens = nodes::may_open(node).is_ok();
    format!("{:?} {opens}", facts.ok())
}

#[cfg(test)]
mod tests {
    use super::super::backend::Kind;
    use super::super::report::{DeviceReport, Reason};
    use super::*;

    fn report(code: &str) -> Report {
        let device = DeviceReport {
            kind: Kind::Vaapi,
            node: None,
            name: None,
            software: false,
            verdict: Verdict::Refused(Reason::new(code, "no")),
            scaling: Verdict::Proven,
            codecs: Vec::new(),
        };
        Report { libav: "x".into(), listing: Source::Libav, devices: vec![device], took_ms: 1 }
    }

    fn prober(node: &Path) -> Prober {
        let kinds = vec![Kind::Vaapi];
        Prober { program: "/bin/false".into(), ffmpeg: "ffmpeg".into(), kinds, vaapi_device: node.into() }
    }

    #[test]
    fn a_report_is_kept_until_something_changes_on_which_it_depends() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("renderD128");
        let prober = prober(&node);
        assert_eq!(read(dir.path(), &prober), None);
        keep(dir.path(), &prober, &report("no_device")).unwrap();
        assert_eq!(read(dir.path(), &prober), Some(report("no_device")));
        fs::write(&node, b"").unwrap();
        assert_eq!(read(dir.path(), &prober), None, "the device is there now");
        fs::write(dir.path().join(NAME), b"{ broken").unwrap();
        assert_eq!(read(dir.path(), &prober), None);
    }

    #[test]
    fn what_may_pass_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let prober = prober(&dir.path().join("none"));
        for code in PASSING {
            keep(dir.path(), &prober, &report(code)).unwrap();
            assert_eq!(read(dir.path(), &prober), None, "{code}");
        }
    }
}
