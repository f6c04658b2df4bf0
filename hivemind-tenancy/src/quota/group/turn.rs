//! Whose turn it is to work for all that wait. No I/O, no clock, no async.
//!
//! One at a time works. Whoever is done, or is dropped, passes the turn to another who waits; if nobody does, it lies
//! there for the next who comes. Nobody waits for a lock, so that thousands who wait cost no more than their places.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot::{self, Receiver, Sender};

use super::Flight;
use super::plan::{Answer, Ask};

/// What somebody who waits hears.
pub(super) enum Word {
    Answer(Answer),
    /// It is their turn; the rest is heard there. The order counts: who is gone must be seen to be gone when the turn
    /// is dropped.
    Turn(Receiver<Self>, Turn),
}

/// Somebody who waits.
pub(super) struct Waiting {
    pub(super) ask: Ask,
    pub(super) reply: Sender<Word>,
}

/// All that wait, and what is in flight.
pub(super) struct Line(Mutex<State>);

struct State {
    waiting: VecDeque<Waiting>,
    /// `None` while it is somebody's turn.
    flight: Option<Box<Flight>>,
}

/// The right to work, with what is in flight. Dropped, it is passed on.
pub(super) struct Turn {
    line: Arc<Line>,
    flight: Option<Box<Flight>>,
}

impl Line {
    pub(super) fn new(flight: Flight) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { waiting: VecDeque::new(), flight: Some(Box::new(flight)) })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to `ask`, and takes the turn if nobody has it.
    pub(super) fn join(self: &Arc<Self>, ask: Ask) -> (Receiver<Word>, Option<Turn>) {
        let (reply, heard) = oneshot::channel();
        let mut state = self.lock();
        state.waiting.push_back(Waiting { ask, reply });
        let flight = state.flight.take();
        drop(state);
        (heard, flight.map(|flight| Turn { line: Arc::clone(self), flight: Some(flight) }))
    }

    /// The next `most` who wait, first those that came first.
    pub(super) fn take(&self, most: usize) -> Vec<Waiting> {
        let mut state = self.lock();
        let most = most.min(state.waiting.len());
        state.waiting.drain(..most).collect()
    }

    /// How to tell the first who waits that it is their turn; without any, `flight` lies there for whoever comes.
    fn first(&self, flight: Box<Flight>) -> Option<(Box<Flight>, Sender<Word>, Receiver<Word>)> {
        let mut state = self.lock();
        match state.waiting.front_mut() {
            Some(first) => {
                let (old, heard) = renew(&mut first.reply);
                Some((flight, old, heard))
            }
            None => {
                state.flight = Some(flight);
                None
            }
        }
    }

    fn leave_out_first(&self) {
        let gone = self.lock().waiting.pop_front();
        drop(gone);
    }
}

/// Puts another end in place of `reply`; the one that was there, and where the other is heard.
fn renew(reply: &mut Sender<Word>) -> (Sender<Word>, Receiver<Word>) {
    let (new, heard) = oneshot::channel();
    (std::mem::replace(reply, new), heard)
}

impl Turn {
    pub(super) fn flight(&mut self) -> Option<&mut Flight> {
        self.flight.as_deref_mut()
    }

    /// Tells one who waits at the other end of `old`; gives the flight back if nobody does.
    fn offer(&self, flight: Box<Flight>, old: Sender<Word>, heard: Receiver<Word>) -> Option<Box<Flight>> {
        let turn = Self { line: Arc::clone(&self.line), flight: Some(flight) };
        match old.send(Word::Turn(heard, turn)) {
            Err(Word::Turn(_, mut turn)) => turn.flight.take(),
            _ => None,
        }
    }
}

impl Drop for Turn {
    /// No lock is held while somebody is told: to wake a task may be to drop it, and its turn with it.
    fn drop(&mut self) {
        let Some(mut flight) = self.flight.take() else { return };
        for number in 0..flight.replies.len() {
            let Some(reply) = flight.replies.get_mut(number) else { break };
            if reply.is_canceled() {
                continue;
            }
            let (old, heard) = renew(reply);
            match self.offer(flight, old, heard) {
                Some(back) => flight = back,
                None => return,
            }
        }
        while let Some((own, old, heard)) = self.line.first(flight) {
            match self.offer(own, old, heard) {
                Some(back) => flight = back,
                None => return,
            }
            self.line.leave_out_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use hivemind_core::{Principal, TenantContext, TenantRef};

    use super::super::plan::Operation;
    use super::*;

    fn ask(id: &str) -> Ask {
        let user = Principal::User("ada".parse().unwrap());
        let ctx = TenantContext::new(TenantRef::system(), user, "r".parse().unwrap());
        Ask { ctx, operation: Operation::Release(id.parse().unwrap()) }
    }

    fn turn(heard: &mut Receiver<Word>) -> Option<(Receiver<Word>, Turn)> {
        match heard.try_recv().unwrap()? {
            Word::Turn(rest, turn) => Some((rest, turn)),
            Word::Answer(_) => panic!("nobody answers here"),
        }
    }

    #[test]
    fn one_at_a_time_has_the_turn_and_whoever_is_gone_passes_it_on() {
        let line = Line::new(Flight::default());
        let (first, mine) = line.join(ask("a"));
        let (mut second, none) = line.join(ask("b"));
        let (mut third, _) = line.join(ask("c"));
        assert!(mine.is_some() && none.is_none());
        assert!(turn(&mut second).is_none(), "it is another's");
        // Gone before it was its turn: it is left out.
        drop(first);
        drop(mine);
        let (rest, its) = turn(&mut second).unwrap();
        drop((rest, its));
        let (mut rest, its) = turn(&mut third).unwrap();
        // Its own again, as nobody else waits.
        drop(its);
        let (rest, its) = turn(&mut rest).unwrap();
        // It was told, and did not listen any more.
        drop(its);
        drop(rest);
        let (_heard, mine) = line.join(ask("d"));
        assert!(mine.is_some(), "it lay there for whoever comes");
        assert_eq!(line.take(9).len(), 1, "who was gone waits no more");
    }

    #[test]
    fn a_turn_that_is_told_and_never_heard_is_not_lost() {
        let line = Line::new(Flight::default());
        let (first, mine) = line.join(ask("a"));
        let (second, _) = line.join(ask("b"));
        let (mut third, _) = line.join(ask("c"));
        drop(first);
        drop(mine);
        // It lies unheard in the second's hands.
        drop(second);
        assert!(turn(&mut third).is_some());
    }

    #[test]
    fn who_is_in_flight_comes_before_who_waits() {
        let line = Line::new(Flight::default());
        let (mut first, mine) = line.join(ask("a"));
        let (mut second, _) = line.join(ask("b"));
        let mut mine = mine.unwrap();
        for Waiting { ask, reply } in line.take(1) {
            let flight = mine.flight().unwrap();
            flight.asks.push(ask);
            flight.replies.push(reply);
        }
        drop(mine);
        assert!(turn(&mut second).is_none());
        assert!(turn(&mut first).is_some());
    }
}
