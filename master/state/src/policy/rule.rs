//! One row of `policy`, and which of its fields a request meets.

use std::cell::OnceCell;
use std::net::IpAddr;

use regex::{Regex, RegexBuilder};

use super::Question;
use super::hours::Hours;
use crate::apply::State;
use crate::groups::Files;

/// Largest compiled expression of `parameters`, in bytes.
const EXPRESSION: usize = 1 << 20;

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Yes.
    Allow,
    /// Yes, and the user name inside the request may be believed.
    Trust,
    /// No.
    Deny,
}

impl Says {
    /// As xCAT reads it: `allow`, `accept` and `trusted` anywhere in the text, of either case; all else denies.
    pub fn read(text: &str) -> Says {
        let text = text.to_ascii_lowercase();
        match (text.contains("trusted"), text.contains("allow") || text.contains("accept")) {
            (true, _) => Says::Trust,
            (_, true) => Says::Allow,
            _ => Says::Deny,
        }
    }

    /// Whether it is a yes.
    pub fn allows(self) -> bool {
        self != Says::Deny
    }
}

/// A rule. What costs time to be read is read when it is first needed, and once.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, and by its value its place.
    pub priority: String,
    /// Users.
    pub name: String,
    /// Where requests come from.
    pub host: String,
    /// Commands.
    pub commands: String,
    /// Nodes.
    pub noderange: String,
    /// Expression over the arguments.
    pub parameters: String,
    /// Days and hours.
    pub time: String,
    /// What it says.
    pub says: Says,
    pattern: OnceCell<Result<Regex, String>>,
    hours: OnceCell<Result<Hours, String>>,
    nodes: OnceCell<Result<Vec<String>, String>>,
}

/// Why a rule does not hold for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Misfit {
    /// Its field `name`.
    Name,
    /// Its field `host`.
    Host,
    /// Its field `commands`.
    Commands,
    /// Its field `parameters`.
    Parameters,
    /// Its field `time`.
    Time,
    /// A field of an allowing rule cannot be read: the column and the reason.
    Unreadable(&'static str, String),
    /// It is for nodes, and there are none.
    NoNodes,
    /// It is for other nodes.
    OtherNodes,
}

impl Rule {
    /// The rule in a row, given by the text of each column.
    pub fn read<'a>(text: impl Fn(&str) -> &'a str) -> Rule {
        let owned = |column| text(column).trim().to_owned();
        Rule {
            priority: owned("priority"),
            name: owned("name"),
            host: owned("host"),
            commands: owned("commands"),
            noderange: owned("noderange"),
            parameters: text("parameters").to_owned(),
            time: owned("time"),
            says: Says::read(text("rule")),
            pattern: OnceCell::new(),
            hours: OnceCell::new(),
            nodes: OnceCell::new(),
        }
    }

    /// Its place: priorities are numbers; what is none comes last.
    pub fn place(&self) -> f64 {
        self.priority.parse().ok().filter(|place: &f64| place.is_finite()).unwrap_or(f64::MAX)
    }

    /// Its fields that say something, as `name=bob commands=rpower`.
    pub fn fields(&self) -> String {
        let says = match self.says {
            Says::Allow => "allow",
            Says::Trust => "trusted",
            Says::Deny => "deny",
        };
        let fields = [
            ("name", self.name.as_str()),
            ("host", &self.host),
            ("commands", &self.commands),
            ("noderange", &self.noderange),
            ("parameters", &self.parameters),
            ("time", &self.time),
            ("rule", says),
        ];
        let said = fields.iter().filter(|(_, text)| !text.is_empty());
        said.map(|(column, text)| format!("{column}={text}")).collect::<Vec<_>>().join(" ")
    }

    /// Whether it is for all nodes and for none.
    pub fn is_for_all(&self) -> bool {
        any(&self.noderange)
    }

    /// What in it cannot be read.
    pub fn faults(&self, state: &State) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.place() == f64::MAX {
            faults.push(("priority", format!("'{}' is not a number", self.priority)));
        }
        faults.extend(self.pattern().as_ref().err().map(|reason| ("parameters", reason.clone())));
        faults.extend(self.hours().as_ref().err().map(|reason| ("time", reason.clone())));
        faults.extend(self.nodes(state).as_ref().err().map(|reason| ("noderange", reason.clone())));
        faults
    }

    /// Why it does not hold for a request, apart from nodes. A denying rule that cannot be read holds, an allowing
    /// one does not: nothing becomes allowed by a fault.
    pub fn misfit(&self, state: &State, question: &Question<'_>) -> Option<Misfit> {
        if !fits_name(&self.name, question.user) {
            return Some(Misfit::Name);
        }
        if !fits_host(&self.host, question.host, state) {
            return Some(Misfit::Host);
        }
        let named = |name: &str| name == question.command || question.aliases.contains(&name);
        if !any(&self.commands) && !list(&self.commands).any(named) {
            return Some(Misfit::Commands);
        }
        if !any(&self.parameters) {
            match self.pattern() {
                Ok(pattern) if pattern.is_match(&question.arguments.join(" ")) => {}
                Ok(_) => return Some(Misfit::Parameters),
                Err(reason) => {
                    if let Some(misfit) = self.unreadable("parameters", reason) {
                        return Some(misfit);
                    }
                }
            }
        }
        match self.hours() {
            Ok(hours) if hours.contain(question.time) => None,
            Ok(_) => Some(Misfit::Time),
            Err(reason) => self.unreadable("time", reason),
        }
    }

    /// The nodes it is for, in byte order, those that `site.excludenodes` hides included.
    pub fn nodes(&self, state: &State) -> &Result<Vec<String>, String> {
        self.nodes.get_or_init(|| match self.is_for_all() {
            true => Ok(Vec::new()),
            false => state.expand_all(&self.noderange, &Files::new()).map_err(|error| error.to_string()),
        })
    }

    /// The misfit of a field that cannot be read.
    pub fn unreadable(&self, column: &'static str, reason: &str) -> Option<Misfit> {
        self.says.allows().then(|| Misfit::Unreadable(column, reason.to_owned()))
    }

    fn pattern(&self) -> &Result<Regex, String> {
        self.pattern.get_or_init(|| {
            let text = if any(&self.parameters) { "" } else { &self.parameters };
            RegexBuilder::new(text).size_limit(EXPRESSION).build().map_err(|error| {
                // The last line says what is wrong; those before draw a picture of it.
                error.to_string().lines().last().unwrap_or("it cannot be compiled").trim().to_owned()
            })
        })
    }

    fn hours(&self) -> &Result<Hours, String> {
        self.hours.get_or_init(|| Hours::parse(&self.time))
    }
}

