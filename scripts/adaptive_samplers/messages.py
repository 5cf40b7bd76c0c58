"""Conversations: JSON lists of `{role, content}`, as the `prompts` table holds them."""

import json
from collections.abc import Mapping, Sequence


def question_of(messages: str) -> str:
    """The last user message of a conversation in JSON: what an answer should be relevant to."""
    return [message["content"] for message in json.loads(messages) if message["role"] == "user"][-1]


def written_out(messages: Sequence[Mapping[str, str]]) -> str:
    """A conversation as text: a single message as it is, otherwise each message under its role."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
