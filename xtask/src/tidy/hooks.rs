//! Hooks: each BPF program documents which kernel prototype it relies on.

use super::{Finding, Source};

const PROBES: &str = "sensor-ebpf/src/probes/";
/// Attributes that make a function a program.
const PROGRAMS: [&str; 20] = [
    "btf_tracepoint",
    "cgroup_skb",
    "cgroup_sock",
    "cgroup_sock_addr",
    "cgroup_sysctl",
    "classifier",
    "fentry",
    "fexit",
    "kprobe",
    "kretprobe",
    "lsm",
    "perf_event",
    "raw_tracepoint",
    "sk_lookup",
    "sk_msg",
    "sock_ops",
    "socket_filter",
    "tracepoint",
    "uprobe",
    "uretprobe",
];

/// Programs without a `/// Hook:` line above their attribute that names a prototype in backticks
/// or refers to the one above.
pub(super) fn findings(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with(PROBES) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, code) in source.numbered_code() {
        let Some(attribute) = code.trim().strip_prefix("#[") else { continue };
        let end = attribute.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let name = end.and_then(|end| attribute.get(..end)).unwrap_or(attribute);
        if PROGRAMS.contains(&name) && !has_hook_doc(source.lines.get(..line - 1).unwrap_or(&[])) {
            let what = format!(
                "{name} program without its hook; write /// Hook: `<prototype>`, <file>, <since>"
            );
            found.push(Finding::new(&source.path, line, what));
        }
    }
    found
}

/// Searches the doc comment and attributes that end `above`.
fn has_hook_doc(above: &[String]) -> bool {
    let block = above.iter().rev().map(|line| line.trim());
    let mut block = block.take_while(|line| line.starts_with("///") || line.starts_with("#["));
    block.any(|line| {
        line.strip_prefix("/// Hook: ")
            .is_some_and(|hook| hook.contains('`') || hook.contains("as above"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        findings(&Source::new(path, text)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_program_without_its_prototype_is_found() {
        for doc in ["", "/// Sees a connect.\n", "/// Hook: tcp.\n", "/// Hook: `f()`\n\n"] {
            let text = format!("{doc}#[fexit(function = \"f\")]\nfn f() {{}}\n");
            let found = found("sensor-ebpf/src/probes/tcp.rs", &text);
            assert_eq!(found.len(), 1, "{doc:?}");
            assert!(found[0].contains("fexit program without its hook; write"), "{found:?}");
        }
    }

    #[test]
    fn a_documented_program_is_not_nor_one_elsewhere() {
        let probes = "sensor-ebpf/src/probes/tcp.rs";
        for (path, text) in [
            (probes, "/// Hook: `int f(int a)`,\n/// `a.c`, v5.8.\n#[fexit]\nfn f() {}"),
            (probes, "/// Hook: as above, raw.\n#[inline]\n#[raw_tracepoint]\nfn f() {}"),
            (probes, "#[map]\nstatic X: u8 = 1;"),
            ("sensor-ebpf/src/main.rs", "#[fexit]\nfn f() {}"),
        ] {
            assert_eq!(found(path, text), [""; 0], "{text}");
        }
    }
}
