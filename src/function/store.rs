//! `store.*`: the embedded store itself, apart from the images in it.

use super::{Call, Context, Function};
use crate::engine::Surroundings;
use crate::error::Result;
use crate::vocab::Value;

const VERIFY: &str = "Check the whole embedded store: every blob against its name, every image against its blobs.

Reads and hashes all of it; others may work with the store meanwhile. The result is False when anything is not what
it says, and every mismatch is listed.

    castoff call store.verify";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[Function::reads("store.verify", VERIFY, &[], verify).long()];

fn verify(_: &Call, context: &Context) -> Result<Value> {
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let report = surroundings.store()?.verify(context.config.limit_layer_size, &context.progress)?;
    let mismatches = report
        .mismatches
        .into_iter()
        .map(|mismatch| Value::map([("subject", Value::from(mismatch.subject)), ("problem", mismatch.problem.into())]));
    let mut mismatches: Vec<Value> = mismatches.collect();
    let trees = crate::build::verify(&surroundings)?.unwrap_or_default();
    mismatches.extend(
        trees
            .mismatches
            .into_iter()
            .map(|(subject, problem)| Value::map([("subject", Value::from(subject)), ("problem", problem.into())])),
    );
    Ok(Value::map([
        ("result", Value::from(mismatches.is_empty())),
        ("images", report.images.into()),
        ("blobs", report.blobs.into()),
        ("bytes", report.bytes.into()),
        ("layers_of_trees", trees.layers.into()),
        ("mismatches", Value::List(mismatches)),
    ]))
}
