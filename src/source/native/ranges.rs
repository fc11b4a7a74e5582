//! The ranges of one collection, which several readers read at once.
//!
//! Bounds are record ids. The first range begins at the start of the collection, and each further one directly behind a bound; a
//! range ends with the record of the next bound, the last one at the end of the collection. So the ranges have every record
//! exactly once, whatever the types of the `_id`s are.

use std::sync::{Mutex, MutexGuard};

use super::cursor::{RecordId, Trail};

/// The ranges of a collection. At first there is one.
#[derive(Default)]
pub(super) struct Ranges(Mutex<State>);

#[derive(Default)]
struct State {
    /// The bounds, ascending.
    bounds: Vec<RecordId>,
    /// The place that the first reader has reached.
    reached: Option<RecordId>,
    /// The ranges that were given to readers, besides the first one.
    given: usize,
    /// The places that the reader of the last range has passed, when it has reached the end of the collection.
    last: Option<Trail>,
}

/// A range for a reader.
pub(super) struct Range {
    pub number: usize,
    /// The bounds up to the one behind which it begins, for the case that this one was deleted.
    pub before: Trail,
}

impl Ranges {
    /// Divides the part of the collection that the first reader has not reached, unless it has reached the end. Called once.
    pub fn divide(&self, mut bounds: Vec<RecordId>) {
        bounds.sort_by(|a, b| a.partial_cmp(b).expect("the ids of one collection have one kind"));
        bounds.dedup();
        let mut state = self.lock();
        if state.last.is_some() {
            return;
        }
        bounds.retain(|bound| state.reached.as_ref().is_none_or(|reached| bound > reached));
        state.bounds = bounds;
    }

    /// The next range that nobody reads; `None` if all were given away.
    pub fn next(&self) -> Option<Range> {
        let mut state = self.lock();
        let bound = state.given;
        if bound >= state.bounds.len() {
            return None;
        }
        state.given += 1;
        let mut before = Trail::default();
        state.bounds[..=bound].iter().for_each(|bound| before.push(bound.clone()));
        Some(Range { number: bound + 1, before })
    }

    /// Notes that the reader of range `number` has reached this place. Returns the end of the range if it lies before or at the
    /// place.
    pub fn reach(&self, number: usize, place: &RecordId) -> Option<RecordId> {
        let mut state = self.lock();
        if number == 0 {
            state.reached = Some(place.clone());
        }
        state.bounds.get(number).filter(|end| place >= *end).cloned()
    }

    /// Notes the end of range `number`, and the places that its reader has passed.
    pub fn complete(&self, number: usize, trail: Trail) {
        let mut state = self.lock();
        if number == state.bounds.len() {
            state.last = Some(trail);
        }
    }

    /// The places that the reader of the last range has passed. `None` if there is one range.
    pub fn last(&self) -> Option<Trail> {
        let mut state = self.lock();
        if state.bounds.is_empty() { None } else { state.last.take() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }
}

/// The number of documents of a batch that lie in a range that ends with `end`: the batch begins behind `before`, ends with the
/// record `last`, and has this many documents. `None` if the ids have gaps, so that they must be asked for.
pub(super) fn within(
    before: Option<&RecordId>,
    last: &RecordId,
    end: &RecordId,
    documents: usize,
) -> Option<usize> {
    if last == end {
        return Some(documents);
    }
    match (before, last, end) {
        (Some(RecordId::Number(before)), RecordId::Number(last), RecordId::Number(end)) => {
            // As many documents as ids: every id has its document.
            let ids = last.checked_sub(*before)?;
            (ids == documents as i64).then(|| (end - before).clamp(0, ids) as usize)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(n: i64) -> RecordId {
        RecordId::Number(n)
    }

    #[test]
    fn only_what_the_first_reader_has_not_reached_is_divided() {
        let ranges = Ranges::default();
        assert!(ranges.next().is_none() && ranges.last().is_none());
        assert_eq!(ranges.reach(0, &number(20)), None);
        ranges.divide([40, 10, 30, 20, 30].map(number).into());
        assert_eq!(ranges.reach(0, &number(29)), None);
        assert_eq!(ranges.reach(0, &number(30)), Some(number(30)));
        let (one, two) = (ranges.next().unwrap(), ranges.next().unwrap());
        assert_eq!((one.number, one.before.last().cloned()), (1, Some(number(30))));
        assert_eq!((two.number, two.before.last().cloned()), (2, Some(number(40))));
        assert!(ranges.next().is_none());
        assert_eq!(ranges.reach(1, &number(55)), Some(number(40)));
        assert_eq!(ranges.reach(2, &number(55)), None);
        ranges.complete(1, Trail::default());
        assert!(ranges.last().is_none());
        ranges.complete(2, two.before);
        assert_eq!(ranges.last().unwrap().last(), Some(&number(40)));
        // Records behind the end are new, and the first reader's own.
        let ended = Ranges::default();
        ended.complete(0, Trail::default());
        ended.divide([10, 20].map(number).into());
        assert!(ended.next().is_none() && ended.last().is_none());
    }

    #[test]
    fn a_batch_without_gaps_is_trimmed_and_one_with_gaps_is_not() {
        for (before, last, end, documents, want) in [
            (Some(10), 20, 15, 10, Some(5)),
            (Some(10), 20, 20, 10, Some(10)),
            (Some(10), 20, 15, 9, None),
            (None, 20, 15, 20, None),
            (Some(10), 20, 5, 10, Some(0)),
            (Some(i64::MIN), i64::MAX, 0, 9, None),
        ] {
            assert_eq!(within(before.map(number).as_ref(), &number(last), &number(end), documents), want);
        }
        let key = |n| RecordId::Key(vec![n]);
        assert_eq!(within(Some(&key(1)), &key(9), &key(9), 3), Some(3));
        assert_eq!(within(Some(&key(1)), &key(9), &key(5), 3), None);
    }

    proptest! {
        /// Readers that read batches of any size from the ranges of any records read each record once, if every batch that
        /// crosses a bound is trimmed.
        #[test]
        fn ranges_have_every_record_once(
            records in proptest::collection::btree_set(1_i64..400, 1..120),
            bounds in proptest::collection::vec(0_usize..120, 0..12),
            sizes in proptest::collection::vec(1_usize..30, 40),
        ) {
            let records: Vec<i64> = records.into_iter().collect();
            let bounds = bounds.into_iter().filter_map(|n| records.get(n)).map(|n| number(*n));
            let ranges = Ranges::default();
            ranges.divide(bounds.collect());
            let (mut seen, mut sizes) = (Vec::new(), sizes.iter().cycle());
            let mut range = Some(Range { number: 0, before: Trail::default() });
            while let Some(Range { number: at, before }) = range {
                let mut before = before.last().cloned();
                loop {
                    let from = records.partition_point(|n| before.as_ref().is_some_and(|b| number(*n) <= *b));
                    let batch = &records[from..(from + sizes.next().unwrap()).min(records.len())];
                    let Some(last) = batch.last().map(|n| number(*n)) else { break };
                    let end = ranges.reach(at, &last);
                    let exact = end.as_ref().map_or(batch.len(), |end| batch.partition_point(|n| number(*n) <= *end));
                    if let Some(end) = &end
                        && let Some(kept) = within(before.as_ref(), &last, end, batch.len())
                    {
                        prop_assert_eq!(kept, exact);
                    }
                    seen.extend_from_slice(&batch[..exact]);
                    if end.is_some() { break }
                    before = Some(last);
                }
                range = ranges.next();
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, records);
        }
    }
}
