"""The baseline of the SGLang rows: a processor that returns its input, so that SGLang's own sampling draws."""


class IdentityProcessor:
    """Called by SGLang's server with the logits of the requests that carry it."""

    def __call__(self, logits, custom_param_list=None):
        return logits
