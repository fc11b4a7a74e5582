//! Trying again at the start of a run what nobody else repeats: a name that is not resolved, a network that
//! is not there yet when cron wakes the machine.

use std::time::Duration;

/// The pauses before the second and the third try, at most.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// The answer of `work`, tried up to three times while its error may pass: `passing` says of one that may why
/// it came. Each time `tell` gets a line with `what` is tried.
pub async fn again<T, E, F: Future<Output = Result<T, E>>>(
    what: &str,
    tell: impl Fn(String),
    passing: impl Fn(&E) -> Option<String>,
    work: impl Fn() -> F,
) -> Result<T, E> {
    for pause in PAUSES {
        let answer = work().await;
        match answer.as_ref().err().and_then(&passing) {
            Some(why) => {
                tell(format!("tried once more to {what}, because {why}"));
                // Machines that begin at the same minute do not come back at the same second.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            }
            None => return answer,
        }
    }
    work().await
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn what_may_pass_is_tried_three_times() {
        for (fails, passing, tries, ends_well) in
            [(0, true, 1, true), (1, true, 2, true), (9, true, 3, false), (1, false, 1, false)]
        {
            let (tried, told, began) = (Cell::new(0), RefCell::new(Vec::new()), Instant::now());
            let answer = again(
                "look",
                |line| told.borrow_mut().push(line),
                |e: &String| passing.then(|| e.clone()),
                || async {
                    tried.set(tried.get() + 1);
                    if tried.get() > fails { Ok(()) } else { Err("nobody is there".to_string()) }
                },
            );
            assert_eq!((answer.await.is_ok(), tried.get()), (ends_well, tries));
            let told = told.into_inner();
            assert_eq!(told.len(), tries as usize - 1);
            assert!(told.iter().all(|line| line == "tried once more to look, because nobody is there"));
            let least = [0, 0, 500, 2500][tries as usize];
            assert!(began.elapsed().as_millis() >= least, "{:?}", began.elapsed());
        }
    }
}
