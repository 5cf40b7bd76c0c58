"""The exception for problems that a user can fix."""


class UserError(Exception):
    """A mistake in the input that a user can fix.

    The message names the file, key or row, says what was wrong with it and what to do. Scripts print it without a
    traceback (see `stage.run_stage`).
    """


class ConversationRefused(UserError):
    """A model's chat template cannot render this conversation, though it may render others."""
