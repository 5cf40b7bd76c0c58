"""A tiny language model: a byte-level tokenizer trained on a few sentences, and a random Llama of two layers."""

from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from adaptive_samplers.hashing import content_number

SENTENCES = [
    "The river ran past the old mill and into the quiet valley.",
    "Two and two make four, and nobody in the village argued.",
    "Write a short poem about the sea, the wind and the stars.",
    "Nobody knew why the lantern burned all night at the window.",
]
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def weights_by_name(model: PreTrainedModel) -> None:
    """Give a tiny model weights that follow from their names alone, for outputs that are kept.

    What torch draws by a seed, and in which order transformers asks for it, may change with their versions.
    """
    for name, weight in model.state_dict().items():
        if weight.ndim == 2:
            # RandomState, as NumPy promises that its numbers stay.
            numbers = np.random.RandomState(content_number(name) % 2**32).uniform(-0.5, 0.5, weight.shape)
            weight.copy_(torch.from_numpy(numbers))


def write_tiny_model(folder: Path, context: int = 128, by_name: bool = False, head_dim: int = 8) -> None:
    """A model folder with some 400 tokens, two layers and a context of so many tokens; vLLM wants wider heads, 32."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_dim,
        max_position_embeddings=context,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20260101)
        model = LlamaForCausalLM(config)
        # As initialized, all tokens are about equally probable; this makes distributions peaked and flat ones.
        model.lm_head.weight.data.mul_(40)
    if by_name:
        weights_by_name(model)
        # So that some answers end by themselves.
        model.lm_head.weight.data[fast.eos_token_id].mul_(3)
    model.save_pretrained(folder)


def write_tiny_adapter(model_folder: Path, folder: Path) -> None:
    """A LoRA adapter of a tiny model, with weights that change what it says."""
    from peft import LoraConfig, get_peft_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        settings = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
        get_peft_model(LlamaForCausalLM.from_pretrained(model_folder), settings).save_pretrained(folder)
