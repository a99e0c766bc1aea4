"""JSON Schemas of models, as components of an OpenAPI document.

Each dialect's models are named `dialect.Model`: two dialects may have an `Error` each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from .models import Model

__all__ = ["Components", "parameters_in"]

_PREFIX = "#/components/schemas/"


class _Generator(GenerateJsonSchema):
    """Omits titles, which would only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


class Components:
    """Collects the referenced schemas."""

    def __init__(self) -> None:
        self.schemas: dict[str, Any] = {}
        self._models: dict[str, type[BaseModel]] = {}

    def reference(self, dialect: str, model: type[BaseModel], *, is_sent: bool) -> dict[str, str]:
        """A reference to the model's schema, which is then here. `is_sent`: of a response, which omits fields
        without a value instead of sending null."""
        schema = _schema_of(model, f"{dialect}.", is_sent=is_sent)
        parts = schema.pop("$defs", {})
        for name, part in {**parts, model.__name__: schema}.items():
            full = f"{dialect}.{name}"
            assert self.schemas.setdefault(full, part) == part, f"two schemas are called {full}"
        return {"$ref": f"{_PREFIX}{dialect}.{model.__name__}"}

    def narrow(self, reference: Mapping[str, str], more: Mapping[str, Mapping[str, Any]]) -> None:
        """Adds the keywords `more` to the schemas of the fields with these names; a null alternative stays
        unchanged."""
        fields = self.schemas[reference["$ref"].removeprefix(_PREFIX)]["properties"]
        for name in fields.keys() & more.keys():
            for choice in fields[name].get("anyOf", [fields[name]]):
                if choice != {"type": "null"}:
                    choice.update(more[name])


def parameters_in(model: type[Model] | None, where: str) -> list[dict[str, Any]]:
    """The fields of a model as parameters of the `path`, the `query` or the `header`."""
    if model is None:
        return []
    schema = _schema_of(model, "", is_sent=True)
    assert "$defs" not in schema, f"{model.__name__}: a parameter must be an object"
    required = schema.get("required", ())
    found = []
    for name, field in schema["properties"].items():
        said = {"description": field.pop("description")} if "description" in field else {}
        if where == "query" and name not in required:
            said["allowEmptyValue"] = True  # it counts as absent
        found.append({"name": name, "in": where, "required": name in required, **said, "schema": field})
    return found


def _schema_of(model: type[BaseModel], prefix: str, *, is_sent: bool) -> dict[str, Any]:
    schema = model.model_json_schema(
        by_alias=True, ref_template=f"{_PREFIX}{prefix}{{model}}", schema_generator=_Generator
    )
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("title", None)
        absent = part.pop("x-absent", [])
        for name, field in part.get("properties", {}).items() if absent else ():
            if name not in part.get("required", ()):
                _or_absent(field, absent)
        if is_sent:
            for field in part.get("properties", {}).values():
                _without_null(field)
    return schema


def _or_absent(field: dict[str, Any], absent: list[Any]) -> None:
    """Allows these values, which count as absent, in the schema of the field."""
    said: dict[str, Any] = {name: field.pop(name) for name in ("description", "default") if name in field}
    choice = [known for known in field.pop("anyOf", [dict(field)]) if known != {"type": "null"}]
    field.clear()
    field.update({"anyOf": [*choice, {"enum": absent}], **said})


def _without_null(field: dict[str, Any]) -> None:
    """Removes null from the schema of a field that may be absent."""
    if "default" in field and field["default"] is None:
        del field["default"]
        choice = [known for known in field.pop("anyOf", ()) if known != {"type": "null"}]
        if len(choice) == 1:
            field.update({**choice[0], **field})
        elif choice:
            field["anyOf"] = choice
