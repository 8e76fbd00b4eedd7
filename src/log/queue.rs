//! Appends that wait for the writer's thread, bounded by their bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Position;
use super::frame::Encoded;
use crate::Result;

/// Room is counted in these, for a semaphore counts in 32 bits.
const UNIT: usize = 1 << 10;
/// Units of frames that may be in memory at once, encoded or about to be.
const UNITS: u32 = 64 << 10;
/// A group is closed at this size, so that the first of it does not wait for too many others.
const GROUP_BYTES: u64 = 16 << 20;

/// The way from appending tasks to the writer's thread.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

/// An append that waits.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) frames: Vec<Encoded>,
    pub(super) reply: oneshot::Sender<Result<Position>>,
    /// Room in the queue, given back with the answer.
    pub(super) _room: Room,
}

/// Room for an append that is about to be encoded.
#[derive(Debug)]
pub(super) struct Room {
    _permit: OwnedSemaphorePermit,
}

/// The queue is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            more: Condvar::new(),
            room: Arc::new(Semaphore::new(UNITS as usize)),
        }
    }

    /// Waits for room for about so many bytes. What is larger than the whole queue gets all of it.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, Closed> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(UNITS).clamp(1, UNITS);
        let permit = Arc::clone(&self.room).acquire_many_owned(units).await.map_err(|_| Closed)?;
        Ok(Room { _permit: permit })
    }

    /// Hands a request over; never waits.
    pub(super) fn push(&self, request: Request) -> Result<(), Closed> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Closed);
        }
        waiting.requests.push_back(request);
        self.more.notify_one();
        Ok(())
    }

    /// Blocks until there are requests and takes those that wait, up to the size of a group; `None` once the queue is
    /// closed and empty.
    pub(super) fn take(&self) -> Option<Vec<Request>> {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            self.more.wait(&mut waiting);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while bytes < GROUP_BYTES
            && let Some(request) = waiting.requests.pop_front()
        {
            bytes += request.bytes();
            group.push(request);
        }
        Some(group)
    }

    /// Lets no more requests in, and fails those that wait for room; what was handed over can still be taken.
    pub(super) fn close(&self) {
        self.room.close();
        self.waiting.lock().closed = true;
        self.more.notify_all();
    }

    /// Closes and drops what was handed over: nobody is left to take it.
    pub(super) fn abandon(&self) {
        self.close();
        self.waiting.lock().requests.clear();
    }
}

impl Request {
    /// Bytes of all its frames.
    pub(super) fn bytes(&self) -> u64 {
        self.frames.iter().map(Encoded::len).sum()
    }

    /// Tells the caller, if it still waits.
    pub(super) fn answer(self, result: Result<Position>) {
        drop(self.reply.send(result));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn request(
        queue: &Queue,
        bytes: usize,
    ) -> Result<(Request, oneshot::Receiver<Result<Position>>), Closed> {
        let room = queue.room(bytes).await?;
        let (reply, answer) = oneshot::channel();
        Ok((Request { frames: Vec::new(), reply, _room: room }, answer))
    }

    #[tokio::test]
    async fn what_waits_is_taken_together() {
        let queue = Queue::new();
        for _ in 0..5 {
            queue.push(request(&queue, 100).await.unwrap().0).unwrap();
        }
        assert_eq!(queue.take().unwrap().len(), 5);
        queue.push(request(&queue, 100).await.unwrap().0).unwrap();
        queue.close();
        assert_eq!(queue.take().unwrap().len(), 1, "handed over before closing");
        assert!(queue.take().is_none());
        assert_eq!(request(&queue, 1).await.unwrap_err(), Closed);
    }

    #[tokio::test]
    async fn a_full_queue_makes_callers_wait_for_an_answer_given() {
        let queue = Queue::new();
        let (all, _answer) = request(&queue, usize::MAX).await.unwrap();
        let waits = tokio::time::timeout(Duration::from_millis(20), queue.room(1)).await;
        assert!(waits.is_err(), "there is no room");
        all.answer(Ok(Position::START));
        assert!(queue.room(1).await.is_ok());
    }

    #[tokio::test]
    async fn callers_hear_that_nobody_takes_any_more() {
        let queue = Queue::new();
        let (waiting, answer) = request(&queue, 1).await.unwrap();
        let (late, _) = request(&queue, 1).await.unwrap();
        queue.push(waiting).unwrap();
        queue.abandon();
        assert!(answer.await.is_err());
        assert!(queue.push(late).is_err());
    }
}