fn any(field: &str) -> bool {
    field.is_empty() || field == "*"
}

fn list(field: &str) -> impl Iterator<Item = &str> {
    field.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn fits_name(field: &str, user: Option<&str>) -> bool {
    match field {
        "" => true,
        "*" => user.is_some(),
        names => user.is_some_and(|user| list(names).any(|name| name == user)),
    }
}

/// A word is an address, a network (`10.0.0.0/24`), `localhost`, or a node whose address (`hosts.ip`) it is.
fn fits_host(field: &str, host: &str, state: &State) -> bool {
    if any(field) {
        return true;
    }
    let address = plain(host);
    list(field).any(|word| {
        let Some(address) = address else { return word == host };
        match (word, word.split_once('/')) {
            ("localhost", _) => address.is_loopback(),
            (_, Some((network, length))) => within(address, network, length),
            _ => match plain(word) {
                Some(known) => known == address,
                None => {
                    let domain = state.site("domain").unwrap_or_default();
                    let short = word.strip_suffix(domain).and_then(|name| name.strip_suffix('.'));
                    let node = short.filter(|_| !domain.is_empty()).unwrap_or(word);
                    plain(&state.text(node, "hosts.ip")) == Some(address)
                }
            },
        }
    })
}

/// An address without brackets; one of IPv4 that came in the clothes of IPv6 is one of IPv4.
fn plain(text: &str) -> Option<IpAddr> {
    let text = text.trim_start_matches('[').trim_end_matches(']');
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn within(address: IpAddr, network: &str, length: &str) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (32, u128::from(address.to_bits())),
        IpAddr::V6(address) => (128, address.to_bits()),
    };
    let (Some(network), Ok(length)) = (plain(network), length.parse::<u32>()) else { return false };
    let ((size, one), (other_size, other)) = (bits(address), bits(network));
    size == other_size && length <= size && (one ^ other).checked_shr(size - length).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_a_network_or_a_name() {
        let state = State::new();
        for (field, host, expected) in [
            ("", "10.1.2.3", true),
            ("*", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.4, 10.1.2.3", "10.1.2.3", true),
            ("10.1.2.0/24", "10.1.2.3", true),
            ("10.1.3.0/24", "10.1.2.3", false),
            ("0.0.0.0/0", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/33", "10.1.2.3", false),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00::/8", "[fd00::1]", true),
            ("fd00::/128", "fd00::1", false),
            ("10.1.2.3", "[::ffff:10.1.2.3]", true),
            ("localhost", "127.0.0.5", true),
            ("localhost", "10.1.2.3", false),
            ("nosuchnode", "10.1.2.3", false),
            ("", "", true),
            ("x", "", false),
        ] {
            assert_eq!(fits_host(field, host, &state), expected, "{field} {host}");
        }
    }

    #[test]
    fn what_is_not_a_yes_is_a_no() {
        for (text, says) in [
            ("allow", Says::Allow),
            ("Accept", Says::Allow),
            ("TRUSTED", Says::Trust),
            ("deny", Says::Deny),
            ("", Says::Deny),
            ("permit", Says::Deny),
        ] {
            assert_eq!(Says::read(text), says, "{text}");
        }
    }
}
