"""Make `judge_pairs.jsonl`, the pairs on which the embedded Bradley-Terry judge is trained.

Every written answer in `judge_answers.jsonl` is paired with damaged forms of itself. The first four
corruptions follow from the seed alone:

    shuffled    the answer's words in another order
    other       the answer to another prompt
    truncated   cut in mid-sentence
    repeated    the first words of the answer again and again

The last two, `temperature_1.3` and `temperature_1.7`, are real samples of a language model at those
temperatures (in the shipped file: of the embedded default, SmolLM2-135M-Instruct):

    python resources/make_judge_pairs.py --model FOLDER  # a local Hugging Face folder; takes a few minutes
    python resources/make_judge_pairs.py                 # keeps the sampled rows that the file already has
"""

import argparse
import json
import random
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ANSWERS = FOLDER / "judge_answers.jsonl"
PAIRS = FOLDER / "judge_pairs.jsonl"
TEMPERATURES = [1.3, 1.7]
SEED = 20260101


def read_json_lines(path: Path) -> list[dict]:
    """The objects of a JSON lines file, or nothing where there is no file yet."""
    if not path.exists():
        return []
    # Not `splitlines`, which would also cut at the rare line separators that a hot model likes to sample.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def shuffle_words(answer: str, generator: random.Random) -> str:
    """The answer's words in another order, letter case and punctuation left on them."""
    words = answer.split()
    shuffled = list(words)
    while shuffled == words:
        generator.shuffle(shuffled)
    return " ".join(shuffled)


def truncate(answer: str, generator: random.Random) -> str:
    """The first 30 to 70 percent of the answer's words, ending without punctuation."""
    words = answer.split()
    kept = words[: max(3, round(len(words) * generator.uniform(0.3, 0.7)))]
    return " ".join(kept).rstrip(".,;:!?")


def repeat_phrase(answer: str, generator: random.Random) -> str:
    """The answer's first three to ten words, repeated to about the answer's length."""
    words = answer.split()
    phrase = words[: generator.randint(3, 10)]
    return " ".join(phrase * max(3, round(len(words) / len(phrase))))


def corrupt(rows: list[dict]) -> list[dict]:
    """The pairs of the four corruptions that need no model."""
    generator = random.Random(SEED)
    pairs = []
    for index, row in enumerate(rows):
        other = rows[(index + generator.randrange(1, len(rows))) % len(rows)]["answer"]
        rejected = {
            "shuffled": shuffle_words(row["answer"], generator),
            "other": other,
            "truncated": truncate(row["answer"], generator),
            "repeated": repeat_phrase(row["answer"], generator),
        }
        pairs += [_pair(row, text, corruption) for corruption, text in rejected.items()]
    return pairs


def sample(rows: list[dict], model_folder: str, max_new_tokens: int = 40, batch_size: int = 16) -> list[dict]:
    """One answer of the model to each prompt at each of `TEMPERATURES`, from the whole vocabulary."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder, padding_side="left", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32, local_files_only=True)
    model.eval()
    torch.manual_seed(SEED)
    pairs = []
    for temperature in TEMPERATURES:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            texts = [
                tokenizer.apply_chat_template(
                    [{"role": "user", "content": row["prompt"]}], tokenize=False, add_generation_prompt=True
                )
                for row in batch
            ]
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                tokens = model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=True,
                    temperature=temperature,
                    top_k=0,
                    top_p=1.0,
                )
            prompt_length = inputs["input_ids"].shape[1]
            answers = tokenizer.batch_decode(tokens[:, prompt_length:], skip_special_tokens=True)
            corruption = f"temperature_{temperature}"
            # An answer that ended at once has no text to judge.
            pairs += [
                _pair(row, text.strip(), corruption) for row, text in zip(batch, answers, strict=True) if text.strip()
            ]
            print(f"temperature {temperature}: {start + len(batch)} of {len(rows)} prompts", flush=True)
    return pairs


def _pair(row: dict, rejected: str, corruption: str) -> dict:
    return {"prompt": row["prompt"], "chosen": row["answer"], "rejected": rejected, "corruption": corruption}


def main() -> None:
    """Read the answers, make the pairs, write them."""
    parser = argparse.ArgumentParser(description="Make the training pairs of the embedded judge.")
    parser.add_argument("--model", help="a local Hugging Face folder to sample the high temperatures from")
    arguments = parser.parse_args()

    rows = read_json_lines(ANSWERS)
    if arguments.model:
        sampled = sample(rows, arguments.model)
    else:
        answers = {row["prompt"]: row["answer"] for row in rows}
        sampled = [
            pair
            for pair in read_json_lines(PAIRS)
            if pair["corruption"].startswith("temperature_") and answers.get(pair["prompt"]) == pair["chosen"]
        ]
    pairs = corrupt(rows) + sampled
    lines = "".join(json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs)
    PAIRS.write_text(lines, encoding="utf-8")
    print(f"{len(pairs)} pairs in {PAIRS.name}, {len(sampled)} of them sampled from a model")


if __name__ == "__main__":
    main()
