//! What a run begins with: the functions, the prompts, and the card's own calls.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use sentinel_core::UnixMs;
use sentinel_core::redact::Redactor;

use super::{Session, Stop};
use crate::aside::aside;
use crate::conversation::Planned;
use crate::evidence::OwnCall;
use crate::playbook::PromptPlace;
use crate::policy::Policy;
use crate::ports::{HostedServer, ToolDefinition, ToolError};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::situation::Situation;
use crate::template::{Rendered, Unshown};
use crate::tools::{LIST_TIMEOUT, offer};
use crate::transcript::Opening;

/// For how many values one of the card's calls is made at most.
const MOST_VALUES: usize = 5;

type Listed = BTreeMap<String, Result<Vec<ToolDefinition>, String>>;

impl Session<'_> {
    /// Lists the tools, makes the card's calls that are not stored yet, and renders the prompts.
    pub(super) async fn open(&mut self, situation: &Situation) -> Result<Opening, Stop> {
        let playbook = self.run.playbook;
        let card = playbook.card();
        let redactor = self.run.redactor;
        let hosted = self.hosted_servers();
        let is_hosted = |server: &str| hosted.iter().any(|h| h.server == server);
        // The card's own calls are Sentinel's, also where the model's service makes the model's.
        let own = card.evidence.iter().map(|call| call.tool.server.as_str());
        let direct = card.tools.iter().map(|t| t.server.as_str()).filter(|server| !is_hosted(server));
        let mut listed = self.list(&direct.chain(own).collect()).await?;
        let rules = playbook.tool_rules();
        let policy = aside(|| {
            let specs = offer(card, &listed, redactor).specs;
            Policy::new(card, rules, situation, &card.tools, &specs)
        })
        .await;
        let not_made = self.gather(situation, &policy, &listed).await?;
        listed.retain(|server, _| !is_hosted(server));
        let (mut offer, policy) = aside(|| {
            let offer = offer(card, &listed, redactor);
            let policy = Policy::new(card, rules, situation, &card.tools, &offer.specs);
            (offer, policy)
        })
        .await;
        let instructions = playbook.instructions().map_err(Stop::Fail)?;
        offer.gaps.extend(not_made);
        let now = self.now();
        let Rendered { text: task, unshown } = aside(|| playbook.task(situation, now)).await;
        for what in &unshown {
            self.tell_unshown(what);
        }
        for gap in &mut offer.gaps {
            *gap = redact(redactor, gap);
        }
        // Outputs that are stored before the first turn are the card's.
        let stored = self.stored.outputs.keys().next_back().copied().unwrap_or(0);
        Ok(Opening {
            instructions,
            task: redact(redactor, &task),
            alert: redact(redactor, &situation.shown()),
            tools: offer.specs,
            hosted,
            gaps: offer.gaps,
            unshown: unshown.into_iter().collect(),
            allowed: policy.offered().map(|t| (t.server.clone(), t.tool.clone())).collect(),
            evidence_calls: stored,
        })
    }

    /// The card's servers that the model's service calls.
    fn hosted_servers(&self) -> Vec<HostedServer> {
        let (tools, first) = (&self.run.playbook.card().tools, &self.run.playbook.card().model);
        let servers: BTreeSet<&str> = tools.iter().map(|t| t.server.as_str()).collect();
        let hosted = servers.into_iter().filter_map(|server| {
            let label = self.run.model?.hosts(first, server)?;
            let tools = tools.iter().filter(|t| t.server == server).map(|t| t.tool.clone()).collect();
            Some(HostedServer { server: server.to_owned(), label, tools })
        });
        hosted.collect()
    }

    /// Asks servers for their tools. One that is down is a gap.
    async fn list(&mut self, servers: &BTreeSet<&str>) -> Result<Listed, Stop> {
        let card = self.run.playbook.card();
        if servers.is_empty() {
            return Ok(Listed::new());
        }
        let worked = self.worked;
        let until = self.paid(0, LIST_TIMEOUT, LIST_TIMEOUT).await?;
        // A list is not kept: a slice that only listed has done nothing yet.
        self.worked = worked;
        let session = &*self;
        let asked = servers.iter().map(|&server| async move {
            let answer = session.list_one(server, until).await?;
            session.tell(Progress::Listed {
                incident: session.id.clone(),
                server: server.to_owned(),
                tools: answer.as_ref().map_or(0, |tools| {
                    tools
                        .iter()
                        .filter(|d| card.tools.iter().any(|t| t.server == server && t.tool == d.tool))
                        .count()
                }),
                error: answer.as_ref().err().cloned(),
            });
            Ok((server.to_owned(), answer))
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Asks one server for its tools. The inner `Err` is why it did not say.
    pub(super) async fn list_one(
        &self,
        server: &str,
        until: UnixMs,
    ) -> Result<Result<Vec<ToolDefinition>, String>, Stop> {
        let within = until.since(self.now());
        match tokio::time::timeout(within, self.run.tools.list(server, within)).await {
            Ok(Ok(tools)) => Ok(Ok(tools)),
            // It is told, stored and shown in many places: what a server wrote is looked through once, here.
            Ok(Err(ToolError::RespondToModel(reason))) => Ok(Err(redact(self.run.redactor, &reason))),
            Ok(Err(ToolError::Fatal(reason))) => Err(Stop::Fail(reason)),
            Err(_) => Ok(Err(format!("no answer within {} s", within.as_secs()))),
        }
    }

    /// Tells of something that the card's prompt asked for and did not get.
    fn tell_unshown(&self, what: &Unshown) {
        let playbook = self.run.playbook;
        let (card, PromptPlace { file, before }) = (&playbook.card().name, playbook.prompt_place());
        let (line, variable) = (before.saturating_add(what.line), &what.variable);
        tracing::warn!(
            card,
            file = %file.display(),
            line,
            variable,
            reason = %what,
            "the card's prompt asks for something that is not there"
        );
        self.tell(Progress::Unshown {
            incident: self.id.clone(),
            card: card.clone(),
            file: file.clone(),
            line,
            variable: variable.clone(),
            reason: what.to_string(),
        });
    }

    /// Makes the card's own calls, those that are not stored yet, in the card's order. One that asks for something in which
    /// the alerts differ is made once for each of its values. Gives what of them is not made.
    async fn gather(
        &mut self,
        situation: &Situation,
        policy: &Policy<'_>,
        listed: &Listed,
    ) -> Result<Vec<String>, Stop> {
        let playbook = self.run.playbook;
        let now = self.now();
        let (mut batch, mut not_made) = (Vec::new(), Vec::new());
        let mut number = self.stored.outputs.keys().next_back().copied().unwrap_or(0);
        for (index, call) in playbook.card().evidence.iter().enumerate() {
            let place = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            let groups = aside(|| situation.by_value(playbook.asked(index))).await;
            if groups.len() > MOST_VALUES {
                not_made.push(format!(
                    "The card's call {place} ({}) asks for what differs between the alerts: it was made for {MOST_VALUES} of \
                     {} groups of them.",
                    call.tool,
                    groups.len()
                ));
            }
            for (of, group) in groups.into_iter().take(MOST_VALUES) {
                let own = OwnCall { place, of };
                if self.is_stored(&own) {
                    continue;
                }
                number = number.saturating_add(1);
                let rendered = aside(|| playbook.arguments(index, call, &group, now)).await;
                let (arguments, refusal) = match rendered {
                    Ok(arguments) => {
                        let refusal = match listed.get(&call.tool.server) {
                            Some(Err(reason)) => {
                                Some(Refusal::ServerOut { tool: call.tool.clone(), why: reason.clone() })
                            }
                            _ => policy.check_own(&call.tool, &arguments, &group).err(),
                        };
                        (arguments, refusal)
                    }
                    Err(why) => {
                        let (card, tool) = (&playbook.card().name, &call.tool);
                        tracing::warn!(card, call = place, %tool, reason = why, "a call of the card cannot be made");
                        (call.arguments.clone(), Some(Refusal::NotRendered { tool: tool.clone(), why }))
                    }
                };
                let (tool, own) = (call.tool.clone(), Some(own));
                batch.push((Planned { number, turn: 0, own, tool, arguments, given: None }, refusal));
            }
        }
        // They were listed a moment ago.
        self.call(batch, None).await?;
        Ok(not_made)
    }

    /// Whether a call of the card is stored. Records that do not say which one they are have its place as their number.
    fn is_stored(&self, own: &OwnCall) -> bool {
        self.stored.outputs.iter().any(|(number, output)| match &output.own {
            Some(stored) => stored == own,
            None => output.turn == 0 && *number == own.place,
        })
    }
}

fn redact(redactor: &Redactor, text: &str) -> String {
    redactor.redact(text).into_owned()
}
