"""Reading the params of a request, in either spelling; what is unknown is passed over, as Bindu does."""

from uuid import UUID

from pydantic.alias_generators import to_camel

from runs.api.a2a.rpc import Unreadable
from runs.exact import Json

MOST = 2**31 - 1


class Params:
    """Each reader takes the snake_case name, and raises Unreadable, which says what stood there instead.

    `within` is where these stand, for the text of an error.
    """

    def __init__(self, given: dict[str, Json], within: str = "params") -> None:
        self._given = given
        self._within = within

    def uuid(self, name: str) -> UUID:
        value = self._value(name)
        try:
            if isinstance(value, str):
                return UUID(value)
        except ValueError:
            pass
        raise self._wrong(name, "a UUID")

    def optional_uuid(self, name: str) -> UUID | None:
        return None if self._value(name) is None else self.uuid(name)

    def text(self, name: str) -> str:
        value = self._value(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self._value(name) is None else self.text(name)

    def whole(self, name: str) -> int | None:
        """A whole number, or None where there is none."""
        value = self._value(name)
        if value is not None and type(value) is not int:
            raise self._wrong(name, "a whole number")
        return value

    def count(self, name: str) -> int | None:
        """The same, of things that can be counted."""
        value = self.whole(name)
        if value is not None and not 0 <= value <= MOST:
            raise self._wrong(name, f"a whole number from 0 to {MOST}")
        return value

    def flag(self, name: str) -> bool:
        value = self._value(name)
        if value is not None and type(value) is not bool:
            raise self._wrong(name, "true or false")
        return bool(value)

    def object(self, name: str) -> dict[str, Json]:
        value = self._value(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def optional_object(self, name: str) -> dict[str, Json] | None:
        return None if self._value(name) is None else self.object(name)

    def inner(self, name: str) -> "Params":
        return Params(self.object(name), f"{self._within}.{to_camel(name)}")

    def _value(self, name: str) -> Json:
        return self._given[name] if name in self._given else self._given.get(to_camel(name))

    def _wrong(self, name: str, expected: str) -> Unreadable:
        return Unreadable(f"{self._within}.{to_camel(name)} must be {expected}")
