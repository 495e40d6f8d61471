"""What a person says of a run, in one form that pages share: stars by criterion, and a comment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from django import forms
from django.http import QueryDict

from runs.models import OVERALL, Criterion, Feedback

STARS = range(1, 6)
_COMMENT = 20_000  # characters


@dataclass(frozen=True, slots=True)
class Mark:
    """A row of stars. `rating` is what is chosen: as it was sent where the form comes back, else as kept."""

    key: str
    label: str
    description: str
    rating: int | None

    @property
    def name(self) -> str:
        """Of the field."""
        return field_of(self.key)

    @property
    def field_id(self) -> str:
        return "rate" if self.key == OVERALL else f"rate-{self.key}"


class MarksForm(forms.Form):
    """`rating` is the overall one, or that on the `criterion` that is named; `rating-<key>` are others.

    Something must be said: a rating or a comment.
    """

    comment = forms.CharField(
        required=False,
        max_length=_COMMENT,
        strip=True,
        error_messages={"max_length": f"A comment has at most {_COMMENT:,} characters: shorten it."},
    )

    def __init__(self, data: QueryDict, criteria: Iterable[Criterion], empty: str) -> None:
        """`criteria` are the owner's, retired ones as well; `empty` is said where nothing is."""
        super().__init__(data)
        self.given, self.empty = data, empty
        self.criteria = {one.key: one for one in criteria}
        self.about = data.get("criterion") or OVERALL
        for key in (OVERALL, *(key for key, one in self.criteria.items() if one.retired_at is None)):
            self.fields[field_of(key)] = _rating(self._label(key))

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        if self.about != OVERALL and self.about not in self.criteria:
            self.add_error(None, f"There is no criterion “{self.about[:100]}”.")
        elif self.about != OVERALL and self.criteria[self.about].retired_at is not None:
            self.add_error(None, f"“{self._label(self.about)}” is retired: it is not rated any more.")
        elif not self.errors and not self.says_something:
            self.add_error(None, self.empty)
        return cleaned

    @property
    def says_something(self) -> bool:
        return bool(self.ratings or self.words)

    @property
    def ratings(self) -> dict[str, int]:
        """By criterion; those that were given."""
        keys = {field_of(key): key for key in self.criteria} | {field_of(OVERALL): self.about}
        found = {key: self.cleaned_data.get(name) for name, key in keys.items()}
        return {key: rating for key, rating in found.items() if rating is not None}

    @property
    def words(self) -> str | None:
        """The comment; None where the form has no such field: then the comment that is there stays."""
        return self.cleaned_data.get("comment") if "comment" in self.given else None

    @property
    def wrong(self) -> str:
        """The first mistake in words; empty where there is none."""
        return next((str(errors[0]) for errors in self.errors.values()), "")

    def _label(self, key: str) -> str:
        return "Overall" if key == OVERALL else self.criteria[key].label


def marks(
    criteria: Sequence[Criterion], said: Mapping[str, Feedback], posted: QueryDict | None = None
) -> list[Mark]:
    """The rows of the form: overall, then each of `criteria`. What was sent wins over what is kept."""
    asked = [(OVERALL, "Overall", ""), *((one.key, one.label, one.description) for one in criteria)]
    return [Mark(*one, _sent(posted, one[0]) or _kept(said.get(one[0]))) for one in asked]


def comment_of(said: Mapping[str, Feedback], posted: QueryDict | None = None) -> str:
    if posted is not None and "comment" in posted:
        return str(posted["comment"])
    return said[OVERALL].comment if OVERALL in said else ""


def field_of(key: str) -> str:
    return "rating" if key == OVERALL else f"rating-{key}"


def _rating(label: str) -> forms.Field:
    return forms.TypedChoiceField(
        choices=[(str(number), str(number)) for number in STARS],
        coerce=int,
        empty_value=None,
        required=False,
        error_messages={"invalid_choice": f"{label}: a rating is a whole number from 1 to 5."},
    )


def _sent(posted: QueryDict | None, key: str) -> int | None:
    digit = posted.get(field_of(key), "") if posted is not None else ""
    return int(digit) if digit in {str(number) for number in STARS} else None


def _kept(said: Feedback | None) -> int | None:
    return said.rating if said else None
