"""Header fields as text, with case-insensitive names (RFC 9110 section 5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping


class Headers(MutableMapping[str, str]):
    """The fields of a request or response, built from a mapping or from pairs of str or bytes.

    `headers["Name"]` is the value of all fields of that name, joined with commas (RFC 9110 section 5.3); `get_all()`
    returns them separately, which Set-Cookie needs; `raw_items()` returns all fields in the order received. Setting a
    name adds a field; deleting a name removes all its fields.
    """

    __slots__ = ("_fields",)

    def __init__(
        self, fields: Mapping[str, str] | Iterable[tuple[bytes, bytes]] | Iterable[tuple[str, str]] = ()
    ) -> None:
        if isinstance(fields, Headers):
            fields = fields.raw_items()
        pairs = fields.items() if isinstance(fields, Mapping) else fields
        self._fields = [(_text(name), _text(value)) for name, value in pairs]

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields named `name`, in order."""
        lower = name.lower()
        return [value for each, value in self._fields if each.lower() == lower]

    def raw_items(self) -> list[tuple[str, str]]:
        """Return all fields as (name, value), in order."""
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


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
