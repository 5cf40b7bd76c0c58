"""The one exception for what a user can put right."""


class UserError(Exception):
    """A mistake in input that a user can mend.

    The message names the file, key or row, says what was wrong with it and what to do. Scripts print it without a
    traceback (see `stage.run_stage`).
    """


class ConversationRefused(UserError):
    """A model's chat template cannot write a conversation out; others it may."""
