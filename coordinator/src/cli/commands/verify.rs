//! `urtext verify`

use urtext_rdb::RdbError;
use urtext_types::{ByteCount, ErrorKind};

use super::inspect::{Inspecting, keys_in_words, settings};
use crate::{
    Fault,
    cli::{
        Context, Ended, Stop, args, json,
        source::{named_file, rdb_fault},
    },
};

pub(in crate::cli) async fn run(context: &Context, args: args::Verify) -> Result<Ended, Stop> {
    let file = args.file.ok_or_else(|| Fault::new(ErrorKind::Usage, "verify what?").with_hint("give --file FILE"))?;
    let source = context.open_source(&named_file(file), None).await?;
    let name = source.name.clone();
    let inspecting = Inspecting::new(format!("verify {name}"), settings(0, b':'));
    let report = source.read_into(inspecting).await?;
    let summary = &report.summary;
    // Servers ignore what follows; but whatever it is, nobody wrote it there on purpose.
    if summary.trailing_bytes > 0 && !summary.aux.is_aof_base {
        let error = RdbError::TrailingBytes { offset: summary.bytes };
        let hint = format!("the RDB before them is sound: head -c {} FILE makes a file of it alone", summary.bytes);
        return Err(rdb_fault(format!("verify {name}"), error).with_hint(hint).into());
    }
    let value = json::Verified::new(name, &report);
    let output = &context.output;
    output.text(format_args!(
        "{} is sound: {}, {}, {}",
        value.file,
        value.rdb,
        keys_in_words(value.keys),
        ByteCount::new(value.bytes)
    ))?;
    output.text(format_args!("checksum     {}", value.checksum))?;
    output.text(format_args!("digest       {}", value.content_digest))?;
    output.text(format_args!("loads into   {}", value.loads_into()))?;
    if let Some(position) = summary.position() {
        output.text(format_args!("position     {position}"))?;
    }
    if value.trailing_bytes > 0 {
        let bytes = ByteCount::new(value.trailing_bytes);
        output.warning(format_args!("{bytes} of an append-only log follow the RDB; they were not looked at"))?;
    }
    if value.empty_keys > 0 {
        let keys = value.empty_keys;
        output.warning(format_args!("{keys} collections are empty: servers drop them when they load the file"))?;
    }
    output.value(&value)?;
    Ok(Ended::Well)
}
