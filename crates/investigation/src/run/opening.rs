//! What a run begins with: the functions, the prompts, and the card's own calls.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use sentinel_core::UnixMs;
use sentinel_core::redact::Redactor;

use super::{Session, Stop};
use crate::aside::aside;
use crate::conversation::Planned;
use crate::policy::Policy;
use crate::ports::{HostedServer, ToolDefinition, ToolError};
use crate::progress::Progress;
use crate::refusal::Refusal;
use crate::situation::Situation;
use crate::tools::{LIST_TIMEOUT, offer};
use crate::transcript::Opening;

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
        self.gather(situation, &policy, &listed).await?;
        listed.retain(|server, _| !is_hosted(server));
        let (mut offer, policy) = aside(|| {
            let offer = offer(card, &listed, redactor);
            let policy = Policy::new(card, rules, situation, &card.tools, &offer.specs);
            (offer, policy)
        })
        .await;
        let instructions = playbook.instructions().map_err(Stop::Fail)?;
        let now = self.now();
        let task = aside(|| playbook.task(situation, now)).await.unwrap_or_else(|reason| {
            offer.gaps.push(format!("The card's prompt could not be rendered for these alerts: {reason}."));
            "Find out what is behind the alerts below, and whether a person has to act.".to_owned()
        });
        for gap in &mut offer.gaps {
            *gap = redact(redactor, gap);
        }
        // Outputs that are stored before the first turn are the card's, also where it made more calls then.
        let stored = self.stored.outputs.keys().next_back().copied().unwrap_or(0);
        Ok(Opening {
            instructions,
            task: redact(redactor, &task),
            alert: redact(redactor, &situation.shown()),
            tools: offer.specs,
            hosted,
            gaps: offer.gaps,
            allowed: policy.offered().map(|t| (t.server.clone(), t.tool.clone())).collect(),
            evidence_calls: u32::try_from(card.evidence.len()).unwrap_or(u32::MAX).max(stored),
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
        let until = self.paid(0, LIST_TIMEOUT, LIST_TIMEOUT).await?;
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

    /// Makes the card's own calls. Their numbers are their places in the card.
    async fn gather(
        &mut self,
        situation: &Situation,
        policy: &Policy<'_>,
        listed: &Listed,
    ) -> Result<(), Stop> {
        let playbook = self.run.playbook;
        let now = self.now();
        let mut batch = Vec::new();
        for (index, call) in playbook.card().evidence.iter().enumerate() {
            let number = u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1);
            if self.stored.outputs.contains_key(&number) {
                continue;
            }
            let rendered = aside(|| playbook.arguments(index, call, situation, now)).await;
            let (arguments, refusal) = match rendered {
                Ok(arguments) => {
                    let refusal = match listed.get(&call.tool.server) {
                        Some(Err(reason)) => {
                            Some(Refusal::ServerOut { tool: call.tool.clone(), why: reason.clone() })
                        }
                        _ => policy.check_own(&call.tool, &arguments).err(),
                    };
                    (arguments, refusal)
                }
                Err(why) => {
                    let refusal = Refusal::NotRendered { tool: call.tool.clone(), why };
                    (call.arguments.clone(), Some(refusal))
                }
            };
            batch.push((
                Planned { number, turn: 0, tool: call.tool.clone(), arguments, given: None },
                refusal,
            ));
        }
        // They were listed a moment ago.
        self.call(batch, None).await
    }
}

fn redact(redactor: &Redactor, text: &str) -> String {
    redactor.redact(text).into_owned()
}
