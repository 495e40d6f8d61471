"""Finding the turns in a trace.

- A turn hangs on an anchor: an agent or workflow span that no agent, workflow or tool span encloses.
  An agent under a tool or under another agent works for that turn.
- A chain counts as a workflow when an agent is somewhere below it: a graph whose nodes are agents.
- Model calls under no such span belong to their root, which then anchors a turn without an agent.
- Model spans nested in each other with one innermost span are one call (a framework's span around
  the provider's). With several innermost ones, each of those is a call.
- Tool spans nested in each other with the same tool or call id are one call (a framework's span
  around MCP's client and server spans).
- What a delegate under a tool said is not the turn's answer; its tokens count all the same.

Walks keep their own stacks, so that no depth of nesting matters, and cost is linear.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from runs.traces.dialects import Usage, View, view_of
from runs.traces.messages import (
    calls_in,
    ends_with_tool_response,
    has_text,
    last_question,
    responses_in,
    text_of,
)
from runs.traces.model import Trace
from runs.traces.tool_uses import FAILED_BY_RESULT, ModelCall, ToolUse, complete_from_messages

_AGENTIC = ("agent", "workflow")


@dataclass(slots=True)
class Draft:
    """A turn on its way: what was found under its anchor, before continuations are joined."""

    trace_id: str
    span_id: str
    has_agent: bool
    agent_name: str
    conversation_id: str
    user: str
    question: str | None  # None when the telemetry does not have it, "" when it has no text
    answer: str | None
    calls: list[ModelCall]
    span_tools: list[ToolUse]
    usage: Usage | None  # the anchor's own account, None when its calls report theirs
    error: str | None
    start: int
    end: int
    tools: list[ToolUse] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Node:
    """A span's place: what encloses it."""

    view: View
    anchor: str
    enclosed: bool  # by an agent, a workflow or a tool
    under_tool: bool
    model_above: str  # the enclosing model span, if no agent or tool comes between
    tool_above: str  # the enclosing tool span, if no agent or model call comes between
    agent: str  # the nearest agent around it, itself included

    @property
    def span_id(self) -> str:
        return self.view.span.span_id

    @property
    def kind(self) -> str:
        return self.view.kind

    @property
    def speaker(self) -> str:
        return self.agent or (self.view.agent_name if self.kind in ("model", "tool") else "")


def drafts_of(trace: Trace) -> list[Draft]:
    """The turns of one trace, parents before children, each with its own calls and tools."""
    nodes = _places(trace)
    members: dict[str, list[_Node]] = {}
    for node in nodes.values():
        members.setdefault(node.anchor, []).append(node)
    return [_draft(nodes, turn) for turn in members.values() if _is_turn(turn)]


def join_continuations(drafts: Sequence[Draft]) -> list[Draft]:
    """One turn where the telemetry has several: each round of tool calls in a trace of its own, as
    instrumentations of a model's client alone record them. `drafts` are in order of start."""
    if len(drafts) == 1:  # as nearly always
        return [_finished(drafts[0])]
    joined: list[list[Draft]] = []
    last_call: ModelCall | None = None
    for draft in drafts:
        if joined and _continues(last_call, draft):
            joined[-1].append(draft)
        else:
            joined.append([draft])
            last_call = None
        last_call = max([*([last_call] if last_call else []), *draft.calls], key=_ended, default=None)
    return [_finished(_merged(parts)) for parts in joined]


# Places


def _places(trace: Trace) -> dict[str, _Node]:
    """Every span's node, parents before children and siblings in order of start."""
    views = _views(trace)
    nodes: dict[str, _Node] = {}
    todo: list[tuple[str, _Node | None]] = [(root, None) for root in reversed(trace.roots)]
    while todo:
        span_id, parent = todo.pop()
        node = nodes[span_id] = _place(views[span_id], parent)
        todo.extend((child, node) for child in reversed(trace.children.get(span_id, ())))
    return nodes


def _views(trace: Trace) -> dict[str, View]:
    views = {key: view_of(span, trace.logs.get(key, ())) for key, span in trace.spans.items()}
    models = [key for key, view in views.items() if view.kind == "model"]
    if trace.loose_logs and len(models) == 1:  # with several calls nobody can tell whose they are
        logs = [*trace.logs.get(models[0], ()), *trace.loose_logs]
        views[models[0]] = view_of(trace.spans[models[0]], logs)
    for key in _chains_of_agents(trace, views):
        views[key] = replace(views[key], kind="workflow")
    return views


def _chains_of_agents(trace: Trace, views: dict[str, View]) -> set[str]:
    """The chains with an agent somewhere below them. Linear: no span is passed twice on the way up."""
    passed: set[str] = set()
    parents = {child: parent for parent, children in trace.children.items() for child in children}
    for key, view in views.items():
        above = parents.get(key) if view.kind == "agent" else None
        while above is not None and above not in passed:
            passed.add(above)
            above = parents.get(above)
    return {key for key in passed if views[key].kind == "chain"}


