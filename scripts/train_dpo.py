"""Train a policy with TRL's DPO (Rafailov et al., 2023), as an iteration of `snakemake iterations` does.

    python scripts/train_dpo.py --data pairs.jsonl --model folder --output folder [--seed 0 ...]

A thin script to use as it is or to copy: it reads the format `trl_preference` and saves safetensors. On one CPU or GPU
the same input gives the same bytes. Several GPUs: `accelerate launch scripts/train_dpo.py ...`.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="JSON lines with prompt, chosen and rejected messages")
    parser.add_argument("--model", type=Path, required=True, help="folder of the policy to train")
    parser.add_argument("--reference", type=Path, help="folder of the reference model; left out, the policy itself")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--batch-size", type=int, default=8, help="pairs of a step, on each device")
    parser.add_argument("--accumulate", type=int, default=1, help="steps whose gradients are summed before an update")
    parser.add_argument("--learning-rate", type=float, default=5e-7)
    parser.add_argument("--warmup", type=float, default=0.1, help="share of the updates")
    parser.add_argument("--beta", type=float, default=0.1, help="how strongly the policy is held to the reference")
    parser.add_argument("--max-length", type=int, default=1024, help="tokens of a prompt with its answer")
    parser.add_argument("--bf16", action="store_true", help="matrix products in bfloat16; weights stay float32")
    parser.add_argument("--lora-rank", type=int, default=0, help="train and save a LoRA adapter; 0: all weights")
    return parser.parse_args(arguments)


def main(arguments: argparse.Namespace) -> None:
    """Train, and save the model, or the adapter, with its tokenizer."""
    # Before CUDA is loaded: without it, its matrix products may differ from one run to the next.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    torch.use_deterministic_algorithms(True, warn_only=True)
    # In bfloat16, updates as small as these would be rounded away.
    options = {"dtype": "float32", "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, local_files_only=True)
    reference = None
    if arguments.reference is not None:
        reference = AutoModelForCausalLM.from_pretrained(arguments.reference, **options)
    with tempfile.TemporaryDirectory() as scratch:
        settings = DPOConfig(
            output_dir=scratch,
            seed=arguments.seed,
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch_size,
            gradient_accumulation_steps=arguments.accumulate,
            learning_rate=arguments.learning_rate,
            warmup_steps=arguments.warmup,
            beta=arguments.beta,
            max_length=arguments.max_length,
            bf16=arguments.bf16,
            model_init_kwargs=options,
            save_strategy="no",
            report_to="none",
            logging_steps=1,
        )
        trainer = DPOTrainer(
            model=str(arguments.model),
            ref_model=reference,
            args=settings,
            train_dataset=Dataset.from_list(read_pairs(arguments.data)),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=arguments.lora_rank, task_type="CAUSAL_LM") if arguments.lora_rank else None,
        )
        trainer.train()
        # Switched off by gradient checkpointing; in the saved config it would slow down whoever samples.
        trainer.model.config.use_cache = True
        trainer.save_model(str(arguments.output))
    if trainer.is_world_process_zero():
        # A pickle with this machine's paths, which nobody needs.
        (arguments.output / "training_args.bin").unlink(missing_ok=True)


def read_pairs(path: Path) -> list[dict]:
    """The pairs, without the scores, which DPO does not look at."""
    with open(path, encoding="utf-8") as file:
        return [{key: row[key] for key in ("prompt", "chosen", "rejected")} for row in map(json.loads, file)]


if __name__ == "__main__":
    main(parsed())
