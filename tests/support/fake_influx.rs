//! InfluxDB 1.x, 2.x and 3.x as far as writes go: it stores points, so that tests can read what arrived, and answers what
//! the real ones answer. No package has a real 2.x or 3.x; the 1.x dialect is there so that the tests which also run
//! against a real 1.6.7 check this fake too.
//!
//! Where each answer is from is said beside it: "measured" is a real 1.6.7, other sources are repositories of influxdata.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use influxdb_line_protocol::{FieldValue, parse_lines, split_lines};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Which server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    One,
    Two,
    Three,
}

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Settings {
    pub kind: Kind,
    /// The whole `Authorization` header that is wanted.
    pub authorization: Option<String>,
    /// Largest body in bytes: of 1.x and 3.x as sent, of 2.x decompressed.
    pub max_body: usize,
    /// Points before this time are outside of the retention.
    pub oldest: i64,
    /// Tables that 3.x may have.
    pub max_tables: usize,
}

impl Settings {
    pub fn new(kind: Kind) -> Self {
        Self { kind, authorization: None, max_body: 10 << 20, oldest: i64::MIN, max_tables: usize::MAX }
    }
}

/// An answer to the next write instead of the right one.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    /// This long before the answer.
    pub delay: Duration,
    /// The lines are stored all the same, as when an answer is lost.
    pub store: bool,
}

impl Fault {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }
}

/// What was asked.
#[derive(Debug, Clone)]
pub struct Request {
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// The lines in it.
    pub lines: usize,
}

/// A point: database, measurement with tags, time.
type Key = (String, String, i64);

#[derive(Default)]
struct Stored {
    databases: HashSet<String>,
    points: BTreeMap<Key, BTreeMap<String, String>>,
    /// By database, measurement and field.
    types: HashMap<(String, String, String), &'static str>,
    faults: VecDeque<Fault>,
    /// Every write from now on has this answer.
    always: Option<Fault>,
    requests: Vec<Request>,
}

/// A running fake, ended with the test.
pub struct Fake {
    pub address: SocketAddr,
    server: Arc<Server>,
    task: tokio::task::JoinHandle<()>,
}

struct Server {
    settings: Settings,
    stored: Mutex<Stored>,
}

type Shared = State<Arc<Server>>;

/// What stands behind the path of a request.
fn parameters(uri: &Uri) -> HashMap<String, String> {
    let url = reqwest::Url::parse("http://fake").unwrap().join(&uri.to_string()).unwrap();
    url.query_pairs().into_owned().collect()
}

impl Fake {
    /// Starts it with the database or bucket `db`.
    pub async fn start(settings: Settings) -> Self {
        let kind = settings.kind;
        let server = Arc::new(Server { settings, stored: Mutex::default() });
        server.stored.lock().databases.insert("db".into());
        let mut app = Router::new();
        // The same under a prefix, as behind a proxy.
        for prefix in ["", "/pre/fix"] {
            let path = |path: &str| format!("{prefix}{path}");
            app = app.route(&path("/ping"), get(ping));
            app = match kind {
                Kind::One => app.route(&path("/write"), post(write)).route(&path("/query"), post(query)),
                Kind::Two => app
                    .route(&path("/api/v2/write"), post(write))
                    .route(&path("/api/v2/orgs"), get(orgs))
                    .route(&path("/api/v2/buckets"), get(buckets).post(make_bucket)),
                Kind::Three => app
                    .route(&path("/api/v3/write_lp"), post(write))
                    .route(&path("/api/v3/configure/database"), post(make_database)),
            };
        }
        let app = app.with_state(Arc::clone(&server));
        let app = app.layer(axum::extract::DefaultBodyLimit::disable());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, server, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next writes are answered like this.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.server.stored.lock().faults.extend(faults);
    }

    /// All writes are answered like this until told otherwise.
    pub fn always(&self, fault: Option<Fault>) {
        self.server.stored.lock().always = fault;
    }

    /// Every write that came, and none of the other requests.
    pub fn requests(&self) -> Vec<Request> {
        self.server.stored.lock().requests.clone()
    }

    pub fn forget_requests(&self) {
        self.server.stored.lock().requests.clear();
    }

    pub fn drop_database(&self, name: &str) {
        self.server.stored.lock().databases.remove(name);
    }

    /// Stores a line as if another client had written it.
    pub fn seed(&self, lines: &str) {
        let mut stored = self.server.stored.lock();
        for line in parse(lines) {
            stored.store("db", &line.unwrap());
        }
    }

