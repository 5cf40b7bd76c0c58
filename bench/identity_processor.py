"""The baselines of the serving rows: processors that return their input, so that the server's own sampling draws."""


class IdentityProcessor:
    """Called by SGLang's server with the logits of the requests that carry it."""

    def __call__(self, logits, custom_param_list=None):
        return logits


def __getattr__(name):
    """vLLM's, whose base class is only there in its server."""
    if name != "VLLMIdentityProcessor":
        raise AttributeError(name)
    from vllm.v1.sample.logits_processor import LogitsProcessor

    class VLLMIdentityProcessor(LogitsProcessor):
        """Called by vLLM's first model runner with the logits of all requests."""

        def __init__(self, vllm_config, device, is_pin_memory):
            pass

        def is_argmax_invariant(self):
            return False

        def update_state(self, batch_update):
            pass

        def apply(self, logits):
            return logits

    return VLLMIdentityProcessor
