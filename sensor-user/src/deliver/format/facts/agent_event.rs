//! Facts of an event about the agent itself.

use super::FactWriter;
use crate::schema::agent_event::AgentEvent;

pub(super) fn write(event: &AgentEvent, out: &mut FactWriter<'_>) {
    facts! { out;
        event.agent_id() => "", "", "unmapped.agent_id";
    }
    match event {
        AgentEvent::Loss(loss) => facts! { out;
            format!("lost {} {}: {}", loss.count, loss.kind, loss.reason)
                => "", "message", "message";
            out.time(loss.first_seen) => "", "event.start", "start_time";
            out.time(loss.last_seen) => "", "event.end", "end_time";
            loss.count => "", "netsensor.loss.count", "count";
            &loss.kind => "", "netsensor.loss.kind", "unmapped.kind";
            &loss.reason => "", "event.reason", "unmapped.reason";
            "loss" => "", "", "unmapped.event";
        },
        AgentEvent::Health(change) => facts! { out;
            format!("{} is {}", change.component, change.state) => "", "message", "message";
            &change.component => "", "netsensor.health.component", "unmapped.component";
            change.state => "", "netsensor.health.state", "unmapped.state";
            change.agent_state => "", "netsensor.health.agent_state", "unmapped.agent_state";
            &change.reason => "", "event.reason", "unmapped.reason";
            "health" => "", "", "unmapped.event";
        },
    }
}
