//! What a condition may compare with what.
//!
//! The engine compares a number with a text by reading the text as a number in each row: `device > 5` refuses every batch
//! at its first text that is none, and `utilization = 'high'` refuses all of them. Both can be said before anything runs.

use std::fmt;

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator};

use crate::sql::quoted;

/// Types of which one is never compared with another. Other types are left to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Truth,
    Time,
}

impl Kind {
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Text),
            DataType::Boolean => Some(Self::Truth),
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Some(Self::Time),
            number if number.is_numeric() => Some(Self::Number),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Number => "a number",
            Self::Text => "a text",
            Self::Truth => "true or false",
            Self::Time => "a time",
        })
    }
}

/// Why a comparison somewhere in a plan cannot work, if one cannot.
pub(super) fn mismatch_in(plan: &LogicalPlan) -> Result<Option<String>> {
    let mut found = None;
    plan.apply_with_subqueries(|node| {
        let schema = merge_schema(&node.inputs());
        for expression in node.expressions() {
            found = mismatch(&expression, &schema)?;
            if found.is_some() {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

/// Why a comparison somewhere in an expression over these columns cannot work, if one cannot.
pub(super) fn mismatch(expression: &Expr, schema: &DFSchema) -> Result<Option<String>> {
    let mut found = None;
    expression.apply(|part| {
        found = pairs(part).into_iter().find_map(|(a, b)| differ(a, b, schema));
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

/// The values that a part of an expression compares.
fn pairs(part: &Expr) -> Vec<(&Expr, &Expr)> {
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(*op) => vec![(left, right)],
        Expr::Between(between) => vec![(&between.expr, &between.low), (&between.expr, &between.high)],
        Expr::InList(list) => list.list.iter().map(|item| (list.expr.as_ref(), item)).collect(),
        Expr::Like(like) | Expr::SimilarTo(like) => vec![(&like.expr, &like.pattern)],
        _ => Vec::new(),
    }
}

fn compares(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The type of what an expression gives. Nothing for branches of different kinds: the engine finds one for them later, and
/// until then calls them by the first.
fn type_of(expression: &Expr, schema: &DFSchema) -> Option<DataType> {
    let own = expression.get_type(schema).ok()?;
    if let Expr::Case(case) = expression {
        let branches = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
        let types: Vec<_> = branches.map(|branch| type_of(branch, schema)).collect::<Option<_>>()?;
        let mut known = types.iter().filter(|data_type| !data_type.is_null());
        return known.all(|data_type| Kind::of(data_type) == Kind::of(&own)).then_some(own);
    }
    Some(own)
}

fn differ(a: &Expr, b: &Expr, schema: &DFSchema) -> Option<String> {
    // What has no type here is refused by the engine, with a better reason.
    let (first, second) = (type_of(a, schema)?, type_of(b, schema)?);
    let (first_kind, second_kind) = (Kind::of(&first)?, Kind::of(&second)?);
    if first_kind == second_kind {
        return None;
    }
    let (left, right) = (shown(a), shown(b));
    let unreadable = |text: &Expr, data_type: &DataType| match literal(text) {
        Some(value) => value.cast_to(data_type).is_err(),
        // A text made of no column may be a time written in parts.
        None => !text.column_refs().is_empty(),
    };
    match (first_kind, second_kind) {
        (Kind::Text, kind) if literal(a).is_some() || kind == Kind::Time => {
            unreadable(a, &second).then(|| format!("{right} is {kind}, and {left} cannot be read as one"))
        }
        (kind, Kind::Text) if literal(b).is_some() || kind == Kind::Time => {
            unreadable(b, &first).then(|| format!("{left} is {kind}, and {right} cannot be read as one"))
        }
        _ => Some(format!(
            "{left} is {first_kind} and {right} is {second_kind}, and they cannot be compared; write texts in single \
             quotes, or convert one of them with CAST"
        )),
    }
}

/// A text that is written out.
fn literal(expression: &Expr) -> Option<&datafusion::common::ScalarValue> {
    match expression {
        Expr::Literal(value, _) if Kind::of(&value.data_type()) == Some(Kind::Text) => Some(value),
        _ => None,
    }
}

/// A part of an expression as somebody would write it.
fn shown(expression: &Expr) -> String {
    match (expression, literal(expression)) {
        (Expr::Column(column), _) => quoted(&column.name),
        (_, Some(text)) => format!("'{text}'"),
        _ => expression.human_display().to_string(),
    }
}
