//! What a conditional write answers. ScyllaDB always gives the old values of the condition's columns, Cassandra only
//! when the condition did not hold, and their columns come in different orders: so columns are read by their names.

use scylla::{response::query_result::QueryResult, value::Row};

use super::errors;
use crate::StoreError;

const APPLIED: &str = "[applied]";

/// Whether the condition held.
///
/// # Errors
/// [`StoreError::Unknown`] when the answer is none that can be understood.
pub(super) fn is_applied(result: QueryResult) -> Result<bool, StoreError> {
    let unknown =
        |what: &dyn std::fmt::Display| StoreError::Unknown(format!("the answer of a condition: {what}"));
    let rows = result.into_rows_result().map_err(|error| unknown(&error))?;
    let (place, _) = rows.column_specs().get_by_name(APPLIED).ok_or_else(|| unknown(&"has no [applied]"))?;
    let row: Row = rows.first_row().map_err(|error| unknown(&error))?;
    let value = row.columns.into_iter().nth(place).flatten();
    value.and_then(|value| value.as_boolean()).ok_or_else(|| unknown(&"[applied] is no boolean"))
}

/// The rows of a read.
pub(super) fn rows<R>(result: QueryResult) -> Result<Vec<R>, StoreError>
where
    R: for<'a> scylla::deserialize::row::DeserializeRow<'a, 'a>,
{
    let rows = result.into_rows_result().map_err(errors::corrupt)?;
    rows.rows::<R>().map_err(errors::corrupt)?.map(|row| row.map_err(errors::corrupt)).collect()
}
