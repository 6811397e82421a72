//! Processors and memory, from `/proc`.

use std::path::Path;

use wire::hardware::Hardware;

use super::text;

/// Fills in processors and memory.
pub fn fill(root: &Path, hardware: &mut Hardware) {
    let cpuinfo = text(&root.join("proc/cpuinfo"));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    hardware.cpu_count = u32::try_from(count).unwrap_or(u32::MAX);
    let model = value(&cpuinfo, "model name").or_else(|| value(&cpuinfo, "cpu"));
    hardware.cpu_model = model.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
    let meminfo = text(&root.join("proc/meminfo"));
    let kib =
        value(&meminfo, "MemTotal").and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    hardware.memory_mib = kib.unwrap_or_default() / 1024;
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixture::write;
    use super::*;

    #[test]
    fn processors_are_counted_and_named_and_memory_is_in_mebibytes() {
        let root = tempfile::tempdir().unwrap();
        let one = "processor\t: 0\nmodel name\t: AMD EPYC  7543\n\n";
        write(root.path(), "proc/cpuinfo", &format!("{one}{one}"));
        write(root.path(), "proc/meminfo", "MemTotal:       263802880 kB\nMemFree: 1 kB\n");
        let mut hardware = Hardware::default();
        fill(root.path(), &mut hardware);
        assert_eq!(hardware.cpu_count, 2);
        assert_eq!(hardware.cpu_model, "AMD EPYC 7543");
        assert_eq!(hardware.memory_mib, 257_620);
    }
}
