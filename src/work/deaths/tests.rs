//! Deaths as a whole: machines made of files, and histories of jobs.

use super::kernel::{Kernel, LogSays};
use super::*;
use crate::base::error::ErrorKind;
use crate::model::record::{Job, JobError, JobState};
use crate::work::journal::Live;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

// ---- a machine -------------------------------------------------------------------------------------

const GROUP: &str = "system.slice/sprocket.service";

/// A machine made of files, and a state folder.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// Version 2 of control groups, the log not readable, nothing killed.
    fn new() -> Self {
        let machine = Self { dir: tempfile::tempdir().unwrap() };
        machine.boot("first");
        machine.machine_kills(0);
        machine.put("proc/self/cgroup", &format!("0::/{GROUP}\n"));
        machine.put("sys/fs/cgroup/cgroup.controllers", "cpu memory\n");
        machine.group_kills("system.slice", 0);
        machine.group_kills(GROUP, 0);
        fs::create_dir(machine.state()).unwrap();
        machine
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn boot(&self, id: &str) {
        self.put("proc/sys/kernel/random/boot_id", &format!("{id}\n"));
    }

    fn machine_kills(&self, n: u64) {
        self.put("proc/vmstat", &format!("pgfault 7\noom_kill {n}\ndrop_pagecache 0\n"));
    }

    fn group_kills(&self, group: &str, n: u64) {
        let text = format!("low 0\nhigh 0\nmax 9\noom 4\noom_kill {n}\noom_group_kill 0\n");
        self.put(&format!("sys/fs/cgroup/{group}/memory.events"), &text);
    }

    /// The group goes away and comes again, as at the restart of a service.
    fn remake_group(&self, group: &str) {
        let old = self.dir.path().join("sys/fs/cgroup").join(group);
        // Kept under another name, so that the new one cannot get its number.
        fs::rename(&old, old.with_extension("gone")).unwrap();
        self.group_kills(group, 0);
    }

    fn log(&self, lines: &[&str]) {
        self.put("dev/kmsg", &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
    }

    fn first_pid_space(&self) {
        let link = self.dir.path().join("proc/self/ns/pid");
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink("pid:[4026531836]", link).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn kernel(&self) -> Kernel {
        let at = |part| self.dir.path().join(part);
        Kernel { proc: at("proc"), sys: at("sys"), log: at("dev/kmsg") }
    }

    /// A process begins and dies without a word.
    fn lived(&self) {
        drop(self.begin());
    }

    fn begin(&self) -> Watch {
        Watch::begin_with(&self.state(), self.kernel(), Duration::from_secs(999)).unwrap()
    }

    fn death(&self) -> Death {
        read_with(&self.state(), &self.kernel())
    }
}

#[test]
fn a_death_without_a_trace_is_nobodys() {
    let machine = Machine::new();
    assert_eq!(machine.death(), Death::None, "the first start of all");
    machine.lived();
    assert_eq!(machine.death(), Death::None, "kill -9");
    machine.begin().end();
    assert_eq!(fs::read_dir(machine.state()).unwrap().count(), 0, "an end in order leaves nothing");
    assert_eq!(machine.death(), Death::None);
}

#[test]
fn a_kill_in_the_own_group_is_ours_and_one_elsewhere_is_not() {
    let machine = Machine::new();
    machine.lived();
    machine.machine_kills(1);
    machine.group_kills("system.slice", 1);
    assert_eq!(machine.death(), Death::None, "the own group is the same and has counted nothing");
    machine.group_kills(GROUP, 1);
    assert_eq!(machine.death(), Death::OutOfMemory);
    assert_eq!(machine.death(), Death::OutOfMemory, "to read changes nothing");
    machine.lived();
    assert_eq!(machine.death(), Death::None, "the next process counts from there");
}

#[test]
fn a_group_that_was_made_anew_leaves_the_word_to_the_one_above() {
    let machine = Machine::new();
    machine.group_kills(GROUP, 3);
    machine.group_kills("system.slice", 5);
    machine.lived();
    machine.remake_group(GROUP);
    machine.machine_kills(1);
    assert_eq!(machine.death(), Death::None);
    machine.group_kills("system.slice", 6);
    assert_eq!(machine.death(), Death::OutOfMemory);
    machine.machine_kills(0);
    assert_eq!(machine.death(), Death::None, "the machine has killed nobody, whatever a group says");
}

#[test]
fn in_a_container_that_was_made_anew_the_machine_has_the_word() {
    let machine = Machine::new();
    machine.put("proc/self/cgroup", "0::/\n");
    machine.group_kills("", 0);
    machine.lived();
    let mount = machine.dir.path().join("sys/fs");
    fs::rename(mount.join("cgroup"), mount.join("gone")).unwrap();
    machine.group_kills("", 0);
    assert_eq!(machine.death(), Death::None);
    machine.machine_kills(1);
    assert_eq!(machine.death(), Death::OutOfMemory);
}

#[test]
fn version_1_counts_in_the_own_group() {
    let machine = Machine::new();
    fs::remove_file(machine.dir.path().join("sys/fs/cgroup/cgroup.controllers")).unwrap();
    machine.put("proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/box/1\n0::/\n");
    let count = |folder: &str, n: u64| {
        let text = format!("oom_kill_disable 0\nunder_oom 0\noom_kill {n}\n");
        machine.put(&format!("sys/fs/cgroup/memory/{folder}/memory.oom_control"), &text);
    };
    count("", 0);
    count("box", 0);
    count("box/1", 2);
    machine.lived();
    machine.machine_kills(1);
    assert_eq!(machine.death(), Death::None);
    count("box/1", 3);
    assert_eq!(machine.death(), Death::OutOfMemory);
}

#[test]
fn a_power_cut_is_nobodys_whatever_the_counts() {
    let machine = Machine::new();
    machine.lived();
    machine.boot("second");
    machine.machine_kills(4);
    machine.group_kills(GROUP, 4);
    assert_eq!(machine.death(), Death::None);
}

#[test]
fn what_makes_no_sense_is_held_against_nobody() {
    let machine = Machine::new();
    machine.group_kills(GROUP, 1);
    machine.machine_kills(1);
    for text in ["", "{", "null", "{\"boot\":\"first\"}", "\u{0}\u{0}"] {
        machine.put("state/alive", text);
        assert_eq!(machine.death(), Death::None, "{text:?}");
    }
    for odd in ["0::/../elsewhere\n", "0::\n", "nonsense", "::::\n"] {
        machine.put("proc/self/cgroup", odd);
        machine.lived();
        assert_eq!(machine.death(), Death::None, "{odd:?}");
    }
    for missing in ["proc/vmstat", "proc/self/cgroup", "proc/sys/kernel/random/boot_id"] {
        fs::remove_file(machine.dir.path().join(missing)).unwrap();
        machine.lived();
        assert_eq!(machine.death(), Death::None, "{missing}");
    }
}

#[test]
fn a_crumb_says_more_than_the_counts() {
    let machine = Machine::new();
    machine.lived();
    machine.machine_kills(1);
    machine.group_kills(GROUP, 1);
    machine.put("state/crumb", "signal=6 codec=0 thread=http job= running=a\n");
    assert_eq!(machine.death(), Death::None);
    machine.put("state/crumb", "signal=6 codec=1 thread=av:h264:df0 job= running=a,b\n");
    let suspects = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(machine.death(), Death::Codec { signal: 6, certain: None, suspects });
    machine.put("state/crumb", &"\0".repeat(17_000));
    assert_eq!(machine.death(), Death::OutOfMemory, "an empty crumb is none");
}

#[test]
fn kills_of_others_are_forgotten_while_the_process_lives() {
    let machine = Machine::new();
    let watch = Watch::begin_with(&machine.state(), machine.kernel(), Duration::from_millis(2)).unwrap();
    machine.machine_kills(1);
    machine.group_kills(GROUP, 1);
    let limit = Instant::now() + Duration::from_secs(10);
    while machine.death() != Death::None {
        assert!(Instant::now() < limit, "the note stays old");
        std::thread::yield_now();
    }
    watch.end();
    assert_eq!(fs::read_dir(machine.state()).unwrap().count(), 0);
}

// ---- the kernel's log ------------------------------------------------------------------------------

fn record(number: u64, text: &str) -> String {
    format!("6,{number},5140900,-;{text}")
}

#[test]
fn the_log_tells_of_a_kill_by_number_and_place() {
    let pid = std::process::id();
    let summary = format!(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,mems_allowed=0,oom_memcg=/a,\
         task_memcg=/a/b,task=sprocket,pid={pid},uid=0"
    );
    let killed = format!("Killed process {pid} (sprocket) total-vm:1kB, anon-rss:1kB, UID:0");
    let machine_wide = format!("Out of memory: {killed}");
    let in_group = format!("Memory cgroup out of memory: {killed}");
    for text in [&summary, &killed, &machine_wide, &in_group] {
        let machine = Machine::new();
        let old = [record(1, "Linux version"), " SUBSYSTEM=x".into(), record(2, text)];
        machine.log(&old.each_ref().map(String::as_str));
        machine.lived();
        assert_eq!(machine.death(), Death::None, "what stood there before was another's: {text}");
        machine.log(&[&record(2, text), &record(3, "x"), &record(4, text)]);
        assert_eq!(machine.death(), Death::OutOfMemory, "{text}");
        machine.boot("second");
        assert_eq!(machine.death(), Death::None);
    }
}

#[test]
fn other_records_are_not_taken_for_a_kill() {
    let (machine, pid) = (Machine::new(), 77);
    let says = |text: &str| {
        machine.log(&[&record(1, "x"), &record(2, text)]);
        machine.kernel().log_on(pid, 1)
    };
    assert_eq!(says("Out of memory: Killed process 77 (x) total-vm:1kB"), LogSays::Killed);
    for text in [
        "Out of memory: Killed process 777 (x) total-vm:1kB",
        "Out of memory: Killed process 7 (x) total-vm:1kB",
        "Out of memory: Killed process  (x) total-vm:1kB",
        "somebody says: Killed process 77 (x)",
        "oom-kill:constraint=CONSTRAINT_NONE,task=x,pid=77,pid=8,uid=0",
        "oom-kill:constraint=CONSTRAINT_NONE,task=x,pid=771,uid=0",
        "oom-kill:constraint=CONSTRAINT_NONE,task=x",
        "x[77]: segfault at 0 ip 0",
    ] {
        assert_eq!(says(text), LogSays::Nothing, "{text}");
    }
}

#[test]
fn a_log_that_would_have_told_outweighs_the_counts() {
    let machine = Machine::new();
    machine.first_pid_space();
    machine.log(&[&record(1, "x"), &record(2, "y")]);
    machine.lived();
    machine.machine_kills(1);
    machine.group_kills(GROUP, 1);
    assert_eq!(machine.death(), Death::None);
    machine.log(&[&record(9, "z")]);
    assert_eq!(machine.death(), Death::OutOfMemory, "the log has lost what stood between");
    fs::remove_file(machine.dir.path().join("dev/kmsg")).unwrap();
    assert_eq!(machine.death(), Death::OutOfMemory, "or may not be read any more");
}

#[test]
fn this_machine_can_be_read_and_has_not_killed_us() {
    let dir = tempfile::tempdir().unwrap();
    drop(Watch::begin(dir.path()).unwrap());
    assert_eq!(read(dir.path()), Death::None);
    #[cfg(target_os = "linux")]
    assert!(fs::read_to_string(dir.path().join("alive")).unwrap().starts_with("{\"boot\":\""));
}

// ---- the policy ------------------------------------------------------------------------------------

fn live(id: &str, state: JobState, deaths: u32) -> Live {
    let document = serde_json::json!({"id": id, "input": "nas://media/a.mkv"});
    let mut job = Job::accepted(serde_json::from_value(document).unwrap(), jiff::Timestamp::UNIX_EPOCH);
    job.state = state;
    Live { job, deaths, suspect: deaths > 0 }
}

fn codec(certain: Option<&str>, suspects: &[&str]) -> Death {
    let suspects = suspects.iter().map(|id| (*id).to_owned()).collect();
    Death::Codec { signal: 11, certain: certain.map(str::to_owned), suspects }
}

#[test]
fn each_death_has_its_sentences() {
    use JobState::{Queued, Running};
    use Sentence::{Innocent, Poison, Suspect};
    let both = [live("a", Running, 0), live("b", Running, 0), live("c", Queued, 0)];
    let suspected = Suspect { deaths: 1 };
    let first = |death: &Death| judge(&both, death);
    assert_eq!(first(&Death::None), [Innocent; 3]);
    assert_eq!(first(&codec(Some("a"), &["a", "b"])), [suspected, Innocent, Innocent]);
    assert_eq!(first(&codec(None, &["a", "b"])), [suspected, suspected, Innocent]);
    assert_eq!(first(&codec(Some("ended"), &["a", "b", "ended"])), [Innocent; 3]);
    assert_eq!(first(&codec(None, &[])), [Innocent; 3]);
    assert_eq!(first(&Death::OutOfMemory), [suspected, suspected, Innocent]);

    let alone = [live("a", Running, 1), live("b", Queued, 1), live("c", Queued, 0)];
    let poison = Poison { deaths: 2 };
    let second = |death: &Death| judge(&alone, death);
    assert_eq!(second(&codec(Some("a"), &["a"])), [poison, suspected, Innocent]);
    assert_eq!(second(&codec(None, &["a"])), [poison, suspected, Innocent]);
    assert_eq!(second(&Death::OutOfMemory), [poison, suspected, Innocent]);
    assert_eq!(second(&Death::None), [suspected, suspected, Innocent], "an operator's kill");

    let noted = [live("a", Queued, 1), live("b", Queued, 0)];
    let again = judge(&noted, &codec(Some("a"), &["a"]));
    assert_eq!(again, [suspected, Innocent], "a death that was judged before counts once");
    assert_eq!(judge(&noted, &codec(None, &["a", "b"])), [suspected, Innocent]);

    let beside = Suspect { deaths: 2 };
    assert_eq!(second(&codec(Some("a"), &["a", "~vod"])), [beside, suspected, Innocent], "not alone");
    assert_eq!(second(&codec(None, &["a", "~"])), [beside, suspected, Innocent], "not alone");
    let two = [live("a", Running, 1), live("b", Running, 1)];
    assert_eq!(judge(&two, &Death::OutOfMemory), [beside, beside]);
    assert_eq!(judge(&[live("a", Running, u32::MAX)], &codec(None, &["a"])), [Poison { deaths: u32::MAX }]);
}

#[test]
fn the_operator_is_told_what_happened_and_what_to_do() {
    let error = poison(2, &codec(Some("a"), &["a"]));
    assert_eq!((error.kind(), error.code()), (ErrorKind::BadSource, "poison_input"));
    let told = JobError::from(&error);
    assert!(!told.retryable);
    let start = "the job ended the whole node 2 times, last by SIGSEGV (access to memory that is not its \
                 own) in a codec library, while nothing else ran; it is set aside (do not submit";
    assert!(told.message.starts_with(start), "{}", told.message);
    let memory = poison(3, &Death::OutOfMemory).to_string();
    assert!(memory.contains("3 times, last by the kernel because memory ran out"), "{memory}");
    assert!(memory.contains("give the node more memory"), "{memory}");
}

/// A step in the life of a node with one job that kills it.
#[derive(Clone, Debug)]
struct Step {
    /// Which of the jobs run, by bits.
    beside: u8,
    /// Whom the crumb names: nobody, or one of those that run.
    named: Option<proptest::sample::Index>,
    out_of_memory: bool,
    /// The operator kills the node before the culprit does.
    operator: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (any::<u8>(), any::<Option<proptest::sample::Index>>(), any::<bool>(), any::<bool>())
        .prop_map(|(beside, named, out_of_memory, operator)| Step { beside, named, out_of_memory, operator })
}

const JOBS: usize = 6;
const CULPRIT: usize = 2;

/// Who runs: the first suspect alone, as the scheduler has it, else any.
fn chosen(jobs: &[Live], step: &Step) -> Vec<String> {
    if let Some(suspect) = jobs.iter().find(|live| live.suspect) {
        return vec![suspect.job.id().to_owned()];
    }
    let among = jobs.iter().enumerate().filter(|(n, _)| step.beside >> n & 1 == 1);
    among.map(|(_, live)| live.job.id().to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever runs beside the culprit and whomever a crumb names, a ruined heap being what it is.
    #[test]
    fn bystanders_are_never_condemned_and_the_culprit_is(steps in proptest::collection::vec(step(), 0..60)) {
        let culprit = CULPRIT.to_string();
        let mut jobs: Vec<Live> = (0..JOBS).map(|n| live(&n.to_string(), JobState::Queued, 0)).collect();
        let mut kills_alone = 0;
        for step in steps {
            let running = chosen(&jobs, &step);
            for live in &mut jobs {
                let runs = running.iter().any(|id| id == live.job.id());
                live.job.state = if runs { JobState::Running } else { JobState::Queued };
            }
            if !running.contains(&culprit) {
                // They come to their end.
                jobs.retain(|live| !running.iter().any(|id| id == live.job.id()));
                continue;
            }
            let death = if step.operator {
                Death::None
            } else if step.out_of_memory {
                Death::OutOfMemory
            } else {
                let certain = step.named.map(|which| which.get(&running).clone());
                Death::Codec { signal: 11, certain, suspects: running.clone() }
            };
            if running.len() == 1 && death != Death::None {
                kills_alone += 1;
            }
            let sentences = judge(&jobs, &death);
            prop_assert_eq!(sentences.len(), jobs.len());
            let mut condemned = false;
            for (live, sentence) in jobs.iter_mut().zip(sentences) {
                match sentence {
                    Sentence::Innocent => prop_assert!(!live.suspect && live.deaths == 0),
                    Sentence::Suspect { deaths } => (live.deaths, live.suspect) = (deaths, true),
                    Sentence::Poison { deaths } => {
                        prop_assert_eq!(live.job.id(), &culprit);
                        prop_assert!(deaths >= 2);
                        condemned = true;
                    }
                }
            }
            if condemned {
                return Ok(());
            }
        }
        prop_assert!(kills_alone < 2, "it killed the node twice while alone and goes free");
    }
}
