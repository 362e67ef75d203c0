//! The keys of repositories, as messages.

use urtext_proto::{model::parse, pb};
use urtext_repository::Keyring;
use urtext_types::{Chain, ErrorKind, RepositoryName, UserName};

use crate::{Fault, app::App, catalog::Totals, repositories::Place};

/// Of the repository of that name, or of all.
pub(super) async fn list(app: &App, name: Option<RepositoryName>) -> Result<pb::ListKeysResponse, Fault> {
    let places: Vec<&Place> = match &name {
        Some(name) => vec![app.repositories.named(name)?],
        None => app.repositories.iter().collect(),
    };
    let totals = app.catalog.totals().await.map_err(Fault::while_doing("list the backups"))?;
    let mut repositories = Vec::new();
    for place in places {
        let Totals { backups: count, stored_bytes: bytes, .. } = totals.get(place.name()).copied().unwrap_or_default();
        repositories.push(match app.keyring(place).await {
            Ok(keyring) => keys(place, keyring, count, bytes)?,
            Err(fault) => pb::RepositoryKeys {
                name: place.name().to_string(),
                trouble: Some(Chain(&fault).to_string()),
                ..pb::RepositoryKeys::default()
            },
        });
    }
    Ok(pb::ListKeysResponse { repositories })
}

fn keys(place: &Place, keyring: Keyring, backups: u64, stored_bytes: u64) -> Result<pb::RepositoryKeys, Fault> {
    let Keyring { repository, first, changes, handed_on, disbelieved } = keyring;
    let json = |error| Fault::new(ErrorKind::Internal, format!("write a change of keys as JSON: {error}"));
    let changes: Result<Vec<Vec<u8>>, Fault> =
        changes.iter().map(|change| serde_json::to_vec(change).map_err(json)).collect();
    Ok(pb::RepositoryKeys {
        name: place.name().to_string(),
        trouble: None,
        id: repository.to_string(),
        first_recipients: first.iter().map(ToString::to_string).collect(),
        changes_json: changes?.into_iter().map(Into::into).collect(),
        handed_on: handed_on
            .into_iter()
            .map(|(change, sealed)| pb::HandedOn { change: change.to_string(), sealed })
            .collect(),
        disbelieved,
        backups,
        stored_bytes,
    })
}

pub(super) async fn change(app: &App, request: pb::ChangeKeysRequest, by: &UserName) -> Result<(), Fault> {
    let pb::ChangeKeysRequest { repository, id, signed_change, handed_on } = request;
    let name: RepositoryName = parse("repository", &repository)?;
    let place = app.repositories.named(&name)?;
    app.change_keys(place, parse("id", &id)?, signed_change, handed_on, by).await
}
