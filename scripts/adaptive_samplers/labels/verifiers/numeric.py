"""`numeric`: the number that an answer gives, as in GSM8K (Cobbe et al. 2021, arXiv 2110.14168)."""

import re
from decimal import Decimal

from adaptive_samplers.labels.verifiers.registry import Verdict, verifier

# A number as people write it: sign, currency, thousands separated by commas, decimals. The sign counts only
# where it cannot be a hyphen or a minus between two numbers, so "7-2" holds 7 and 2.
_NUMBER = r"(?<![\w.])[-−+]?[$€£]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])[-−+]?\.\d+|\d+(?:\.\d+)?"
ANSWER_MARK = re.compile(r"####|answer\s*(?:is|:|=)", re.IGNORECASE)


def final_number(answer: str, ground_truth: object = None) -> str | None:
    """The number that an answer gives, as text: equal numbers are the same text."""
    number = answer_number(answer)
    if number is None:
        return None
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


@verifier("numeric", final_answer=final_number)
def verify_number(answer: str, ground_truth: int | float | str) -> Verdict:
    """1 if the number that the answer gives equals the ground truth exactly, in decimal.

    The answer's number is the first one after the last `####` or "answer is" (after its last equals sign, if
    it has any), or else the last number of the text.
    """
    expected = decimal(str(ground_truth)) if isinstance(ground_truth, str) else Decimal(repr(ground_truth))
    found = answer_number(answer)
    if found is None:
        return 0.0, "no number in the answer"
    return float(found == expected), f"found {found}, expected {expected}"


def answer_number(answer: str) -> Decimal | None:
    """The number that an answer gives, if it has any."""
    stated = statement(answer)
    if stated is not None:
        # "The answer is 3 + 4 = 7": the result stands after the equals sign.
        number = re.search(_NUMBER, stated.rsplit("=", 1)[-1])
        if number:
            return decimal(number.group())
    numbers = re.findall(_NUMBER, answer)
    return decimal(numbers[-1]) if numbers else None


def statement(answer: str) -> str | None:
    """What follows the last `####` or "answer is", to the end of the line or sentence; None without such a mark."""
    marks = list(ANSWER_MARK.finditer(answer))
    if not marks:
        return None
    return re.split(r"\n|[.!?]\s", answer[marks[-1].end() :].lstrip(), maxsplit=1)[0]


def decimal(text: str) -> Decimal:
    """A number as people write it, exactly; ValueError if it is none."""
    if not re.fullmatch(r"\s*[-−+]?[$€£]?[\d,]*\.?\d+\s*", text):
        raise ValueError(f"'{text}' is not a number")
    return Decimal(re.sub(r"[,$€£\s]", "", text).replace("−", "-"))
