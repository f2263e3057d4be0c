"""What every section of the settings has in common, and how a secret is referred to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr


class Section(BaseModel):
    """Unknown settings are refused; what was read does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _resolve_secret(reference: Any) -> Any:
    if isinstance(reference, SecretStr) or not isinstance(reference, str):
        return reference
    kind, _, rest = reference.partition(":")
    if kind == "env":
        value = os.environ.get(rest)
        if not value:
            raise ValueError(f"the environment variable {rest} is not set")
        return SecretStr(value.strip())
    if kind == "file":
        try:
            return SecretStr(Path(rest).read_text().strip())
        except OSError as exc:
            raise ValueError(f"cannot read {rest}: {exc.strerror}") from None
    raise ValueError("a secret is a reference, env:NAME or file:/path, never the secret itself")


#: ``env:NAME`` or ``file:/path``.
SecretRef = Annotated[SecretStr, BeforeValidator(_resolve_secret)]
