//! Disks that are full or broken, and logs too small for their rows.

use std::fs::File;
use std::process::Command;

use super::*;

/// Runs one append through a writer whose segment 0 is really `device`, then a second append; gives both answers and
/// what a reader finds.
fn append_to(device: &str) -> (Error, Result<Position>, Vec<i64>) {
    let folder = tempfile::tempdir().unwrap();
    File::create(segments::path(folder.path(), 0)).unwrap();
    let end = Position { segment: 0, offset: segments::HEADER_BYTES };
    let queue = Arc::new(Queue::new());
    let appender = writer::Appender {
        folder: folder.path().to_owned(),
        options: LogOptions::default(),
        file: OpenOptions::new().write(true).open(device).unwrap(),
        reserve: Reserve::of(folder.path()),
        end,
        sealed: false,
        state: Arc::new(Mutex::new(State { end, bytes: end.offset })),
        queue: Arc::clone(&queue),
    };
    let thread = std::thread::spawn(move || appender.run());
    let append = async |number| {
        let frames = vec![frame::encode(&batch(number)).unwrap()];
        let (reply, answer) = oneshot::channel();
        let room = queue.room(1).await.unwrap();
        queue.push(Request { frames, reply, _room: room }).unwrap();
        answer.await.unwrap()
    };
    let (first, second) = runtime().block_on(async { (append(1).await, append(2).await) });
    queue.close();
    thread.join().unwrap();
    let numbers = read(folder.path(), Position::START).into_iter().map(|(_, number)| number).collect();
    (first.unwrap_err(), second, numbers)
}

#[test]
fn a_full_disk_is_capacity_and_the_log_goes_on_behind_it() {
    let (error, next, found) = append_to("/dev/full");
    assert_eq!(error.kind(), ErrorKind::Capacity, "{error}");
    assert_eq!(error.retry(), Retry::Later);
    assert_eq!(next.unwrap().segment, 1);
    assert_eq!(found, [2]);
}

#[test]
fn nothing_is_acknowledged_that_was_not_synced() {
    // It takes every byte but cannot sync.
    let (error, next, found) = append_to("/dev/null");
    assert!(error.to_string().contains("sync"), "{error}");
    assert_eq!(next.unwrap().segment, 1);
    assert_eq!(found, [2]);
}

/// Runs itself again in a process whose files cannot grow large: writes then stop in the middle of a frame, as they do
/// when the disk is full.
#[test]
fn a_half_written_frame_is_cut_off_again() {
    const FOLDER: &str = "BAROGRAPH_TEST_SMALL_FILES";
    let Some(folder) = std::env::var_os(FOLDER) else {
        let folder = tempfile::tempdir().unwrap();
        let name = "log::tests::disk::a_half_written_frame_is_cut_off_again";
        let output = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg(name)
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
        // The other process is gone: what it acknowledged, and nothing else, is still there.
        let (log, recovery) = Log::open(folder.path(), LogOptions::default()).unwrap();
        assert_eq!((recovery.truncated_bytes, recovery.corrupt_frames), (0, 0));
        assert_eq!(read(folder.path(), Position::START).last().map(|(end, _)| *end), Some(log.end()));
        return;
    };
    let folder = Path::new(&folder);
    let (log, _) = Log::open(folder, LogOptions::default()).unwrap();
    let runtime = runtime();
    let mut ends = Vec::new();
    let error = loop {
        match runtime.block_on(log.append(&[batch(6)])) {
            Ok(end) => ends.push((end, 6)),
            Err(error) => break error,
        }
    };
    assert_eq!(error.retry(), Retry::Later, "{error}");
    let file = segments::path(folder, 0);
    assert_eq!(fs::metadata(file).unwrap().len(), log.end().offset, "cut off to the last whole frame");
    assert_eq!(read(folder, Position::START), ends);
    ends.push((runtime.block_on(log.append(&[batch(7)])).unwrap(), 7));
    assert_eq!(read(folder, Position::START), ends);
    log.close().unwrap();
}

#[tokio::test]
async fn the_smallest_log_never_stays_full_once_all_is_trimmed() {
    let folder = tempfile::tempdir().unwrap();
    let frame = frame::encode(&batch(6)).unwrap().len();
    // Segments would be larger than the whole log, which has room for hardly two frames.
    let options = LogOptions { max_bytes: frame * 2, ..LogOptions::default() };
    let (log, _) = Log::open(folder.path(), options).unwrap();
    let mut last = Position::START;
    for n in 0..20 {
        let number = n * 7 + 6;
        let end = match log.append(&[batch(number)]).await {
            Ok(end) => end,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Capacity);
                assert!(log.bytes() <= options.max_bytes, "{}", log.bytes());
                log.trim(last).unwrap();
                log.append(&[batch(number)]).await.unwrap()
            }
        };
        assert!(end > last);
        assert_eq!(read(folder.path(), last), [(end, number)]);
        assert!(log.bytes() <= options.max_bytes, "{}", log.bytes());
        last = end;
    }
    let files = segments::list(folder.path()).unwrap();
    let bytes = |segment: &u64| fs::metadata(segments::path(folder.path(), *segment)).unwrap().len();
    assert_eq!(log.bytes(), files.iter().map(bytes).sum::<u64>());
}

#[tokio::test]
async fn what_can_never_fit_is_not_worth_another_try() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions { max_bytes: 1_000, ..LogOptions::default() };
    let (log, _) = Log::open(folder.path(), options).unwrap();
    let error = log.append(&[batch(6)]).await.unwrap_err();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Invalid, Retry::Never), "{error}");
}
