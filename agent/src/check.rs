//! `urtext-agent check`: can the server be observed, captured and restored to, and if not, what is missing.

use std::{fmt::Write, path::Path};

use urtext_types::{NodeObservation, Role};

use crate::{
    capture::{FileAccess, choose, file_access},
    clock,
    server::{Access, CAPTURE_RIGHTS, PermissionReport, RESTORE_RIGHTS, Server, ServerError, check_permissions},
};

/// What a check found.
#[derive(Debug)]
pub struct CheckReport {
    pub server: String,
    pub observation: NodeObservation,
    pub permissions: PermissionReport,
    pub file: FileAccess,
}

/// Connects, looks, and tries every right; changes nothing.
pub async fn check(server: &Server, rdb_file: Option<&Path>) -> Result<CheckReport, ServerError> {
    let mut connection = server.connect().await?;
    let (_, observation) = connection.observe(clock::now).await?;
    let permissions = check_permissions(&mut connection).await?;
    let file = file_access(&mut connection, rdb_file).await?;
    Ok(CheckReport { server: server.address().to_string(), observation, permissions, file })
}

impl CheckReport {
    /// Whether backups are possible.
    pub fn is_good(&self) -> bool {
        self.permissions.missing_essentials().is_empty() && choose(None, &self.observation, self.file.clone()).is_ok()
    }

    /// The report for a person.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let NodeObservation { server, replication, .. } = &self.observation;
        let role = match &replication.role {
            Role::Master { replicas } => format!("master of {} replicas", replicas.len()),
            Role::Replica { master, link, .. } => {
                format!("replica of {master}, link {}", if link.up { "up" } else { "down" })
            }
        };
        let _ = writeln!(text, "server    {} · {} {} · {role}", self.server, server.engine, server.version);
        let position = match self.observation.position() {
            Some(position) => format!("{position}"),
            None => "none: the server has no replica and no backlog, so it counts nothing".to_owned(),
        };
        let _ = writeln!(text, "position  {position}");
        let _ = writeln!(text, "user      {}", self.permissions.user);
        for (right, access) in &self.permissions.rights {
            let found = match access {
                Access::Granted => "granted".to_owned(),
                Access::Denied => format!("MISSING, needed for {}", right.needed_for),
                Access::Unknown => format!("the server does not know this command; needed for {}", right.needed_for),
                Access::NotTested { reason } => format!("not tested: {reason}"),
            };
            let _ = writeln!(text, "  {:<14}  {found}", right.rule);
        }
        let file = match &self.file {
            FileAccess::Readable => "the server's files can be read here".to_owned(),
            FileAccess::NotReadable { reason } => format!("the server's files cannot be read here: {reason}"),
        };
        let _ = writeln!(text, "files     {file}");
        let capture = match choose(None, &self.observation, self.file.clone()) {
            Ok(choice) => format!("by {:?}: {}", choice.method, choice.reason).to_lowercase(),
            Err(error) => format!("not possible: {error}"),
        };
        let _ = writeln!(text, "capture   {capture}");
        if let Some(grant) = self.permissions.grant() {
            let _ = writeln!(text, "\nto grant what is missing:\n  {grant}");
        }
        let _ = write!(
            text,
            "\na user of its own needs, for backups:\n  ACL SETUSER urtext on >PASSWORD {CAPTURE_RIGHTS}\n\
             and to be restored to:\n  ACL SETUSER urtext {RESTORE_RIGHTS}\n"
        );
        text
    }
}
