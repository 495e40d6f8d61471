"""How commands name an owner."""

from django.core.management.base import CommandError

from runs.models import Owner


def named_owner(name: str | None) -> Owner:
    """The owner of that name; without one, the only owner there is. Raises CommandError, which names them."""
    owners = list(Owner.objects.filter(name=name) if name else Owner.objects.all()[:2])
    if len(owners) == 1:
        return owners[0]
    names = ", ".join(Owner.objects.values_list("name", flat=True)[:20])
    raise CommandError(f"name the owner with --owner; there are: {names or 'none yet, start with make up'}")