def _place(view: View, parent: _Node | None) -> _Node:
    span_id = view.span.span_id
    enclosed = parent is not None and (parent.enclosed or parent.kind in (*_AGENTIC, "tool"))
    inherited = parent.agent if parent else ""
    return _Node(
        view=view,
        anchor=span_id if parent is None or (view.kind in _AGENTIC and not enclosed) else parent.anchor,
        enclosed=enclosed,
        under_tool=parent is not None and (parent.under_tool or parent.kind == "tool"),
        model_above=_model_above(parent),
        tool_above=_tool_above(parent),
        agent=(view.agent_name if view.kind in _AGENTIC else "") or inherited,
    )


def _model_above(parent: _Node | None) -> str:
    if parent is None or parent.kind in (*_AGENTIC, "tool"):
        return ""
    return parent.span_id if parent.kind == "model" else parent.model_above


def _tool_above(parent: _Node | None) -> str:
    if parent is None or parent.kind in (*_AGENTIC, "model"):
        return ""
    return parent.span_id if parent.kind == "tool" else parent.tool_above


def _is_turn(members: Sequence[_Node]) -> bool:
    """An anchor with nothing under it is no turn, unless it failed or says what was said."""
    anchor, kinds = members[0].view, {member.kind for member in members}
    if anchor.kind in _AGENTIC:
        return bool(kinds & {"model", "tool"} or anchor.inputs or anchor.outputs or anchor.failed)
    return "model" in kinds


# One turn


def _draft(nodes: dict[str, _Node], members: Sequence[_Node]) -> Draft:
    anchor = members[0].view
    calls = _model_calls(members)
    return Draft(
        trace_id=anchor.span.trace_id,
        span_id=anchor.span.span_id,
        has_agent=anchor.kind in _AGENTIC,
        agent_name=anchor.agent_name or _first([call.agent_name for call in calls]) or "",
        conversation_id=_first([member.view.conversation_id for member in members]) or "",
        user=_first([member.view.user for member in members]) or "",
        question=_question(anchor, calls),
        answer=_answer(anchor, calls),
        calls=calls,
        span_tools=_tool_uses(nodes, members),
        usage=None if any(call.usage for call in calls) else anchor.usage,
        error=_error(anchor),
        start=min([member.view.span.start for member in members]),
        end=max([member.view.span.end for member in members]),
    )


def _question(anchor: View, calls: Sequence[ModelCall]) -> str | None:
    if anchor.inputs:
        return text_of(last_question(anchor.inputs) or anchor.inputs)
    asked = text_of(last_question(_first([call.inputs for call in calls]) or []))
    return asked or text_of(last_question(anchor.heard)) or None


def _answer(anchor: View, calls: Sequence[ModelCall]) -> str | None:
    """The anchor's own word, else the last thing that the agent itself said."""
    if anchor.outputs:
        return text_of(anchor.outputs)
    own = [call for call in calls if not call.delegated] or calls
    speaking = [call for call in own if any(has_text(message) for message in call.outputs)]
    said = max(speaking, key=_ended).outputs if speaking else anchor.told
    return text_of(said) if said else None


def _error(view: View) -> str | None:
    if not view.failed:
        return None
    return view.span.status_message or view.exception or view.error_type or "failed without a message"


def _first[T](values: Iterable[T]) -> T | None:
    return next(filter(None, values), None)


# Model calls


def _model_calls(members: Sequence[_Node]) -> list[ModelCall]:
    """In order of start. `members` come parents first, which the counting relies on."""
    models = {member.span_id: member for member in members if member.kind == "model"}
    innermost: dict[str, int] = {}
    inner: dict[str, str] = {}  # the child of a span that has exactly one innermost span
    for span_id, node in reversed(models.items()):
        innermost.setdefault(span_id, 1)
        if node.model_above:
            innermost[node.model_above] = innermost.get(node.model_above, 0) + innermost[span_id]
            inner[node.model_above] = span_id
    calls = []
    for span_id, node in models.items():
        outermost = not node.model_above or innermost[node.model_above] > 1
        if innermost[span_id] == 1 and outermost:
            calls.append(_model_call(_chain(span_id, models, inner)))
    return sorted(calls, key=_began)


def _chain(outermost: str, models: dict[str, _Node], inner: dict[str, str]) -> list[_Node]:
    """From the innermost span outwards: what it says goes first."""
    chain = [models[outermost]]
    while (span_id := chain[-1].span_id) in inner:
        chain.append(models[inner[span_id]])
    return chain[::-1]


