//! Follows an iPXE script as far as boot scripts go. What it does not know it refuses.

use super::Fault;

/// Largest script.
pub const LIMIT: usize = 64 * 1024;
/// Commands followed before a script is taken for a circle.
const STEPS: usize = 1000;

/// What a script can ask for by name.
#[derive(Debug, Clone)]
pub struct Variables {
    /// `${net0/mac}`, `${mac}`.
    pub mac: String,
    /// `${uuid}`.
    pub uuid: String,
    /// `${serial}`.
    pub serial: String,
    /// `${net0/ip}`.
    pub ip: String,
    /// `${next-server}`.
    pub next_server: String,
    /// `${platform}`.
    pub platform: String,
}

/// What a script leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// Start this.
    Boot(Plan),
    /// Go on with the script at this URL.
    Chain(String),
    /// Leave: the firmware's next device.
    Disk,
}

/// URLs of what is to be started.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The kernel.
    pub kernel: String,
    /// Its command line without the file's name.
    pub arguments: String,
    /// Initial file systems in the order in which the kernel unpacks them.
    pub initial: Vec<String>,
}

/// What was fetched.
#[derive(Debug)]
pub struct Loaded {
    /// The kernel's bytes.
    pub kernel: Vec<u8>,
    /// Its command line.
    pub arguments: String,
    /// Initial file systems.
    pub initial: Vec<Vec<u8>>,
}

/// Follows a script to its end.
///
/// # Errors
/// [`Fault::Script`] naming the line that is not understood.
pub fn follow(text: &str, variables: &Variables) -> Result<End, Fault> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if lines.first() != Some(&"#!ipxe") {
        return Err(Fault::Script("it does not begin with #!ipxe".to_owned()));
    }
    let mut plan = Plan::default();
    let mut names: Vec<(String, String)> = Vec::new();
    let mut at = 1;
    for _ in 0..STEPS {
        let Some(line) = lines.get(at) else { return Ok(End::Disk) };
        at += 1;
        let line = expand(line, variables)?;
        // Every fetch is taken to succeed here: what follows `||` is for failures, but for `iseq`.
        let (command, otherwise) = line.split_once("||").map_or((line.as_str(), ""), |(a, b)| (a, b.trim()));
        let words: Vec<&str> = command.split_whitespace().collect();
        let words = without_options(&words);
        match words.plain.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') || first.starts_with(':') => {}
            ["echo" | "set" | "imgfree" | "isset" | "dhcp" | "sleep" | "prompt", ..] => {}
            ["iseq", one, other] if one == other => {}
            ["iseq", ..] => match otherwise.split_whitespace().collect::<Vec<_>>().as_slice() {
                ["exit", ..] => return Ok(End::Disk),
                ["goto", label] => at = label_at(&lines, label)?,
                _ => return Err(Fault::Script(format!("an iseq that leads nowhere: {line}"))),
            },
            ["goto", label] => at = label_at(&lines, label)?,
            ["kernel", url, arguments @ ..] => {
                plan.kernel = (*url).to_owned();
                plan.arguments = arguments.join(" ");
            }
            ["initrd", url, ..] => {
                let name = words.name.map_or_else(|| file_name(url), str::to_owned);
                names.push((name, (*url).to_owned()));
            }
            ["boot"] if !plan.kernel.is_empty() => {
                plan.initial = ordered(&plan.arguments, &names)?;
                return Ok(End::Boot(plan));
            }
            ["chain", url, ..] => return Ok(End::Chain((*url).to_owned())),
            ["exit", ..] | ["sanboot", ..] => return Ok(End::Disk),
            _ => return Err(Fault::Script(format!("not understood: {line}"))),
        }
    }
    Err(Fault::Script("it runs in a circle".to_owned()))
}

/// Words of a command without its options; `--name` is the one whose value matters.
struct Words<'a> {
    plain: Vec<&'a str>,
    name: Option<&'a str>,
}

fn without_options<'a>(words: &[&'a str]) -> Words<'a> {
    const WITH_VALUE: [&str; 4] = ["--name", "--timeout", "--drive", "-n"];
    let mut found = Words { plain: Vec::new(), name: None };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        // Options stand before the URL only; behind it everything belongs to the kernel.
        if found.plain.len() > 1 || !word.starts_with('-') {
            found.plain.push(word);
        } else if WITH_VALUE.contains(word) {
            let value = rest.next().copied();
            if matches!(*word, "--name" | "-n") {
                found.name = value;
            }
        }
    }
    found
}

