"""Redacts secrets from quoted logs."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSWD|ACCESS_KEY|API_KEY|CREDENTIAL)", re.IGNORECASE)
_PATTERNS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # user:password in an address
    re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"),
    # Hugging Face, GitHub, OpenAI and AWS tokens, and JSON web tokens, by their looks.
    re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|(?:AKIA|ASIA)[A-Z0-9]{16})\b"),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"),
    re.compile(r"(?i)(?<=\bbearer )[\w.+/=-]{16,}|(?<=\bbasic )[\w+/=-]{16,}"),
)
# What follows a word that announces a secret.
_ANNOUNCED = re.compile(
    r"""(?i)((?:password|passwd|secret|token|access_key|api_key|credential|signature)["']?\s?[=:]\s?["']?)"""
    r"""(?!\[hidden\])[^\s,;&'"]{4,}"""
)
_SHORTEST = 6


def without_secrets(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Replaces whatever is, or looks like, a secret.

    Args:
        text: Lines of a log.
        environment: Its variables with secret names hold secrets; default: this process's.

    >>> without_secrets("GET s3://me:pa55word@store failed: opensesame", {"AWS_SECRET_ACCESS_KEY": "opensesame"})
    'GET s3://[hidden]@store failed: [hidden]'
    """
    known = os.environ if environment is None else environment
    secrets = {value for name, value in known.items() if _SECRET_NAME.search(name) and len(value) >= _SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(_HIDDEN, text)
    return _ANNOUNCED.sub(rf"\1{_HIDDEN}", text)