def _model_call(chain: Sequence[_Node]) -> ModelCall:
    views = [node.view for node in chain]
    return ModelCall(
        span_id=chain[0].span_id,
        agent_name=_first([chain[0].speaker, *(view.agent_name for view in views)]) or "",
        model=_first([view.request_model for view in views])
        or _first([v.response_model for v in views])
        or "",
        # The framework's account before the client's, which may tell more of it: a summary has agentevals'
        # figures, and it counts so (CONTRACTS 1.3).
        usage=_first([view.usage for view in reversed(views)]),
        system=_first([view.system for view in views]) or [],
        inputs=_first([view.inputs for view in views]) or [],
        outputs=_first([view.outputs for view in views]) or [],
        delegated=chain[0].under_tool,
        error=_first([_error(view) or (view.exception if view.model_failed else None) for view in views]),
        finish=_first([view.finish for view in views]) or "",
        start=min([view.span.start for view in views]),
        end=max([view.span.end for view in views]),
    )


def _began(call: ModelCall) -> tuple[int, int]:
    return call.start, call.end


def _ended(call: ModelCall) -> tuple[int, int]:
    return call.end, call.start


# Tools


def _tool_uses(nodes: dict[str, _Node], members: Sequence[_Node]) -> list[ToolUse]:
    """In order of start of their outermost spans."""
    outermost: dict[str, str] = {}
    chains: dict[str, list[View]] = {}
    for node in members:
        if node.kind == "tool":
            above = node.tool_above
            same = above in outermost and _same_use(nodes[above].view, node.view)
            outermost[node.span_id] = outermost[above] if same else node.span_id
            chains.setdefault(outermost[node.span_id], []).append(node.view)
    uses = [_tool_use(chain, nodes[span_id].speaker) for span_id, chain in chains.items()]
    return sorted(uses, key=lambda use: (use.start, use.span_id))


def _same_use(outer: View, inner: View) -> bool:
    """Same tool or same call id. Different ids say nothing: each layer has its own."""
    same_name = bool(outer.tool_name) and outer.tool_name == inner.tool_name
    return same_name or (bool(outer.tool_call_id) and outer.tool_call_id == inner.tool_call_id)


def _tool_use(views: Sequence[View], agent_name: str) -> ToolUse:
    span = views[0].span
    return ToolUse(
        name=_first([view.tool_name for view in views]) or _name_in(span.name),
        call_id=_first([view.tool_call_id for view in views]),
        arguments=_present([view.tool_arguments for view in views]),
        result=_present([view.tool_result for view in views]),
        error=_first([_error(view) for view in views]) or _told_error(views),
        agent_name=agent_name,
        span_id=span.span_id,
        start=span.start,
        end=span.end,
        input=_present([view.tool_input for view in views]),
        loose="gen_ai.operation.name" not in span.attributes,
    )


def _told_error(views: Sequence[View]) -> str | None:
    return FAILED_BY_RESULT if any(view.tool_failed for view in views) else None


def _name_in(span_name: str) -> str:
    """The tool in a span name such as "execute_tool search"; other names are taken whole."""
    words = span_name.split()
    return words[1] if len(words) > 1 and words[0] == "execute_tool" else span_name


def _present[T](values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


# Continuations


def _continues(last_call: ModelCall | None, draft: Draft) -> bool:
    """Whether the turn goes on where a model call had left it: with the results of the tools asked for."""
    if draft.has_agent or last_call is None or not draft.calls:
        return False
    inputs = draft.calls[0].inputs
    asked = calls_in(last_call.outputs)
    if not asked or not ends_with_tool_response(inputs):
        return False
    asked_ids = {part.call_id for part in asked if part.call_id}
    answered_ids = {part.call_id for part in responses_in(inputs) if part.call_id}
    return bool(asked_ids & answered_ids) if asked_ids and answered_ids else True


def _merged(parts: Sequence[Draft]) -> Draft:
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Draft(
        trace_id=first.trace_id,
        span_id=first.span_id,
        has_agent=first.has_agent,
        agent_name=_first(part.agent_name for part in parts) or "",
        conversation_id=_first(part.conversation_id for part in parts) or "",
        user=_first(part.user for part in parts) or "",
        question=_present(part.question for part in parts),
        answer=_present(part.answer for part in reversed(parts)),
        calls=sorted((call for part in parts for call in part.calls), key=_began),
        span_tools=[use for part in parts for use in part.span_tools],
        usage=_first(part.usage for part in parts),
        error=_first(part.error for part in parts),
        start=min(part.start for part in parts),
        end=max(part.end for part in parts),
    )


def _finished(draft: Draft) -> Draft:
    """With the tool calls that only the messages tell of."""
    draft.tools = complete_from_messages(draft.span_tools, draft.calls, draft.warnings)
    return draft