/// The kernel unpacks what `initrd=` names, in that order; without any, everything as it was loaded.
fn ordered(arguments: &str, names: &[(String, String)]) -> Result<Vec<String>, Fault> {
    let wanted: Vec<&str> = arguments.split(' ').filter_map(|word| word.strip_prefix("initrd=")).collect();
    if wanted.is_empty() {
        return Ok(names.iter().map(|(_, url)| url.clone()).collect());
    }
    wanted
        .into_iter()
        .map(|wanted| {
            names
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, url)| url.clone())
                .ok_or_else(|| Fault::Script(format!("initrd={wanted} was not loaded")))
        })
        .collect()
}

fn file_name(url: &str) -> String {
    let path = url.split('?').next().unwrap_or(url);
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn label_at(lines: &[&str], label: &str) -> Result<usize, Fault> {
    lines
        .iter()
        .position(|line| line.strip_prefix(':').is_some_and(|found| found.trim() == label))
        .ok_or_else(|| Fault::Script(format!("no label {label}")))
}

fn expand(line: &str, variables: &Variables) -> Result<String, Fault> {
    let (mut text, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else {
            return Err(Fault::Script(format!("an open variable: {line}")));
        };
        text.push_str(before);
        let plain = name.split(':').next().unwrap_or(name);
        match plain.rsplit('/').next().unwrap_or(plain) {
            "mac" if name.contains(":hexhyp") => text.push_str(&variables.mac.replace(':', "-")),
            "mac" => text.push_str(&variables.mac),
            "uuid" => text.push_str(&variables.uuid),
            "serial" => text.push_str(&variables.serial),
            "ip" => text.push_str(&variables.ip),
            "next-server" => text.push_str(&variables.next_server),
            "platform" => text.push_str(&variables.platform),
            _ => {}
        }
        rest = behind;
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn variables() -> Variables {
        Variables {
            mac: "52:00:00:00:00:01".into(),
            uuid: "u".into(),
            serial: "s".into(),
            ip: "10.0.0.5".into(),
            next_server: "10.0.0.1".into(),
            platform: "pcbios".into(),
        }
    }

    #[test]
    fn kernel_arguments_and_initial_file_systems_are_found_in_the_kernels_order() {
        let text = "#!ipxe\n# discover\nkernel --name vmlinuz http://s/vmlinuz initrd=overlay initrd=initrd a=b --x || goto again\n\
                    initrd --name initrd http://s/initrd || goto again\n\
                    initrd --name overlay http://s/overlay?mac=${net0/mac}\nboot || goto again\n:again\nsleep 5\n";
        let End::Boot(plan) = follow(text, &variables()).unwrap() else { panic!("no boot") };
        assert_eq!(plan.kernel, "http://s/vmlinuz");
        assert_eq!(plan.arguments, "initrd=overlay initrd=initrd a=b --x");
        assert_eq!(plan.initial, ["http://s/overlay?mac=52:00:00:00:00:01", "http://s/initrd"]);
    }

    #[test]
    fn a_script_may_send_the_machine_to_its_disk_or_on() {
        let disk =
            "#!ipxe\niseq ${platform} pcbios || exit 0\nsanboot --no-describe --drive 0x80 || exit 0\n";
        assert_eq!(follow(disk, &variables()).unwrap(), End::Disk);
        let efi = Variables { platform: "efi".into(), ..variables() };
        assert_eq!(follow(disk, &efi).unwrap(), End::Disk);
        let chain = "#!ipxe\nchain --replace --autofree http://s/next\n";
        assert_eq!(follow(chain, &variables()).unwrap(), End::Chain("http://s/next".into()));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let fault = |text: &str| follow(text, &variables()).unwrap_err().to_string();
        assert!(fault("#!ipxe\nfrobnicate x\n").contains("frobnicate"));
        assert!(fault("kernel x\n").contains("#!ipxe"));
        assert!(fault("#!ipxe\n:a\ngoto a\n").contains("circle"));
        assert!(fault("#!ipxe\ngoto nowhere\n").contains("nowhere"));
        assert!(fault("#!ipxe\nkernel k initrd=x\nboot\n").contains("initrd=x"));
    }
}
