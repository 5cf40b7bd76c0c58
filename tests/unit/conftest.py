"""A config to change, and a tiny language model: a byte-level tokenizer trained on a few sentences, a random Llama."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adaptive_samplers.models.language_model import LanguageModel
from support import read_config

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


@pytest.fixture
def good_config() -> dict[str, Any]:
    """The default config, as it is written."""
    return read_config("config.yaml")


@pytest.fixture
def config_folder(tmp_path: Path) -> Path:
    """A base folder in which every file exists that the configs name."""
    for name in ("resources/prompts.jsonl", "resources/judge_pairs.jsonl", "data/corpus.txt", "sampler/config.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with some 400 tokens, two layers and a context of 128."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
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
        max_position_embeddings=128,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20260101)
        model = LlamaForCausalLM(config)
        # As initialized, all tokens are about equally probable; this makes distributions peaked and flat ones.
        model.lm_head.weight.data.mul_(40)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_model_folder: Path) -> LanguageModel:
    """The tiny model, loaded; nothing may change it."""
    return LanguageModel(tiny_model_folder, device="cpu")
