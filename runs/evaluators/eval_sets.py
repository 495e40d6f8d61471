"""What was expected: eval sets as Google ADK writes them, and which case a trace is for (CONTRACTS 1.4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from runs.evaluators.mistakes import first_mistake
from runs.traces import Group

Json = Any


class EvalSetError(ValueError):
    """The eval set is not one. The message is one sentence that says where and why."""


@dataclass(frozen=True, slots=True)
class ExpectedCall:
    """A tool call that should happen. `args` is None when the eval set does not give any."""

    name: str | None
    args: dict[str, Json] | None


@dataclass(frozen=True, slots=True)
class ExpectedTurn:
    """One turn as it should go. `final_text` is empty when no answer is given."""

    invocation_id: str
    user_text: str
    final_text: str
    tool_calls: tuple[ExpectedCall, ...]


@dataclass(frozen=True, slots=True)
class EvalCase:
    """A conversation as it should go; it has at least one turn."""

    id: str
    turns: tuple[ExpectedTurn, ...]


@dataclass(frozen=True, slots=True)
class EvalSet:
    """The cases that have a conversation."""

    id: str
    name: str
    cases: tuple[EvalCase, ...]

    @property
    def multi_turn(self) -> bool:
        """Whether a case has several turns, which makes groupBy `auto` mean conversations."""
        return any(len(case.turns) > 1 for case in self.cases)


@dataclass(frozen=True, slots=True)
class Match:
    """The case for a group and how it was found (explicit, user_text or single_case), or why none was."""

    case: EvalCase | None
    how: str = ""
    reason: str = ""


def parse_eval_set(raw: dict[str, Any] | None) -> EvalSet | None:
    """The eval set of a run, None for None. Raises EvalSetError. Keys may be snake_case or camelCase."""
    if raw is None:
        return None
    try:
        found = _EvalSet.model_validate(raw)
    except ValidationError as error:
        place, what = first_mistake(error)
        raise EvalSetError(f"not a valid eval set: {place or 'the whole'}: {what}") from error
    cases = (EvalCase(case.eval_id, tuple(map(_turn, case.conversation or ()))) for case in found.eval_cases)
    return EvalSet(found.eval_set_id, found.name or "", tuple(case for case in cases if case.turns))


def choose_case(group: Group, eval_set: EvalSet | None, *, only_group: bool) -> Match:
    """The case that a group is to be compared with; never a guess.

    `only_group` says that the document has no other group: with a single case, the two belong together.
    """
    if eval_set is None:
        return Match(None, reason="no eval set provided")
    if group.case_id:
        named = next((case for case in eval_set.cases if case.id == group.case_id), None)
        return Match(named, how="explicit") if named else Match(None, reason="no matching eval case")
    question = normalised(group.turns[0].user_text) if group.turns else ""
    same = [case for case in eval_set.cases if question and normalised(case.turns[0].user_text) == question]
    if len(same) > 1:  # cases that begin alike: the one with as many turns
        same = [case for case in same if len(case.turns) == len(group.turns)]
        if len(same) != 1:
            return Match(None, reason="ambiguous eval case")
    if same:
        return Match(same[0], how="user_text")
    if only_group and len(eval_set.cases) == 1:
        return Match(eval_set.cases[0], how="single_case")
    return Match(None, reason="no matching eval case")


def normalised(text: str) -> str:
    """A question as it is compared: without regard to case and white space."""
    return " ".join(text.split()).casefold()


# ADK's format. Unknown keys are refused where a misspelt one would silently mean "nothing expected".


def _text(value: Any) -> str:
    """pydantic's own str refuses lone surrogates, which agents' output has."""
    if not isinstance(value, str):
        raise ValueError("should be a text")
    return value


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("should be an object")
    return value


Text = Annotated[Any, BeforeValidator(_text)]
Object = Annotated[Any, BeforeValidator(_object)]


class _Open(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, loc_by_alias=False)


class _Closed(_Open):
    model_config = ConfigDict(extra="forbid")


class _FunctionCall(_Closed):
    name: Text | None = None
    args: Object | None = None
    id: Any = None
    partial_args: Any = None
    will_continue: Any = None


class _Part(_Open):
    text: Text | None = None
    function_call: _FunctionCall | None = None


class _Content(_Open):
    role: Any = None
    parts: list[_Part] | None = None


class _Event(_Open):
    content: _Content | None = None


class _IntermediateData(_Closed):
    tool_uses: list[_FunctionCall] = Field(default_factory=list)
    tool_responses: list[Object] = Field(default_factory=list)
    intermediate_responses: list[Any] = Field(default_factory=list)
    invocation_events: list[_Event] = Field(default_factory=list)


class _Invocation(_Closed):
    invocation_id: Text = ""
    user_content: _Content
    final_response: _Content | None = None
    intermediate_data: _IntermediateData | None = None
    creation_timestamp: Any = None
    duration: Any = None
    model_duration: Any = None
    tool_duration: Any = None
    rubrics: Any = None
    app_details: Any = None


class _EvalCase(_Open):
    eval_id: Text
    conversation: list[_Invocation] | None = None


class _EvalSet(_Open):
    eval_set_id: Text
    name: Text | None = None
    eval_cases: list[_EvalCase]


def _turn(invocation: _Invocation) -> ExpectedTurn:
    return ExpectedTurn(
        invocation_id=invocation.invocation_id,
        user_text="".join(_texts(invocation.user_content)),
        final_text="\n".join(_texts(invocation.final_response)),
        tool_calls=tuple(ExpectedCall(call.name, call.args) for call in _calls(invocation.intermediate_data)),
    )


def _texts(content: _Content | None) -> list[str]:
    return [part.text for part in (content.parts if content else None) or () if part.text]


def _calls(data: _IntermediateData | None) -> Sequence[_FunctionCall]:
    """ADK writes the calls as a list of their own, or among the events of the invocation."""
    if data is None:
        return ()
    parts = (part for event in data.invocation_events if event.content for part in event.content.parts or ())
    return data.tool_uses or [part.function_call for part in parts if part.function_call]
