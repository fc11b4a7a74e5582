//! What of the store a person should look at, with what becomes of it and what can be done.

use chrono::TimeDelta;

use crate::catalog::fault::BackupFault;
use crate::catalog::state::StoreState;
use crate::config::choices::Policy;
use crate::model::id::BackupId;
use crate::retention::{RetentionAction, RetentionDecision, RetentionPlan, Rule};

/// The problems of the store; of a backup whose data is no good with its fate and the next step.
pub fn problems(state: &StoreState, plan: &RetentionPlan, policy: &Policy) -> Vec<String> {
    let told = |problem: String| {
        let mut faults = state.faults();
        let fault = faults.find(|(id, fault)| fault.with_id(id) == problem);
        fault.map_or(problem.clone(), |(id, fault)| {
            format!("{problem}; {}", next(state, plan, policy, id, fault))
        })
    };
    state.problems().into_iter().map(told).collect()
}

fn next(
    state: &StoreState,
    plan: &RetentionPlan,
    policy: &Policy,
    id: &BackupId,
    fault: &BackupFault,
) -> String {
    let decision = plan.decisions.iter().find(|decision| decision.id == *id);
    let fate = match decision {
        // There will be nothing to bring back.
        Some(RetentionDecision { action: RetentionAction::Delete, .. }) => {
            return "it counts for nothing, and is old enough to go".into();
        }
        Some(RetentionDecision { rule: Rule::Days, .. }) => {
            let days = TimeDelta::try_days(policy.days.into());
            let date = days.and_then(|days| state.found(id).manifest.started_at.checked_add_signed(days));
            date.map(|date| format!(", and goes by its age after {}", date.format("%F"))).unwrap_or_default()
        }
        // The plan says why it stays.
        _ => String::new(),
    };
    let step = fault.next_step(id).map(|step| format!("; {step}")).unwrap_or_default();
    format!("it counts for nothing{fate}{step}")
}
