//! The part of metric math that is supported: Ids, numbers, `+ - * / ( )`, lists, `METRICS()` and SUM, AVG, MIN, MAX.

use std::collections::BTreeMap;

/// Values by time.
pub type Line = BTreeMap<i64, f64>;

/// What Ids stand for.
pub trait Lines {
    /// The result of another query, or why there is none.
    fn line(&mut self, id: &str) -> Result<Line, String>;

    /// Ids of the queries that are metrics.
    fn metrics(&self) -> Vec<String>;
}

#[derive(Debug)]
enum Value {
    Scalar(f64),
    Line(Line),
    Lines(Vec<Line>),
}

/// What CloudWatch refuses a whole request for: brackets that do not close, and names that no query has.
pub fn refused(expression: &str, has: impl Fn(&str) -> bool) -> Option<String> {
    let mut open = Vec::new();
    let (mut quote, mut word) = (None, String::new());
    for next in expression.chars().chain([' ']) {
        if quote.is_none() && (next.is_ascii_alphanumeric() || next == '_') {
            word.push(next);
            continue;
        }
        let name = std::mem::take(&mut word);
        if name.starts_with(|first: char| first.is_ascii_lowercase()) && !has(&name) {
            return Some(format!("unknown id '{name}'"));
        }
        match next {
            '"' | '\'' if quote == Some(next) => quote = None,
            '"' | '\'' if quote.is_none() => quote = Some(next),
            '(' | '[' if quote.is_none() => open.push(if next == '(' { ')' } else { ']' }),
            ')' | ']' if quote.is_none() && open.pop() != Some(next) => {
                return Some(format!("unexpected '{next}'"));
            }
            _ => {}
        }
    }
    (quote.is_some() || !open.is_empty()).then(|| "unexpected end".into())
}

/// The one series that an expression is.
pub fn evaluate(expression: &str, lines: &mut dyn Lines) -> Result<Line, String> {
    let mut parser = Parser { rest: expression, lines, depth: 0 };
    let value = parser.sum()?;
    parser.space();
    if !parser.rest.is_empty() {
        return Err(format!("unexpected '{}'", parser.rest));
    }
    match value {
        Value::Line(line) => Ok(line),
        Value::Scalar(_) => Err("the expression is a number and not a series".into()),
        Value::Lines(_) => Err("an expression with several series is not supported".into()),
    }
}

struct Parser<'a> {
    rest: &'a str,
    lines: &'a mut dyn Lines,
    depth: u32,
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, wanted: char) -> bool {
        self.space();
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn need(&mut self, wanted: char) -> Result<(), String> {
        if self.eat(wanted) { Ok(()) } else { Err(format!("'{wanted}' expected at '{}'", self.rest)) }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|next| !belongs(next)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.into()
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut value = self.product()?;
        loop {
            if self.eat('+') {
                value = combine(value, self.product()?, |one, other| one + other)?;
            } else if self.eat('-') {
                value = combine(value, self.product()?, |one, other| one - other)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.operand()?;
        loop {
            if self.eat('*') {
                value = combine(value, self.operand()?, |one, other| one * other)?;
            } else if self.eat('/') {
                value = combine(value, self.operand()?, |one, other| one / other)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn operand(&mut self) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > 1000 {
            return Err("the expression is too long".into());
        }
        if self.eat('-') {
            return combine(Value::Scalar(0.0), self.operand()?, |zero, value| zero - value);
        }
        if self.eat('(') {
            let value = self.sum()?;
            self.need(')')?;
            return Ok(value);
        }
        if self.eat('[') {
            return self.list();
        }
        if self.rest.starts_with(|next: char| next.is_ascii_digit() || next == '.') {
            let number = self.take(|next| next.is_ascii_digit() || next == '.');
            return number.parse().map(Value::Scalar).map_err(|_| format!("'{number}' is no number"));
        }
        let name = self.take(|next| next.is_ascii_alphanumeric() || next == '_');
        if name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Ok(Value::Line(self.lines.line(&name)?));
        }
        self.need('(')?;
        self.function(&name)
    }

    fn list(&mut self) -> Result<Value, String> {
        let mut lines = Vec::new();
        loop {
            match self.sum()? {
                Value::Line(line) => lines.push(line),
                Value::Lines(more) => lines.extend(more),
                Value::Scalar(_) => return Err("a list is of series".into()),
            }
            if !self.eat(',') {
                self.need(']')?;
                return Ok(Value::Lines(lines));
            }
        }
    }

    fn function(&mut self, name: &str) -> Result<Value, String> {
        if name == "METRICS" {
            let mut part = String::new();
            for quote in ['"', '\''] {
                if self.eat(quote) {
                    part = self.take(|next| next != quote);
                    self.need(quote)?;
                }
            }
            self.need(')')?;
            let ids = self.lines.metrics().into_iter().filter(|id| id.contains(&part));
            return Ok(Value::Lines(ids.map(|id| self.lines.line(&id)).collect::<Result<_, _>>()?));
        }
        let fold: fn(&[f64]) -> f64 = match name {
            "SUM" => |values| values.iter().sum(),
            "AVG" => |values| values.iter().sum::<f64>() / values.len() as f64,
            "MIN" => |values| values.iter().copied().fold(f64::INFINITY, f64::min),
            "MAX" => |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            _ => return Err(format!("the function '{name}' is not supported")),
        };
        let argument = self.sum()?;
        self.need(')')?;
        match argument {
            Value::Lines(lines) => {
                let mut values = BTreeMap::<i64, Vec<f64>>::new();
                for (time, value) in lines.into_iter().flatten() {
                    values.entry(time).or_default().push(value);
                }
                Ok(Value::Line(values.into_iter().map(|(time, values)| (time, fold(&values))).collect()))
            }
            // Of one series it is one number.
            Value::Line(line) if !line.is_empty() => {
                Ok(Value::Scalar(fold(&line.into_values().collect::<Vec<_>>())))
            }
            Value::Line(_) | Value::Scalar(_) => Err(format!("{name} needs series with values")),
        }
    }
}

/// Of two series the times that both have; a value that is no number, as after a division by zero, is left out.
fn combine(one: Value, other: Value, with: fn(f64, f64) -> f64) -> Result<Value, String> {
    let finite = |line: Line| Value::Line(line.into_iter().filter(|(_, value)| value.is_finite()).collect());
    Ok(match (one, other) {
        (Value::Scalar(one), Value::Scalar(other)) => Value::Scalar(with(one, other)),
        (Value::Line(one), Value::Scalar(other)) => {
            finite(one.into_iter().map(|(time, value)| (time, with(value, other))).collect())
        }
        (Value::Scalar(one), Value::Line(other)) => {
            finite(other.into_iter().map(|(time, value)| (time, with(one, value))).collect())
        }
        (Value::Line(one), Value::Line(other)) => {
            let both =
                one.into_iter().filter_map(|(time, value)| Some((time, with(value, *other.get(&time)?))));
            finite(both.collect())
        }
        _ => return Err("operators on lists of series are not supported".into()),
    })
}
