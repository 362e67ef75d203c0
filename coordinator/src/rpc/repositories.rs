//! Where backups are kept, and whether it answers.

use urtext_proto::pb;
use urtext_types::{ByteRate, Chain, Explain};

use crate::{Fault, app::App, locking::Locked, repositories::Place};

pub(super) async fn list(app: &App, check: bool) -> Result<pb::ListRepositoriesResponse, Fault> {
    // What it finds out about each of them is in the list.
    let _ = app.reconcile_lately(None).await;
    let totals = app.catalog.totals().await.map_err(Fault::while_doing("list the backups"))?;
    let mut repositories = Vec::new();
    for place in app.repositories.iter() {
        let here = totals.get(place.name()).copied().unwrap_or_default();
        let (id, recipients, trouble) = look(app, place, check).await;
        repositories.push(pb::RepositorySummary {
            direct: place.settings.direct.is_some(),
            upload_bytes_per_second: place.settings.upload_limit.map(ByteRate::get),
            lock_seconds: place.address().lock().map(|lock| lock.period.as_secs()),
            lock_mode: place.address().lock().map(|lock| lock.mode.to_string()),
            name: place.name().to_string(),
            address: place.address().to_string(),
            sites: place.settings.sites.iter().flatten().map(ToString::to_string).collect(),
            takes_others: place.settings.sites.is_none(),
            id,
            recipients,
            trouble,
            backups: here.backups,
            stored_bytes: here.stored_bytes,
            listed_at_ms: place.listed_at().map(|at| at.as_millis()),
            newest_ms: here.newest.map(|at| at.as_millis()),
        });
    }
    Ok(pb::ListRepositoriesResponse { repositories })
}

pub(super) fn locked(locked: Locked) -> pb::LockedRepository {
    let Locked { repository, until, backups, objects, unchanged, failed } = locked;
    let (repository, until_ms) = (repository.to_string(), until.as_millis());
    pb::LockedRepository { repository, until_ms, backups, objects, unchanged, failed }
}

/// Its id and its recipients while it answers; what is wrong with it.
async fn look(app: &App, place: &Place, check: bool) -> (Option<String>, Vec<String>, Option<String>) {
    let sentence = |fault: &Fault| match fault.hint() {
        Some(hint) => format!("{}; {hint}", Chain(fault)),
        None => Chain(fault).to_string(),
    };
    // Whoever has it checked wants to know how it is now, whatever it just was.
    let checked = if check {
        place.check().await.err().as_ref().map(sentence)
    } else {
        place.down().or_else(|| place.lock_trouble())
    };
    match place.open_unless_resting().await {
        Ok(repository) => {
            let header = repository.header();
            let recipients = repository.recipients(&app.verifier).await.map_err(Fault::while_doing("read the keys"));
            let trouble = checked.or_else(|| recipients.as_ref().err().map(sentence));
            let recipients = recipients.iter().flat_map(|known| known.iter().map(ToString::to_string)).collect();
            (Some(header.repository.to_string()), recipients, trouble)
        }
        Err(fault) => (None, Vec::new(), Some(sentence(&fault))),
    }
}
