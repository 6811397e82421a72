//! Users of this machine, read from the account files below its root.

use std::path::Path;

use crate::probe::text;

/// Somebody who can run commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: String,
    /// Login shell.
    pub shell: String,
}

/// The user with this name; an empty name is root, who needs no entry.
///
/// # Errors
/// A sentence that names the user.
pub fn user(root: &Path, name: &str) -> Result<User, String> {
    let name = if name.is_empty() { "root" } else { name };
    let passwd = text(&root.join("etc/passwd"));
    let found = passwd.lines().find_map(|line| parse(line).filter(|user| user.name == name));
    let mut user = match found {
        Some(user) => user,
        None if name == "root" => User {
            name: "root".to_owned(),
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            home: "/root".to_owned(),
            shell: "/bin/sh".to_owned(),
        },
        None => return Err(format!("user '{}' does not exist on this node", name.escape_debug())),
    };
    user.groups = vec![user.gid];
    for line in text(&root.join("etc/group")).lines() {
        let mut fields = line.split(':');
        let gid = fields.nth(2).and_then(|gid| gid.parse().ok());
        let member = fields.next().is_some_and(|members| members.split(',').any(|member| member == name));
        if let (Some(gid), true) = (gid, member)
            && !user.groups.contains(&gid)
        {
            user.groups.push(gid);
        }
    }
    Ok(user)
}

fn parse(line: &str) -> Option<User> {
    let fields: Vec<_> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    Some(User {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        groups: Vec::new(),
        home: home.to_owned(),
        shell: if shell.is_empty() { "/bin/sh".to_owned() } else { shell.to_owned() },
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn root_needs_no_entry_and_others_do() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(user(root.path(), "").unwrap().uid, 0);
        assert!(user(root.path(), "ada").unwrap_err().contains("'ada'"));
    }
}
