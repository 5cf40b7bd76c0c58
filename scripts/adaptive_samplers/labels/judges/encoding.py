"""Conversations as a judge's model reads them."""

from collections.abc import Sequence

from adaptive_samplers.config.model.judges import ModelJudgeSettings
from adaptive_samplers.errors import UserError
from adaptive_samplers.labels.judges.calls import Call, Continuation
from adaptive_samplers.models.chat_tokenizer import ChatTokenizer

Messages = list[dict[str, str]]


class ChatEncoder:
    """Turns conversations into token ids by the chat template of a judge's model.

    Parameters
    ----------
    tokenizer : ChatTokenizer
    settings : mapping
        The config's `labels.quality.judge`.
    """

    def __init__(self, tokenizer: ChatTokenizer, settings: ModelJudgeSettings) -> None:
        self.tokenizer = tokenizer.tokenizer
        self.name = settings.name
        if not self.tokenizer.chat_template:
            raise UserError(f"labels.quality.judge: the model '{self.name}' has no chat template; name one that has")

    def question(self, messages: Messages) -> Call:
        """A conversation up to where the model's reply begins."""
        return self._encode(messages, add_generation_prompt=True)

    def finished(self, messages: Messages) -> Call:
        """A conversation that ends with an answer."""
        return self._encode(messages, add_generation_prompt=False)

    def continuation(self, messages: Messages, reply: str) -> Call:
        """A conversation, and a reply of the model whose tokens are to be scored."""
        call = self.question(messages)
        if call.error is not None:
            return call
        asked = tuple(call.question)
        return Call(Continuation((*asked, *self.tokenizer.encode(reply, add_special_tokens=False)), len(asked)))

    def _encode(self, messages: Messages, **options: bool) -> Call:
        try:
            token_ids = self.tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        except Exception as error:  # a template is code from the model, and may raise anything
            return Call(error=f"the model's chat template refuses the conversation ({error})")
        return Call(token_ids)

    def label_ids(self, labels: Sequence[str]) -> list[int]:
        """The token of each label.

        Raises
        ------
        UserError
            If a label is not one token, or two labels begin with the same one.
        """
        found = []
        for label in labels:
            token_ids = self.tokenizer.encode(label, add_special_tokens=False)
            if len(token_ids) != 1:
                raise UserError(
                    f"labels.quality.judge.labels: '{label}' is {len(token_ids)} tokens of '{self.name}'; a label must "
                    "be one, as single letters are"
                )
            found += token_ids
        if len(set(found)) < len(found):
            raise UserError(f"labels.quality.judge.labels: {list(labels)} are the same token of '{self.name}'")
        return found
