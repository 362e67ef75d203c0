//! What is not in the RDB, and without which a restore is not one: ACL users, configuration, modules, slots.
//!
//! One JSON object. Passwords may be in it, so it leaves this process sealed and in no other way.

use redis::Value;
use serde_json::{Map, json};
use urtext_repository::{MissingSettings, ModuleSummary};
use urtext_types::Secret;

use crate::server::{Connection, ServerError};

/// The server's settings, as far as they could be read.
pub(super) struct ServerSettings {
    /// `None` if nothing could be read.
    pub(super) json: Option<Secret<Vec<u8>>>,
    pub(super) missing: Vec<MissingSettings>,
    pub(super) modules: Vec<ModuleSummary>,
}

/// Asks for each part. A part that is not permitted is missing, and named; only a connection that fails
/// fails the whole.
pub(super) async fn collect(connection: &mut Connection, cluster: bool) -> Result<ServerSettings, ServerError> {
    let mut parts = Map::new();
    let mut missing = Vec::new();
    let mut modules = Vec::new();

    let acl = connection.query::<Vec<String>>(&["ACL", "LIST"]).await;
    if let Some(users) = readable("acl", acl, &mut missing)? {
        parts.insert("acl".to_owned(), json!(users));
    }
    let config = connection.query::<Vec<(String, String)>>(&["CONFIG", "GET", "*"]).await;
    if let Some(pairs) = readable("config", config, &mut missing)? {
        parts.insert("config".to_owned(), pairs.into_iter().map(|(name, value)| (name, json!(value))).collect());
    }
    let list = connection.query::<Vec<Value>>(&["MODULE", "LIST"]).await;
    if let Some(list) = readable("modules", list, &mut missing)? {
        modules = list.iter().filter_map(module).collect();
        parts.insert("modules".to_owned(), json!(modules));
    }
    if cluster {
        let nodes = connection.query::<String>(&["CLUSTER", "NODES"]).await;
        if let Some(nodes) = readable("slots", nodes, &mut missing)? {
            parts.insert("slots".to_owned(), json!(nodes));
        }
    }
    let json = match parts.is_empty() {
        true => None,
        false => Some(Secret::new(serde_json::Value::Object(parts).to_string().into_bytes())),
    };
    Ok(ServerSettings { json, missing, modules })
}

fn readable<T>(
    what: &str,
    answer: Result<T, ServerError>,
    missing: &mut Vec<MissingSettings>,
) -> Result<Option<T>, ServerError> {
    match answer {
        Ok(part) => Ok(Some(part)),
        Err(error) if matches!(error, ServerError::Lost { .. } | ServerError::Timeout { .. }) => Err(error),
        Err(error) => {
            missing.push(MissingSettings { what: what.to_owned(), reason: error.to_string() });
            Ok(None)
        }
    }
}

/// One entry of MODULE LIST: names and values in turn, `name` and `ver` among them.
pub fn module(entry: &Value) -> Option<ModuleSummary> {
    let pairs: Vec<(Value, Value)> = match entry {
        Value::Map(pairs) => pairs.clone(),
        Value::Array(items) => items.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(),
        _ => return None,
    };
    let field = |wanted: &str| {
        let is_wanted = |name: &Value| redis::from_redis_value::<String>(name.clone()).is_ok_and(|name| name == wanted);
        pairs.iter().find(|(name, _)| is_wanted(name)).map(|(_, value)| value.clone())
    };
    Some(ModuleSummary {
        name: redis::from_redis_value(field("name")?).ok()?,
        version: field("ver").and_then(|version| redis::from_redis_value(version).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_read_from_both_shapes_of_the_answer() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let expect = Some(ModuleSummary { name: "vectorset".to_owned(), version: Some(1) });
        let pairs =
            [(text("name"), text("vectorset")), (text("ver"), Value::Int(1)), (text("args"), Value::Array(vec![]))];
        assert_eq!(module(&Value::Map(pairs.to_vec())), expect);
        let flat = pairs.into_iter().flat_map(|(name, value)| [name, value]).collect();
        assert_eq!(module(&Value::Array(flat)), expect);
        assert_eq!(module(&Value::Int(1)), None);
    }
}
