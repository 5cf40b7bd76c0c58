"""Conversations: JSON lists of `{role, content}`, as the `prompts` table holds them."""

import json


def question_of(messages: str) -> str:
    """The last thing the user said, of a conversation in JSON: what an answer should be relevant to."""
    return [message["content"] for message in json.loads(messages) if message["role"] == "user"][-1]
