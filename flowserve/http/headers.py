"""Header fields as text; names are case-insensitive (RFC 9110 section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping


class Headers(MutableMapping[str, str]):
    """The header fields of a request or response: a mutable mapping from case-insensitive names to values.

    `Headers(fields)` takes a mapping, or pairs (name, value) of str or of bytes, which are decoded as Latin-1.

    `headers["Name"]` joins the values of all fields with that name by ", " (RFC 9110 section 5.3) and raises KeyError
    if there is none. `headers["Name"] = value` adds a field and keeps those of the same name; to replace them, delete
    them first: `del headers["Name"]` removes all fields with that name, if any. Iteration gives each name once, in
    lower case, and `len()` counts these names.
    """

    __slots__ = ("_fields",)

    def __init__(
        self, fields: Mapping[str, str] | Iterable[tuple[bytes, bytes]] | Iterable[tuple[str, str]] = ()
    ) -> None:
        if isinstance(fields, Headers):
            fields = fields.raw_items()
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._fields = [(_to_str(name), _to_str(value)) for name, value in pairs]

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields called `name`, in order; an empty list if there is none. Set-Cookie needs it,
        as its values cannot be joined."""
        lower = name.lower()
        return [value for each, value in self._fields if each.lower() == lower]

    def raw_items(self) -> list[tuple[str, str]]:
        """Return all fields as pairs (name, value), in their order and with the names as they were given."""
        return list(self._fields)

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        self._fields.append((name, value))

    def __delitem__(self, name: str) -> None:
        lower = name.lower()
        self._fields = [(each, value) for each, value in self._fields if each.lower() != lower]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.lower() for name, _ in self._fields))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


def _to_str(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