    /// Values of a field of a measurement in `db`, by time.
    pub fn values(&self, measurement: &str, field: &str) -> BTreeMap<i64, String> {
        let stored = self.server.stored.lock();
        let of_measurement = |series: &str| series.split(',').next() == Some(measurement);
        let points = stored.points.iter().filter(|((db, series, _), _)| db == "db" && of_measurement(series));
        points.filter_map(|((_, _, time), fields)| Some((*time, fields.get(field)?.clone()))).collect()
    }

    /// Values of an integer field of a measurement in `db`, by the value of a tag and time.
    pub fn numbers(&self, measurement: &str, tag: &str, field: &str) -> BTreeMap<(String, i64), i64> {
        let stored = self.server.stored.lock();
        let tag = format!("{tag}=");
        let mut numbers = BTreeMap::new();
        for ((db, series, time), fields) in &stored.points {
            let mut parts = series.split(',');
            let Some(value) = fields.get(field).filter(|_| db == "db" && parts.next() == Some(measurement))
            else {
                continue;
            };
            let name = parts.find_map(|part| part.strip_prefix(&tag)).unwrap_or_default();
            numbers.insert((name.to_owned(), *time), value.trim_end_matches('i').parse().unwrap());
        }
        numbers
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A line that parses.
struct Line {
    measurement: String,
    series: String,
    fields: Vec<(String, &'static str, String)>,
    time: i64,
}

/// Each line, or what is wrong with it. A line with this text is taken for one that does not parse, because the encoder
/// writes none.
pub const UNPARSABLE: &str = "~unparsable~";

fn parse(text: &str) -> Vec<Result<Line, (String, String)>> {
    let wrong = |line: &str, why: String| Err((line.to_owned(), why));
    split_lines(text)
        .filter(|line| !line.is_empty())
        .map(|line| {
            if line.contains(UNPARSABLE) {
                return wrong(line, "invalid field format".into());
            }
            let parsed = match parse_lines(line).next() {
                Some(Ok(parsed)) => parsed,
                Some(Err(error)) => return wrong(line, error.to_string()),
                None => return wrong(line, "missing fields".into()),
            };
            let Some(time) = parsed.timestamp else { return wrong(line, "no time".into()) };
            let fields = parsed.field_set.iter().map(|(name, value)| {
                let kind = match value {
                    FieldValue::F64(_) => "float",
                    FieldValue::I64(_) => "integer",
                    FieldValue::U64(_) => "unsigned",
                    FieldValue::Boolean(_) => "boolean",
                    FieldValue::String(_) => "string",
                };
                (name.to_string(), kind, value.to_string())
            });
            Ok(Line {
                measurement: parsed.series.measurement.to_string(),
                fields: fields.collect(),
                series: parsed.series.generate_base().unwrap().into_owned(),
                time,
            })
        })
        .collect()
}

impl Stored {
    /// Field, type of the line and type that is there.
    fn conflict(&self, db: &str, line: &Line) -> Option<(String, &'static str, &'static str)> {
        line.fields.iter().find_map(|(field, kind, _)| {
            let key = (db.to_owned(), line.measurement.clone(), field.clone());
            self.types.get(&key).filter(|known| *known != kind).map(|known| (field.clone(), *kind, *known))
        })
    }

    fn store(&mut self, db: &str, line: &Line) {
        let point = self.points.entry((db.to_owned(), line.series.clone(), line.time)).or_default();
        for (field, kind, value) in &line.fields {
            self.types.insert((db.to_owned(), line.measurement.clone(), field.clone()), kind);
            point.insert(field.clone(), value.clone());
        }
    }

    fn has_table(&self, db: &str, measurement: &str) -> bool {
        self.types.keys().any(|(other, table, _)| other == db && table == measurement)
    }

    fn tables(&self, db: &str) -> usize {
        let tables = self.types.keys().filter(|(other, ..)| other == db).map(|(_, table, _)| table);
        tables.collect::<HashSet<_>>().len()
    }
}

impl Server {
    fn allows(&self, headers: &HeaderMap) -> bool {
        let given = headers.get("authorization").and_then(|header| header.to_str().ok());
        self.settings.authorization.as_deref().is_none_or(|wanted| given == Some(wanted))
    }

    fn answer(&self, status: u16, body: &Value) -> Response {
        self.text(status, if body.is_null() { String::new() } else { body.to_string() })
    }

    fn text(&self, status: u16, body: String) -> Response {
        // 1.6.7 measured; 2.x kit/transport/http; 3.x influxdb3_server http.rs sets x-influxdb-version too.
        let version = match self.settings.kind {
            Kind::One => "1.6.7~rc0",
            Kind::Two => "v2.7.11",
            Kind::Three => "3.2.1",
        };
        (StatusCode::from_u16(status).unwrap(), [("x-influxdb-version", version)], body).into_response()
    }

    /// An error in the words of the server.
    fn error(&self, status: u16, code: &str, message: &str) -> Response {
        match self.settings.kind {
            // 1.x services/httpd/handler.go httpError.
            Kind::One | Kind::Three => self.answer(status, &json!({ "error": message })),
            // 2.x kit/transport/http/error_handler.go.
            Kind::Two => self.answer(status, &json!({ "code": code, "message": message })),
        }
    }

    fn unauthorized(&self) -> Response {
        match self.settings.kind {
            // 1.6.7 measured.
            Kind::One => self.error(401, "", "authorization failed"),
            // 2.x http/authentication_middleware.go.
            Kind::Two => self.error(401, "unauthorized", "unauthorized access"),
            // 3.x influxdb3_server http.rs: the body is empty.
            Kind::Three => self.answer(401, &Value::Null),
        }
    }
}

async fn ping(State(server): Shared) -> Response {
    match server.settings.kind {
        // 1.6.7 measured; 2.x http/platform_handler.go.
        Kind::One | Kind::Two => server.answer(204, &Value::Null),
        // 3.x influxdb3_server http.rs ping.
        Kind::Three => {
            server.answer(200, &json!({ "version": "3.2.1", "revision": "abc", "process_id": "x" }))
        }
    }
}

async fn write(State(server): Shared, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let parameters = parameters(&uri);
    let gzip = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
    let mut text = String::new();
    if gzip {
        flate2::read::GzDecoder::new(body.as_ref()).read_to_string(&mut text).unwrap();
    } else {
        text = String::from_utf8(body.to_vec()).unwrap();
    }
    let lines = split_lines(&text).filter(|line| !line.is_empty()).count();
    let fault = {
        let mut stored = server.stored.lock();
        stored.requests.push(Request { uri, headers: headers.clone(), body: body.clone(), lines });
        stored.faults.pop_front().or_else(|| stored.always.clone())
    };
    if let Some(fault) = fault {
        tokio::time::sleep(fault.delay).await;
        if fault.store {
            server.write(&parameters, body.len(), &text);
        }
        if fault.status != 0 {
            let mut answer = server.text(fault.status, fault.body);
            for (name, value) in fault.headers {
                answer.headers_mut().insert(name, value.parse().unwrap());
            }
            return answer;
        }
    }
    if !server.allows(&headers) {
        return server.unauthorized();
    }
    server.write(&parameters, body.len(), &text)
}

impl Server {
    fn write(&self, parameters: &HashMap<String, String>, sent: usize, text: &str) -> Response {
        match self.settings.kind {
            Kind::One => self.write_1(parameters, sent, text),
            Kind::Two => self.write_2(parameters, text),
            Kind::Three => self.write_3(parameters, sent, text),
        }
    }

    /// Stores what can be stored of lines that parse: 1.x and 2.x share tsdb.
    fn store(&self, db: &str, lines: &[Line]) -> Option<String> {
        let mut stored = self.stored.lock();
        let (mut conflict, mut conflicts, mut outside) = (None, 0, 0);
        for line in lines {
            if line.time < self.settings.oldest {
                outside += 1;
            } else if let Some((field, kind, known)) = stored.conflict(db, line) {
                conflicts += 1;
                // Only the first is named: 1.6.7 measured, tsdb/shard.go validateSeriesAndFields.
                conflict.get_or_insert_with(|| {
                    format!(
                        "field type conflict: input field \"{field}\" on measurement \"{}\" is type {kind}, already exists as type {known}",
                        line.measurement
                    )
                });
            } else {
                stored.store(db, line);
            }
        }
        if let Some(conflict) = conflict {
            return Some(format!("partial write: {conflict} dropped={conflicts}"));
        }
        let words = match self.settings.kind {
            // 2.x v1/coordinator/points_writer.go.
            Kind::Two => format!("dropped {outside} points outside retention policy of duration 1h0m0s"),
            // 1.6.7 measured.
            _ => "points beyond retention policy".to_owned(),
        };
        (outside > 0).then(|| format!("partial write: {words} dropped={outside}"))
    }

    fn write_1(&self, parameters: &HashMap<String, String>, sent: usize, text: &str) -> Response {
        let db = parameters.get("db").cloned().unwrap_or_default();
        if db.is_empty() {
            // 1.x services/httpd/handler.go serveWrite.
            return self.error(400, "", "database is required");
        }
        if !self.stored.lock().databases.contains(&db) {
            // 1.6.7 measured.
            return self.error(404, "", &format!("database not found: \"{db}\""));
        }
        if sent > self.settings.max_body {
            // 1.6.7 measured: judged before decompression.
            return self.error(413, "", "Request Entity Too Large");
        }
        if let Some(policy) = parameters.get("rp").filter(|policy| *policy != "autogen") {
            // 1.6.7 measured: 500, not 404.
            return self.error(500, "", &format!("retention policy not found: {policy}"));
        }
        let (lines, unparsed) = apart(text);
        if lines.is_empty() && !unparsed.is_empty() {
            // 1.6.7 measured: no "partial write" if nothing parsed.
            return self.error(400, "", &repeated(&unparsed));
        }
        // 1.6.7 measured: a conflict hides what does not parse.
        if let Some(message) = self.store(&db, &lines) {
            return self.error(400, "", &message);
        }
        if !unparsed.is_empty() {
            // 1.6.7 measured: the good lines are stored, and the count does not count.
            return self.error(400, "", &format!("partial write: {} dropped=0", repeated(&unparsed)));
        }
        self.answer(204, &Value::Null)
    }

    fn write_2(&self, parameters: &HashMap<String, String>, text: &str) -> Response {
        let bucket = parameters.get("bucket").cloned().unwrap_or_default();
        if parameters.get("org").map(String::as_str) != Some("lab") {
            // 2.x http/write_handler.go, tenant/error_org.go.
            return self.error(404, "not found", "organization name \"x\" not found");
        }
        if !matches!(parameters.get("precision").map(String::as_str), Some("ns" | "us" | "ms" | "s")) {
            // 2.x http/write_handler.go decodeWriteRequest.
            return self.error(
                400,
                "invalid",
                "invalid precision; valid precision units are ns, us, ms, and s",
            );
        }
        if !self.stored.lock().databases.contains(&bucket) {
            // 2.x tenant/error_bucket.go.
            return self.error(404, "not found", &format!("bucket \"{bucket}\" not found"));
        }
        if text.len() > self.settings.max_body {
            // 2.x http/points/batch_reader.go: judged after decompression.
            return self.error(413, "request too large", "unable to read data: points batch is too large");
        }
        let (lines, unparsed) = apart(text);
        if !unparsed.is_empty() {
            // 2.x http/points/points_parser.go: nothing is stored.
            return self.error(400, "invalid", &repeated(&unparsed));
        }
        match self.store(&bucket, &lines) {
            // 2.x http/write_handler.go: the rest is stored.
            Some(message) => {
                let message = format!("failure writing points to database: {message}");
                self.error(422, "unprocessable entity", &message)
            }
            None => self.answer(204, &Value::Null),
        }
    }

    fn write_3(&self, parameters: &HashMap<String, String>, sent: usize, text: &str) -> Response {
        let db = parameters.get("db").cloned().unwrap_or_default();
        if sent > self.settings.max_body {
            // 3.x influxdb3_server http.rs RequestSizeExceeded.
            return self.text(413, format!("max request size ({} bytes) exceeded", self.settings.max_body));
        }
        if text.is_empty() {
            // 3.x influxdb3_server http.rs EmptyWrite.
            return self.text(400, "write buffer error: empty write".into());
        }
        let mut stored = self.stored.lock();
        stored.databases.insert(db.clone());
        let (mut refused, mut new) = (Vec::new(), HashSet::new());
        let mut good = Vec::new();
        for (number, line) in parse(text).into_iter().enumerate() {
            let mut refuse = |original: &str, message: String| {
                refused.push(
                    json!({ "original_line": original, "line_number": number + 1, "error_message": message }),
                );
            };
            match line {
                Err((line, why)) => refuse(&line, why),
                Ok(line) if line.time < self.settings.oldest => {
                    refuse(&line.series, "line is outside of the retention period".into());
                }
                Ok(line) => match stored.conflict(&db, &line) {
                    // 3.x influxdb3_write validator.rs.
                    Some((field, kind, known)) => refuse(
                        &line.series,
                        format!(
                            "invalid column type for column '{field}', expected iox::column_type::field::{known}, got iox::column_type::field::{kind}"
                        ),
                    ),
                    None if !stored.has_table(&db, &line.measurement)
                        && new.insert(line.measurement.clone())
                        && stored.tables(&db) + new.len() > self.settings.max_tables =>
                    {
                        // 3.x influxdb3_server http.rs CatalogError::TooManyTables: the whole request is refused.
                        let limit = self.settings.max_tables;
                        let message =
                            format!("Update to schema would exceed number of tables limit of {limit} tables");
                        return self.error(422, "", &message);
                    }
                    None => good.push(line),
                },
            }
        }
        // 3.x influxdb3_server http.rs ParseError and PartialWrite.
        if parameters.get("accept_partial").is_some_and(|accept| accept == "false") && !refused.is_empty() {
            let body = json!({ "error": "parsing failed for write_lp endpoint", "data": refused[0] });
            return self.answer(400, &body);
        }
        for line in &good {
            stored.store(&db, line);
        }
        if refused.is_empty() {
            return self.answer(204, &Value::Null);
        }
        self.answer(400, &json!({ "error": "partial write of line protocol occurred", "data": refused }))
    }
}

fn apart(text: &str) -> (Vec<Line>, Vec<(String, String)>) {
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for line in parse(text) {
        match line {
            Ok(line) => lines.push(line),
            Err(error) => wrong.push(error),
        }
    }
    (lines, wrong)
}

/// models/points.go ParsePointsWithPrecision: every line that does not parse is repeated.
fn repeated(unparsed: &[(String, String)]) -> String {
    let lines = unparsed.iter().map(|(line, why)| format!("unable to parse '{line}': {why}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// 1.x: only CREATE DATABASE.
async fn query(State(server): Shared, uri: Uri, headers: HeaderMap) -> Response {
    if !server.allows(&headers) {
        return server.unauthorized();
    }
    let statement = parameters(&uri).get("q").cloned().unwrap_or_default();
    let Some(name) = statement.strip_prefix("CREATE DATABASE \"").and_then(|rest| rest.strip_suffix('"'))
    else {
        // 1.6.7 measured: a statement that fails is answered with 200.
        return server.answer(200, &json!({ "results": [{ "statement_id": 0, "error": "not allowed" }] }));
    };
    server.stored.lock().databases.insert(name.to_owned());
    server.answer(200, &json!({ "results": [{ "statement_id": 0 }] }))
}

/// 2.x tenant/http_server_org.go.
async fn orgs(State(server): Shared, uri: Uri, headers: HeaderMap) -> Response {
    if !server.allows(&headers) {
        return server.unauthorized();
    }
    match parameters(&uri).get("org").map(String::as_str) {
        Some("lab") => server.answer(200, &json!({ "orgs": [{ "id": "00000000000000aa", "name": "lab" }] })),
        _ => server.error(404, "not found", "organization name \"x\" not found"),
    }
}

/// 2.x tenant/http_server_bucket.go.
async fn buckets(State(server): Shared, uri: Uri) -> Response {
    let name = parameters(&uri).get("name").cloned().unwrap_or_default();
    let found = server.stored.lock().databases.contains(&name);
    let list = if found { json!([{ "id": "00000000000000bb", "name": name }]) } else { json!([]) };
    server.answer(200, &json!({ "buckets": list }))
}

async fn make_bucket(State(server): Shared, headers: HeaderMap, body: Bytes) -> Response {
    if !server.allows(&headers) {
        return server.unauthorized();
    }
    let wanted: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(wanted["orgID"], "00000000000000aa");
    let name = wanted["name"].as_str().unwrap();
    server.stored.lock().databases.insert(name.to_owned());
    server.answer(201, &json!({ "id": "00000000000000bb", "name": name }))
}

/// 3.x influxdb3_server http.rs configure_database.
async fn make_database(State(server): Shared, body: Bytes) -> Response {
    let wanted: Value = serde_json::from_slice(&body).unwrap();
    let name = wanted["db"].as_str().unwrap().to_owned();
    if server.stored.lock().databases.insert(name) {
        return server.answer(200, &Value::Null);
    }
    server.answer(409, &json!({ "error": "attempted to create a resource that already exists" }))
}
