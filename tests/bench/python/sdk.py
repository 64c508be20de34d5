"""The same investigation by the OpenAI Agents SDK, as a long-lived program would do it: one client and one connection to
the MCP server for all runs. Each line of standard input, `N URL`, runs N at once and is answered with the milliseconds."""

import asyncio
import json
import sys
import time
from pathlib import Path

from agents import Agent, OpenAIResponsesModel, Runner, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai import AsyncOpenAI

SYSTEM = (Path(__file__).resolve().parents[3] / "prompts/system.md.j2").read_text()
ALERT = {"alertname": "KubePodNotReady", "namespace": "shop"}


async def one(agent, n):
    task = f"Find out why the pod is not ready.\n\n{json.dumps(ALERT | {'pod': f'api-{n}'})}"
    result = await Runner.run(agent, task, max_turns=20)
    if "action_required" not in str(result.final_output):
        sys.exit(f"not a report: {result.final_output}")


async def main():
    set_tracing_disabled(True)
    print(json.dumps("ready"), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        many, url = line.split()
        began = time.perf_counter()
        client = AsyncOpenAI(base_url=f"{url}/v1", api_key="bench", max_retries=0)
        async with MCPServerStreamableHttp(params={"url": f"{url}/mcp", "timeout": 60},
                                           client_session_timeout_seconds=60) as server:
            model = OpenAIResponsesModel(model="gpt-6.1-terra", openai_client=client)
            agent = Agent(name="sentinel", instructions=SYSTEM, model=model, mcp_servers=[server])
            await asyncio.gather(*(one(agent, n) for n in range(int(many))))
            took = time.perf_counter() - began
        print(json.dumps({"ms": took * 1000}), flush=True)


asyncio.run(main())
