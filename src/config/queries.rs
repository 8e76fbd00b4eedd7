//! Tries the queries of `sql` transforms, which takes a runtime.

use arrow::datatypes::SchemaRef;

use crate::Result;
use crate::transform::Sql;

/// A query to be tried on no rows.
pub(super) struct Query {
    pub(super) sql: Sql,
    /// All columns that the rows may have.
    pub(super) columns: SchemaRef,
}

/// Tries queries; on a thread of its own, because a check may be called from inside a runtime and must not need one.
pub(super) fn try_all<T: Copy + Send>(queries: Vec<(T, Query)>) -> Vec<(T, Result<()>)> {
    if queries.is_empty() {
        return Vec::new();
    }
    let tried = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let all = async {
                let mut tried = Vec::new();
                for (of, Query { sql, columns }) in queries {
                    tried.push((of, sql.check(&columns).await));
                }
                tried
            };
            Some(runtime.block_on(all))
        });
        thread.join().ok().flatten()
    });
    // Without threads there is no run either; the syntax has been checked.
    tried.unwrap_or_default()
}
